"""Every Python block of the README and of the documentation runs as it is written.

The blocks of a page are one program: they run in order, in one namespace, and may await. A block
with a title is a file beside that program: `test_*.py` is run by pytest, any other can be imported.
Only the server's address and the database's name are put in place of those that are written.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from pymongo import MongoClient

from bluestreak_core import Bluestreak
from bluestreak_mongo import MongoStore

pytestmark = pytest.mark.usefixtures("unmeasured")

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
URL = "mongodb://localhost:27017"
DATABASE = '"myapp"'
TIMEOUT = 300
"""Only ends what hangs: the suite of a store takes minutes on a loaded machine."""

BLOCK = re.compile(
    r'^```(?:python|{\.python)(?: title="(?P<title>[\w.]+)")?}?\n(?P<code>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
FENCED = re.compile(r"^```[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COLUMNS = 80
"""So much of a line can be seen on a page of the site."""

SNIPPET = re.compile(r'^--8<-- "(?P<path>[^"]+)"$', re.MULTILINE)
PYTEST = ["pytest", "-q", "-pno:cacheprovider", "-oasyncio_default_fixture_loop_scope=function"]

RUN_PAGE = """\
import ast, asyncio, inspect, pathlib, sys
source, name = pathlib.Path(sys.argv[1]).read_text(), sys.argv[2]
code = compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
result = eval(code, {"__name__": "__main__"})
if inspect.iscoroutine(result):
    asyncio.run(result)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page's program and files, in a folder of their own."""

    folder: Path
    program: str
    files: dict[str, str]

    def run(self, *command: str) -> None:
        """Run Python in the page's folder; warnings are errors."""
        ran = subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "Exception ignored" not in ran.stderr


def read(path: Path, folder: Path, url: str, database: str) -> Page:
    text = SNIPPET.sub(lambda snippet: (ROOT / snippet["path"]).read_text(), path.read_text())
    text = text.replace(URL, url).replace(DATABASE, f'"{database}"')
    blocks = list(BLOCK.finditer(text))
    titles = {block["title"] for block in blocks} - {None}
    files = {title: _lines_of([b for b in blocks if b["title"] == title]) for title in titles}
    for name, code in files.items():
        (folder / name).write_text(code)
    program = _lines_of([block for block in blocks if block["title"] is None])
    return Page(folder=folder, program=program, files=files)


def _lines_of(blocks: list[re.Match[str]]) -> str:
    """The code of some blocks, each on the lines that it has in the page."""
    code = ""
    for block in blocks:
        code += "\n" * (block.string.count("\n", 0, block.start("code")) - code.count("\n"))
        code += block["code"]
    return code


@pytest.fixture
def database(mongodb_url: str) -> Iterator[str]:
    """The name of a database that is dropped afterwards."""
    name = f"docs-{uuid4().hex[:12]}"
    yield name
    with MongoClient[dict[str, object]](mongodb_url) as client:
        client.drop_database(name)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_python_block_is_one_that_is_run(path: Path) -> None:
    text = path.read_text()
    assert len(BLOCK.findall(text)) == len(re.findall(r"``` *\{?\.?py", text))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_no_line_of_a_block_is_cut_on_the_site(path: Path) -> None:
    text = SNIPPET.sub(lambda snippet: (ROOT / snippet["path"]).read_text(), path.read_text())
    lines = [line for block in FENCED.finditer(text) for line in block["text"].splitlines()]
    assert [line for line in lines if len(line) > COLUMNS] == []


@pytest.mark.timeout(2 * TIMEOUT)
@pytest.mark.parametrize(
    "path", [path for path in PAGES if BLOCK.search(path.read_text())], ids=lambda path: path.name
)
def test_the_blocks_of_a_page_run(
    path: Path, tmp_path: Path, mongodb_url: str, database: str
) -> None:
    page = read(path, tmp_path, mongodb_url, database)
    tests = sorted(name for name in page.files if name.startswith("test_"))
    if modules := sorted(page.files.keys() - tests):
        page.run("-m", "py_compile", *modules)
    if tests:
        page.run("-m", *PYTEST, *tests)
    if page.program:
        (tmp_path / "page").write_text(page.program)
        page.run("-c", RUN_PAGE, "page", str(path))


@asynccontextmanager
async def started_worker(folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The README's worker, as a process that is killed at the end of the block."""
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-W", "error", "worker.py"), cwd=folder, stdout=PIPE
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            yield worker
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


async def printed(worker: asyncio.subprocess.Process, count: int) -> list[str]:
    assert worker.stdout is not None
    return [(await worker.stdout.readline()).decode().strip() for _ in range(count)]


@pytest.mark.asyncio
async def test_the_worker_of_the_readme_releases_its_workflow_at_sigterm(
    tmp_path: Path, mongodb_url: str, database: str
) -> None:
    read(README, tmp_path, mongodb_url, database)
    async with started_worker(tmp_path) as worker:
        assert await printed(worker, 2) == ["charge 2495 cents to visa-4242", "ship kite"]
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0
    with MongoClient[dict[str, object]](mongodb_url) as client:
        workflow = client[database].workflows.find_one({"workflowId": "order-17"})
    assert workflow is not None
    assert workflow["status"] == "idle"


@pytest.mark.asyncio
async def test_a_worker_that_is_killed_on_line_7_is_continued_on_line_7(
    tmp_path: Path, mongodb_url: str, database: str
) -> None:
    page = read(README, tmp_path, mongodb_url, database)
    assert '"ship"' in page.files["order.py"].strip().splitlines()[6]
    stuck = page.files["shop.py"].replace(
        'return "parcel-1"', "import signal; signal.sigwait({signal.SIGUSR1})"
    )
    hasty = page.files["worker.py"].replace("max_failures=3", "timeout_interval=1")
    (tmp_path / "worker.py").write_text(hasty)
    (tmp_path / "shop.py").write_text(stuck)
    async with started_worker(tmp_path) as worker:
        assert await printed(worker, 2) == ["charge 2495 cents to visa-4242", "ship kite"]
        worker.kill()
    (tmp_path / "shop.py").write_text(page.files["shop.py"])
    async with started_worker(tmp_path) as worker:
        assert await printed(worker, 1) == ["ship kite"]
        async with Bluestreak(MongoStore(mongodb_url, database=database)) as bluestreak:
            while await bluestreak.find_nap("order-17", "delivery") is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            shown = str(await bluestreak.describe("order-17"))
    kinds = re.findall(r"Z  (created|claimed|step '\w+'|nap '\w+')", shown)
    assert kinds == [
        "created",
        "claimed",
        "step 'charge'",
        "claimed",
        "step 'ship'",
        "nap 'delivery'",
    ]
    assert "since a lease had run out" in shown

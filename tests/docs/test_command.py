"""The commands of the documentation print what stands there."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import shlex
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bluestreak_cli.developing import FOLDER, Surroundings, banner
from bluestreak_cli.diagnosis import judge_deployment, judge_privileges
from bluestreak_cli.figures import figures_of, merged
from bluestreak_cli.main import app
from bluestreak_cli.standing import Report, Standing, judge_readiness
from bluestreak_cli.workforce import judge_workers
from bluestreak_core import Bluestreak, RunEnd, WorkerHealth, WorkerRecord, WorkerState
from bluestreak_memory import MemoryStore

PAGE = Path(__file__).parents[2] / "docs" / "command.md"
STORE = 'MongoStore("mongodb://localhost:27017", database="myapp")'

SHOP = re.compile(r'^```python title="shop.py"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
DOCTOR = re.compile(r"^```text\n\$ bluestreak doctor .*\n([^`]*)^```$", re.MULTILINE)

_AT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_FRACTION = re.compile(r"\.\d{3}Z")
_WORKER = re.compile(r"claimed '[^']+'")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bluestreak:
    """The application of the page, in memory."""
    (found,) = SHOP.findall(PAGE.read_text())
    assert STORE in found
    text = found.replace(STORE, "MemoryStore()").replace(
        "from bluestreak_mongo import MongoStore", "from bluestreak_memory import MemoryStore"
    )
    (tmp_path / "shop_of_the_page.py").write_text(text.replace("max_f", "park_after=0, max_f"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop_of_the_page", raising=False)
    monkeypatch.setenv("BLUESTREAK_APP", "shop_of_the_page:bluestreak")
    bluestreak: Bluestreak = importlib.import_module("shop_of_the_page").bluestreak
    assert isinstance(importlib.import_module("shop_of_the_page").store, MemoryStore)
    return bluestreak


def test_each_command_prints_what_stands_in_the_page(shop: Bluestreak) -> None:
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE):
            assert _normal(_printed(command)) == _normal(expected), command
            asyncio.run(_run_what_can_run(shop))


def test_the_page_shows_what_doctor_finds(mongodb_url: str, empty_database: str) -> None:
    block, _ = DOCTOR.findall(PAGE.read_text())
    words = ("--mongo", mongodb_url, "--database", empty_database)
    assert CliRunner().invoke(app, ["count", *words]).exit_code == 0
    on_this_server = CliRunner().invoke(app, ["doctor", *words]).stdout.splitlines()
    nobody: dict[str, Any] = {"authenticatedUsers": []}
    others = [*judge_deployment({}), judge_privileges("myapp", nobody)]
    found = [*on_this_server, *(line for other in others for line in str(other).split("\n"))]
    for line in block.splitlines():
        begin = re.sub(r"(MongoDB|all) [\d.]+.*$", r"\1 ", line).removesuffix("...")
        assert any(each.startswith(begin) for each in found), line


def test_the_page_shows_what_a_probe_answers() -> None:
    (shown,) = re.findall(r"^\$ curl .*/readyz\n(.*)$", PAGE.read_text(), re.MULTILINE)
    report = Report(state=WorkerState.POLLING, is_ready=False, has_claimed=True)
    verdict = judge_readiness([Standing(name="worker", silence=0, report=report)], 60)
    assert json.loads(shown) == asdict(verdict)


def test_the_page_shows_what_doctor_finds_of_workers(shop: Bluestreak) -> None:
    _, block = DOCTOR.findall(PAGE.read_text())

    async def look() -> list[WorkerRecord]:
        async with shop, asyncio.TaskGroup() as tasks:
            tasks.create_task(shop.poll())
            while not (workers := await shop.workers()):  # noqa: ASYNC110 - in memory
                await asyncio.sleep(0)
            shop.stop()
        return workers

    (worker,) = asyncio.run(look())
    workers = [replace(worker, runs=runs) for runs in (0, 0, 1, 2)]
    found = judge_workers([*shop.handlers, "return"], workers)
    lines = [line for one in found for line in str(one).split("\n")]
    for line, shown in zip(lines, block.splitlines(), strict=True):
        assert line.startswith(shown.removesuffix("..."))


def test_the_page_shows_what_dev_prints() -> None:
    (shown,) = re.findall(r"^(application .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (url,) = re.findall(r"MONGO='(.*)'", shown)
    beside = Surroundings(
        environment={"BLUESTREAK_MONGO": f"{url}?"},
        shown={"database": f"MongoDB, kept in {FOLDER}"},
    )
    lines = banner("shop:bluestreak", beside, [Path("/home/ada/shop")])
    assert shown.splitlines() == [line.replace("?'", "'") for line in lines][:-1]


def test_the_page_names_every_metric_of_a_worker() -> None:
    health = WorkerHealth(
        state=WorkerState.POLLING,
        worker="w",
        runs=0,
        max_concurrency=1,
        last_contact_at=datetime.now(UTC),
    )
    text = merged([("worker", figures_of(health))], [Standing(name="worker")], 60)
    sent = set(re.findall(r"^(bluestreak_worker_\w+)", text, re.MULTILINE))
    assert sent == set(re.findall(r"`(bluestreak_worker_\w+)`", PAGE.read_text()))
    outcomes = re.search(r"by `outcome`: ([^|]*)", PAGE.read_text())
    assert outcomes is not None
    assert re.findall(r"`(\w+)`", outcomes[1]) == list(RunEnd)


def _printed(command: str) -> str:
    """What a command line prints, with the only other program of the page."""
    line, _, program = command.partition(" | ")
    name, *words = shlex.split(line)
    assert name == "bluestreak"
    result = CliRunner().invoke(app, words)
    if program == "jq -r .workflow.status":
        status: Any = json.loads(result.stdout)["workflow"]["status"]
        return f"{status}\n"
    assert not program
    return result.stdout + result.stderr


async def _run_what_can_run(bluestreak: Bluestreak) -> None:
    """Let a worker run until each workflow waits, or has ended, or is put off or paused."""
    async with bluestreak, asyncio.TaskGroup() as tasks:
        tasks.create_task(bluestreak.poll())
        while not await _is_quiet(bluestreak):  # noqa: ASYNC110 - it looks at the store
            await asyncio.sleep(0)
        bluestreak.stop()


async def _is_quiet(bluestreak: Bluestreak) -> bool:
    return all(
        [
            found.status not in {"running", "failed"}
            and (found.status != "idle" or found.timeout_at > datetime.now(UTC))
            async for found in bluestreak.list()
        ]
    )


def _normal(text: str) -> str:
    return _WORKER.sub("claimed W", _FRACTION.sub("Z", _AT.sub("AT", text)))

"""dev: a database, and a worker that restarts with its code."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
from pathlib import Path

import pytest
from pymongo import MongoClient

from bluestreak_cli.local_database import local_database
from tests.cli.arrange import ROOT, document, error_of, printed
from tests.cli.process import terminal

CODE = """\
import os
from bluestreak_core import Bluestreak
from bluestreak_mongo import MongoStore
from tests.cli.shop import register

url, name = os.environ["BLUESTREAK_MONGO"], os.environ["BLUESTREAK_DATABASE"]
bluestreak = register(Bluestreak(MongoStore(url, database=name), timeout_interval=1))
"""
POLLING = re.compile(r"(\d+) bluestreak_cli\.worker: worker: polling")


def test_a_worker_restarts_with_its_code_and_outlives_what_is_wrong_with_it(
    mongodb_url: str, empty_database: str, tmp_path: Path
) -> None:
    server = ("--mongo", mongodb_url, "--database", empty_database)
    goal, module = tmp_path / "goal", tmp_path / "developed.py"
    printed("start", "w", "linger", "--input", f'"{goal}"', *server)

    def save(code: str) -> None:
        module.with_suffix(".new").write_text(code)
        module.with_suffix(".new").replace(module)

    save(CODE)
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    words = ("dev", "developed:bluestreak", "--watch", str(tmp_path), *server)
    with terminal(*words, env={"PYTHONPATH": path}, columns=200) as shown:
        shown.read_until("worker: polling")
        assert "export BLUESTREAK_APP=developed:bluestreak" in shown.text
        while document("show", "w", *server)["workflow"]["status"] != "running":
            pass
        save("def (\n")
        shown.read_until("waiting for a change of the code")
        assert "developed.py changed, restarting" in shown.text
        assert "raised SyntaxError: invalid syntax (developed.py, line 1)" in shown.text
        shown.text = ""
        save(CODE + "# mended\n")
        shown.read_until("worker: polling")
        while (workflow := document("show", "w", *server)["workflow"])["claims"] < 2:
            pass
        assert workflow["crashes"] == 0  # it was released
        found = POLLING.search(shown.text)
        assert found is not None
        os.kill(int(found[1]), signal.SIGKILL)
        shown.read_until("was killed by SIGKILL, starting another worker")
        shown.text = ""
        shown.read_until("worker: polling")
        goal.touch()
        printed("tail", "w", *server)
        shown.type("\x03")
        assert shown.end() == 130  # and nothing has the terminal open any more
    assert document("show", "w", *server)["workflow"]["status"] == "finished"


@pytest.mark.server
def test_the_database_of_dev_is_kept_where_git_and_others_do_not_look(tmp_path: Path) -> None:
    folder = tmp_path / "kept"

    async def run() -> None:
        async with local_database(folder) as url:
            with MongoClient[dict[str, object]](url) as client:
                client.shop.orders.insert_one({"_id": 1})
            assert f":{(folder / 'port').read_text()}/" in url

    asyncio.run(run())
    assert (folder / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE((folder / "mongo").stat().st_mode) == 0o700
    assert (folder / "mongo" / "member-0" / "WiredTiger").exists()


def test_dev_watches_folders_that_exist() -> None:
    assert "is no folder" in error_of("dev", "shop:bluestreak", "--watch", "/nowhere", code=2)

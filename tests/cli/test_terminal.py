"""The command in a real terminal, and before a pipe that breaks."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.cli.arrange import COMMAND, ROOT, SHOP, document, environment, printed
from tests.cli.process import terminal

pytestmark = pytest.mark.usefixtures("unmeasured")

APP = "tests.cli.shop:on_mongo"
STYLE = re.compile(r"\x1b\[[0-9;]*m")
LONG = "an-id-that-is-longer-than-the-window-is-wide"


@pytest.fixture
def server(
    mongodb_url: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The environment of an application on an empty database."""
    named = {"TEST_URL": mongodb_url, "TEST_DATABASE": empty_database}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    return named


def status(workflow_id: str) -> str:
    found: str = document("show", workflow_id, "--app", APP)["workflow"]["status"]
    return found


def test_many_are_changed_once_somebody_has_said_yes(server: dict[str, str]) -> None:
    for workflow_id in ("a", "b"):
        printed("start", workflow_id, "wait", "--app", APP)
    words = ("cancel", "--all", "--app", APP)
    with terminal(*words, env=server) as shown:
        shown.read_until("cancel 2 workflows? [y/N] ")
        shown.type("\n")
        assert shown.end() == 1
        assert shown.text.endswith("nothing has changed\n")
    assert status("a") == "idle"
    with terminal(*words, env=server) as shown:
        shown.read_until("[y/N] ")
        shown.type("y\n")
        assert shown.end() == 0
        assert shown.text.endswith("2 workflows cancelled\n")
    assert status("a") == status("b") == "cancelled"


def test_long_work_shows_how_far_it_has_come_and_wipes_that_out(server: dict[str, str]) -> None:
    for number in range(3):
        printed("start", f"w{number}", "wait", "--app", APP)
    with terminal("cancel", "--all", "--yes", "--app", APP, env=server) as shown:
        assert shown.end() == 0
    said = STYLE.sub("", shown.text)
    assert "cancel " in said
    assert "3/3" in said
    assert said.endswith("3 workflows cancelled\n")
    assert "\x1b[2K" in shown.text  # the line is erased
    prune = ("prune", "--ended-before", "2999-01-01", "--yes", "--app", APP)
    with terminal(*prune, "--json", env=server) as shown:
        assert shown.end() == 0
    assert json.loads(shown.text)["workflows"] == 3  # and nothing else


def test_a_narrow_window_folds_ids_and_leaves_out_columns(server: dict[str, str]) -> None:
    printed("start", LONG, "wait", "--app", APP)
    with terminal("list", "--app", APP, columns=24, env=server) as shown:
        assert shown.end() == 0
    lines = STYLE.sub("", shown.text).splitlines()
    assert max(map(len, lines)) <= 24
    assert "".join(line.split()[0] for line in lines[1:]) == LONG
    assert "idle" in shown.text
    assert "wait" not in shown.text


def test_tail_prints_what_happens_once(server: dict[str, str]) -> None:
    printed("start", "w", "wait", "--app", APP)
    with terminal("tail", "w", "--pause", "0.01", "--app", APP, env=server) as shown:
        shown.read_until("created")
        printed("cancel", "w", "--app", APP)
        assert shown.end() == 1
    assert [line.split()[-1] for line in shown.text.splitlines()] == ["created", "cancelled"]


def test_ctrl_c_ends_a_tail_with_a_line(server: dict[str, str]) -> None:
    printed("start", "w", "wait", "--app", APP)
    with terminal("tail", "w", "--app", APP, env=server) as shown:
        shown.read_until("created")
        shown.type("\x03")
        assert shown.end() == 130
    assert "Traceback" not in shown.text
    assert shown.text.splitlines()[-1] == "error: interrupted"


@pytest.mark.parametrize("words", [["count", "--app", SHOP], ["--help"]])
def test_a_broken_pipe_is_silent(words: list[str]) -> None:
    process = subprocess.Popen(
        [*COMMAND, *words],
        cwd=ROOT,
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141

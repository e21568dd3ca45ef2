"""What all commands have in common."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import bluestreak_core
from bluestreak_cli.main import app
from tests.cli import shop
from tests.cli.arrange import SHOP, call, document, error_of, printed

COMMANDS: list[str] = list(get_command(app).commands)  # type: ignore[attr-defined]
WITHOUT_A_STORE = {"worker", "dev", "doctor", "tail", "console"}


def example_of(command: str) -> str:
    text = " ".join(printed(command, "--help").split())
    return text.partition("Example: bluestreak ")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_ends_with_an_example(command: str) -> None:
    assert shlex.split(example_of(command))[0] == command


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in WITHOUT_A_STORE])
def test_each_example_is_a_right_usage(command: str) -> None:
    printed("start", "order-17", "wait")
    words = shlex.split(example_of(command))
    if command in {"pause", "retry", "prune"}:  # which ask first
        words.append("--yes")
    result = CliRunner().invoke(app, words, env={"BLUESTREAK_APP": SHOP})
    assert result.exit_code in (0, 1), result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_print_json_and_tracebacks(command: str) -> None:
    text = printed(command, "--help")
    assert all(option in text for option in ("--json", "--debug", "--app", "--mongo"))


def test_without_a_command_it_prints_its_help_and_the_exit_codes() -> None:
    text = printed()
    assert text == printed("--help")
    assert "3 store unavailable" in " ".join(text.split())


def test_the_version_is_that_of_the_library() -> None:
    assert printed("--version") == f"bluestreak {bluestreak_core.__version__}\n"


def test_wrong_usage_is_one_line_that_names_the_help() -> None:
    assert "Did you mean 'list'" in error_of("lst", code=2)
    assert error_of("show", code=2).endswith("; see 'bluestreak show --help'")
    assert "--bogus" in error_of("list", "--bogus", code=2)
    assert error_of("list", "--prefix", "", code=2).endswith("; see 'bluestreak list --help'")


def test_an_error_with_json_is_a_document_on_the_standard_error() -> None:
    for words, kind, code in (
        (["show", "w"], "WorkflowNotFound", 1),
        (["list", "--limit", "x"], "BadParameter", 2),
        (["list", "--limit", "0"], "CommandError", 2),
    ):
        result = call(*words, "--json", code=code)
        assert result.stdout == ""
        error = json.loads(result.stderr)
        assert (error["error"], error["code"]) == (kind, code)
        assert error["remedy"]


def test_an_error_is_cut_short() -> None:
    assert len(error_of("list", "--limit", "x" * 100_000, code=2)) < 800
    assert len(error_of("x" * 100_000, code=2)) < 800


def test_a_traceback_is_printed_with_debug_only() -> None:
    assert "Traceback" not in call("show", "w", code=1).stderr
    assert "Traceback" in call("show", "w", "--debug", code=1).stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shop", "'shop' names no application"),
        ("no.such.module:app", "there is no module 'no.such.module'"),
        ("tests.cli.shop:nothing", "has no 'nothing'"),
        ("tests.cli.shop:number", "is of type int"),
        ("tests.cli.shop:broken", r"raised RuntimeError: no \x1b[31mpassword"),
    ],
)
def test_an_application_that_cannot_be_had_is_a_wrong_usage(name: str, said: str) -> None:
    line = error_of("list", "--app", name, code=2)
    assert said in line
    assert "; " in line


def test_a_module_that_lacks_another_one_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking.py").write_text("import not_installed_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    line = error_of("list", "--app", "lacking:app", code=2)
    assert "No module named 'not_installed_here'; install what it needs" in line


def test_an_application_is_a_bluestreak_a_client_or_a_factory() -> None:
    printed("start", "w", "wait")
    assert document("count", "--app", "tests.cli.shop:factory")["idle"] == 1
    assert document("count", "--app", "tests.cli.shop:client")["idle"] == 0


def test_the_command_line_counts_before_the_environment() -> None:
    printed("start", "w", "wait")
    env = {"BLUESTREAK_APP": "no:thing", "BLUESTREAK_MONGO": "mongodb://127.0.0.1:1"}
    result = CliRunner().invoke(app, ["show", "w", "--app", SHOP], env=env)
    assert result.exit_code == 0


def test_without_an_application_it_says_how_to_name_one() -> None:
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 2
    assert result.stderr == (
        "error: no application is given; name it with --app module:attribute or BLUESTREAK_APP, "
        "or give a database with --mongo URL --database NAME\n"
    )


def test_an_application_and_a_database_exclude_each_other() -> None:
    words = ("list", "--app", SHOP, "--mongo", "mongodb://localhost")
    assert "has its own database" in error_of(*words, code=2)


def test_a_database_without_the_driver_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("bluestreak_mongo", "bluestreak_cli.diagnosis"):
        monkeypatch.setitem(sys.modules, name, None)
    for command in ("list", "doctor"):
        line = error_of(command, "--mongo", "mongodb://localhost", code=1)
        assert line.endswith("; install it")


def test_a_store_that_does_not_answer_has_an_exit_code_of_its_own() -> None:
    url = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1"
    for command in ("list", "doctor"):
        line = error_of(command, "--mongo", url, code=3)
        assert "check the URL" in line
        assert "Topology" not in line


def test_a_url_that_is_none_is_a_wrong_usage_and_is_not_printed() -> None:
    line = error_of("list", "--mongo", "mongodb://user:secret@:x", code=2)
    assert "secret" not in line


def test_nothing_of_an_application_is_left_open() -> None:
    printed("start", "w", "wait")
    with pytest.raises(bluestreak_core.NotInitialised):
        shop.bluestreak.check_open("count()")

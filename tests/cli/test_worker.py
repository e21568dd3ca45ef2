"""worker: one, and a fleet."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bluestreak_cli.fleet import pause_before
from tests.cli.arrange import SHOP, document, error_of, printed
from tests.cli.process import terminal, worker

APP = "tests.cli.shop:on_mongo"


@pytest.mark.usefixtures("unmeasured")
def test_ctrl_c_lets_what_runs_come_to_its_end(server: dict[str, str], tmp_path: Path) -> None:
    goal = tmp_path / "goal"
    printed("start", "w", "linger", "--input", f'"{goal}"', "--app", APP)
    with terminal("worker", APP, env=server) as shown:
        shown.read_until("worker: polling")
        while document("show", "w", "--app", APP)["workflow"]["status"] != "running":
            pass
        shown.type("\x03")
        shown.read_until("SIGINT, draining")
        goal.touch()
        assert shown.end() == 130
    assert "worker: stopped" in shown.text
    assert document("show", "w", "--app", APP)["workflow"]["result"] == "done"


@pytest.mark.usefixtures("unmeasured")
def test_a_fleet_replaces_who_dies_restarts_in_turn_and_drains(
    server: dict[str, str], tmp_path: Path
) -> None:
    goal = tmp_path / "goal"
    printed("start", "w", "linger", "--input", f'"{goal}"', "--app", APP)
    with worker(APP, "--processes", "2", env=server) as log:
        log.read_until(lambda said: sum(line.endswith("is ready") for line in said) == 2)
        (killed,) = log.pids("worker 1")
        os.kill(killed, signal.SIGKILL)
        dead = f"worker 1: process {killed} was killed by SIGKILL, starts again at once"
        log.read_until(lambda said: dead in said)
        log.read_until(lambda said: sum(line.endswith("is ready") for line in said) == 3)
        goal.touch()
        log.process.send_signal(signal.SIGHUP)
        log.read_until(lambda said: "fleet: all have been restarted" in said)
        assert (len(log.pids("worker 1")), len(log.pids("worker 2"))) == (3, 2)
        printed("tail", "w", "--app", APP)
        log.process.send_signal(signal.SIGTERM)
        log.read_rest()
        assert log.process.wait() == 0
    assert log.messages[-1] == "fleet: all processes have ended"
    ended = [line for line in log.messages if line.endswith("ended with exit code 0")]
    assert len(ended) == 4
    assert log.others == []


@pytest.mark.usefixtures("unmeasured")
def test_the_processes_of_a_fleet_that_is_killed_drain() -> None:
    with worker(SHOP, "--processes", "2") as log:
        log.read_until(lambda said: sum(line.endswith("is ready") for line in said) == 2)
        log.process.kill()
        log.read_rest()
    for name in ("worker 1", "worker 2"):
        assert f"{name}: its fleet has gone, draining" in log.messages
        assert f"{name}: stopped" in log.messages


@pytest.mark.usefixtures("unmeasured")
def test_ctrl_c_is_for_the_fleet_and_not_for_its_processes() -> None:
    with terminal("worker", SHOP, "--processes", "2", env={}) as shown:
        shown.read_until("worker 2: polling")
        shown.type("\x03")
        assert shown.end() == 130
    assert "worker 1: SIGTERM, draining" in shown.text
    assert "worker 1: SIGINT" not in shown.text
    assert shown.text.count(", draining") == 3


@pytest.mark.usefixtures("unmeasured")
def test_a_fleet_ends_with_its_terminal() -> None:
    with terminal("worker", SHOP, "--processes", "2", env={}) as shown:
        shown.read_until("worker 2: process ")
        shown.read_until("is ready")
        assert shown.hang_up() in (0, 120)  # 120: it could not print its last lines


@pytest.mark.usefixtures("unmeasured")
def test_a_restart_ends_at_the_first_process_that_does_not_start(tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    module.write_text("from tests.cli.shop import bluestreak\n")
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    with worker("changing:bluestreak", "--processes", "2", env={"PYTHONPATH": path}) as log:
        log.read_until(lambda said: sum(line.endswith("is ready") for line in said) == 2)
        module.write_text("raise ValueError('not ready for this')\n")
        log.process.send_signal(signal.SIGHUP)
        refused = "fleet: worker 1 does not start, the others stay as they are"
        log.read_until(lambda said: refused in said)
        assert len(log.pids("worker 2")) == 1
        log.process.send_signal(signal.SIGINT)
        log.read_rest()
        assert log.process.wait() == 130
    assert "not ready for this" in log.others[0]["message"]  # type: ignore[index]


@pytest.mark.usefixtures("unmeasured")
def test_a_fleet_whose_application_cannot_be_loaded_ends() -> None:
    with worker("tests.cli.shop:broken", "--processes", "3") as log:
        log.read_rest()
        assert log.process.wait() == 2
    assert len(log.others) == 1
    assert not log.pids("worker 2")


def test_a_process_that_dies_again_and_again_is_started_less_and_less_often() -> None:
    pauses = [pause_before(deaths, was_ready=True) for deaths in range(1, 9)]
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]
    assert pause_before(1, was_ready=False) == 1
    assert pause_before(100_000, was_ready=False) == 30


def test_a_worker_needs_an_application_that_runs_something() -> None:
    assert "which runs nothing" in error_of("worker", "tests.cli.shop:client", code=2)
    assert "names no application" in error_of("worker", "shop", code=2)
    line = error_of("worker", "--mongo", "mongodb://localhost", "--app", "", code=2)
    assert "no application" in line or "its own database" in line


def test_a_worker_takes_at_least_one_process() -> None:
    assert "--processes" in error_of("worker", SHOP, "--processes", "0", code=2)

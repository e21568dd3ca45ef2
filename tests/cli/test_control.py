"""cancel, pause, resume, retry; prune."""

from __future__ import annotations

import pytest

from bluestreak_core import Bluestreak
from tests.cli.arrange import call, document, error_of, printed, run_until


def status(workflow_id: str) -> str:
    found: str = document("show", workflow_id)["workflow"]["status"]
    return found


def test_one_workflow_is_paused_resumed_cancelled_and_retried() -> None:
    printed("start", "w", "wait")
    for command, done, expected in (
        ("pause", "paused", "paused"),
        ("resume", "resumed", "idle"),
        ("cancel", "cancelled", "cancelled"),
        ("retry", "retried", "idle"),
    ):
        assert printed(command, "w") == f"workflow 'w' is {done}\n"
        assert status("w") == expected


def test_a_change_that_the_state_does_not_allow_is_refused() -> None:
    printed("start", "w", "wait")
    assert "'bluestreak show ID'" in error_of("resume", "w", code=1)
    printed("cancel", "w", "--reason", "because")
    assert document("show", "w")["workflow"]["reason"] == "because"
    assert document("cancel", "w", code=1) == {"workflow_id": "w", "cancelled": False}


@pytest.mark.parametrize("command", ["cancel", "pause", "resume", "retry"])
def test_it_must_be_clear_which_workflows_are_meant(command: str) -> None:
    for words in ([], ["w", "--all"], ["w", "--handler", "wait"]):
        line = error_of(command, *words, "--yes", code=2)
        assert f"not clear what to {command}" in line


def test_many_are_changed_by_the_filters_of_list_and_only_those_that_can_be() -> None:
    for number in range(3):
        printed("start", f"w-{number}", "wait")
    printed("start", "other", "fulfil")
    printed("cancel", "w-0")
    assert document("pause", "--handler", "wait", "--yes") == {"paused": 2, "moved_on": 0}
    assert [status(f"w-{number}") for number in range(3)] == ["cancelled", "paused", "paused"]
    assert status("other") == "idle"
    assert printed("resume", "--all", "-y") == "2 workflows resumed\n"
    assert printed("retry", "--status", "cancelled", "-y") == "1 workflow retried\n"
    assert printed("cancel", "--prefix", "nothing") == "0 workflows cancelled\n"


def test_more_than_one_batch_is_changed() -> None:
    printed("start", "w", "wait")
    for number in range(51):
        call("fork", "w", f"v-{number}")
    assert document("cancel", "--prefix", "v-", "--yes")["cancelled"] == 51
    assert status("w") == "idle"


def test_those_that_have_moved_on_meanwhile_are_counted_and_left_alone(
    bluestreak: Bluestreak, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workflow_id in ("a", "b"):
        printed("start", workflow_id, "wait")
    pause = bluestreak.pause

    async def pause_after_another(workflow_id: str) -> None:
        if workflow_id == "b":
            await pause(workflow_id)
        await pause(workflow_id)

    monkeypatch.setattr(bluestreak, "pause", pause_after_another)
    said = printed("pause", "--all", "--yes")
    assert said == "1 workflow paused, 1 had moved on meanwhile\n"


def test_many_are_not_changed_unless_somebody_says_yes() -> None:
    printed("start", "w", "wait")
    assert "answer it with --yes" in error_of("cancel", "--all", code=2, input="y\n")
    assert status("w") == "idle"


def test_states_in_which_nothing_can_be_done_are_a_wrong_usage() -> None:
    assert "can be retried" in error_of("retry", "--status", "finished", "--yes", code=2)


def test_prune_deletes_what_has_ended_before() -> None:
    printed("start", "old", "fulfil")
    printed("start", "older", "fulfil")
    run_until("old", "older", status="finished")
    printed("start", "new", "wait")
    kept = document("prune", "--ended-before", "1d", "--yes")
    assert kept["workflows"] == 0
    cancelled = ("prune", "--ended-before", "2999-01-01", "--status", "cancelled", "--yes")
    assert document(*cancelled)["workflows"] == 0
    words = ("prune", "--ended-before", "2999-01-01", "--limit", "1", "--yes")
    assert printed(*words) == "deleted 1 workflow, 2 steps and 0 naps\n"
    assert document(*words)["workflows"] == 1
    assert "does not exist" in error_of("show", "old", code=1)
    assert status("new") == "idle"


def test_prune_goes_on_until_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        printed("start", f"w{number}", "wait")
        printed("cancel", f"w{number}")
    monkeypatch.setattr("bluestreak_cli.maintenance.PRUNED_AT_ONCE", 2)
    words = ("prune", "--ended-before", "2999-01-01", "--yes")
    assert document(*words, "--limit", "3")["workflows"] == 3
    assert document(*words)["workflows"] == 2


def test_prune_asks_first() -> None:
    printed("start", "old", "fulfil")
    run_until("old", status="finished")
    error_of("prune", "--ended-before", "2999-01-01", code=2)
    assert status("old") == "finished"
    assert "--limit" in error_of("prune", "--ended-before", "1d", "--limit", "0", code=2)

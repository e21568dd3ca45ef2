"""What the server's log of operations says, in the words of an audit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bluestreak_core import Status
from tests.chaos.history import Change, Odd, State, pid_of, read

T0 = datetime(2030, 1, 1, tzinfo=UTC)
WORKER = "a-host-with-dashes-4711-0badcafe"

CREATED = {
    "ns": "db.workflows",
    "op": "i",
    "o": {
        "_id": 1,
        "workflowId": "w",
        "status": "idle",
        "timeoutAt": T0,
        "failures": 0,
    },
    "o2": {"_id": 1},
    "wall": T0,
}


def update(diff: dict[str, Any]) -> dict[str, Any]:
    return {
        "ns": "db.workflows",
        "op": "u",
        "o": {"$v": 2, "diff": diff},
        "o2": {"_id": 1},
        "wall": T0 + timedelta(seconds=1),
    }


CLAIMED = update(
    {"i": {"claim": "c", "worker": WORKER}, "u": {"status": "running", "timeoutAt": T0}}
)
TAKEN_OVER = update({"u": {"claim": "d"}, "sclaimLog": {"a": True, "u1": {"worker": WORKER}}})
FINISHED = update({"u": {"status": "finished"}, "i": {"result": 1}})
IDLE = State(status=Status.IDLE, claim=None, worker=None, timeout_at=T0, failures=0)


def changes(*operations: dict[str, Any]) -> list[Change]:
    return [change for change in read(operations) if isinstance(change, Change)]


def test_a_change_has_what_was_before_and_what_is_after() -> None:
    created, claimed = changes(CREATED, CLAIMED)
    assert (created.before, created.after) == (None, IDLE)
    assert claimed.before == IDLE
    assert claimed.after.status is Status.RUNNING
    assert (claimed.after.claim, claimed.after.pid) == ("c", 4711)
    assert (claimed.workflow_id, claimed.at) == ("w", T0 + timedelta(seconds=1))


def test_claims_takeovers_and_moves_are_told_apart() -> None:
    found = changes(CREATED, CLAIMED, TAKEN_OVER, FINISHED)
    assert [change.is_claim for change in found] == [False, True, True, False]
    assert [change.is_takeover for change in found] == [False, False, True, False]
    assert [change.is_move for change in found] == [False, False, False, True]


def test_a_field_that_is_removed_is_gone() -> None:
    *_, last = changes(CREATED, CLAIMED, update({"d": {"claim": False}}))
    assert last.after.claim is None


def test_records_that_are_added_are_nothing_to_speak_of() -> None:
    added = [
        {"ns": f"db.{name}", "op": "i", "o": {"_id": 2}, "o2": {"_id": 2}, "wall": T0}
        for name in ("steps", "naps")
    ]
    created = {"ns": "db.$cmd", "op": "c", "o": {"create": "steps"}, "wall": T0}
    assert list(read([created, *added])) == []


def test_whatever_else_is_done_is_odd() -> None:
    operations = [
        {"ns": "db.steps", "op": "u", "o": {}, "o2": {"_id": 2}, "wall": T0},
        {"ns": "db.naps", "op": "d", "o": {"_id": 3}, "o2": {"_id": 3}, "wall": T0},
        {"ns": "db.workflows", "op": "d", "o": {"_id": 1}, "wall": T0},
    ]
    assert list(read(operations)) == [
        Odd(collection="steps", operation="u", key=2),
        Odd(collection="naps", operation="d", key=3),
        Odd(collection="workflows", operation="d", key=None),
    ]


def test_a_workers_name_has_its_process_id() -> None:
    assert pid_of(WORKER) == 4711

"""What the server's log of operations says, in the words of an audit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bluestreak_core import Status
from tests.chaos.history import Change, Odd, State, pid_of, read

DAY = timedelta(days=1)
T0 = datetime(2030, 1, 1, tzinfo=UTC)
WORKER = "a-host-with-dashes-4711-0badcafe"

CREATED: dict[str, Any] = {
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


def inserted(name: str, *, workflow_id: str = "w", database: str = "db") -> dict[str, Any]:
    document = {"_id": 2, "workflowId": workflow_id}
    return {"ns": f"{database}.{name}", "op": "i", "o": document, "o2": {"_id": 2}, "wall": T0}


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
    added = [inserted(name) for name in ("steps", "naps", "messages")]
    created = {"ns": "db.$cmd", "op": "c", "o": {"create": "steps"}, "wall": T0}
    read_by_now = {"ns": "db.messages", "op": "u", "o": {}, "o2": {"_id": 2}, "wall": T0}
    assert list(read([created, *added, read_by_now])) == []


def test_what_a_transaction_has_done_is_read_one_by_one() -> None:
    parts = [CLAIMED, inserted("steps"), inserted("effects", database="effects")]
    committed = {
        "ns": "admin.$cmd",
        "op": "c",
        "o": {"applyOps": [{**part, "wall": None} for part in parts]},
        "wall": T0 + timedelta(seconds=2),
    }
    _, claimed = read([CREATED, committed])
    assert isinstance(claimed, Change)
    assert claimed.is_claim
    assert claimed.at == T0 + timedelta(seconds=2)


def test_only_the_records_of_a_workflow_that_is_marked_may_be_deleted() -> None:
    marked = update({"i": {"prunedAt": T0}})
    records = [inserted("steps"), inserted("messages", workflow_id="another")]
    deleted = [
        {"ns": f"db.{name}", "op": "d", "o": {"_id": key}, "wall": T0}
        for name, key in (("steps", 2), ("messages", 2), ("workflows", 1))
    ]
    *_, mark, odd = read([CREATED, *records, marked, *deleted])
    assert isinstance(mark, Change)
    assert mark.after.is_pruned
    assert odd == Odd(collection="messages", operation="d", key=2)


CONTROLS = [
    ({"u": {"status": "paused"}, "d": {"claim": False}}, True),
    ({"u": {"status": "cancelled"}, "d": {"claim": False}}, True),
    ({"u": {"status": "idle"}}, False),
    ({"u": {"status": "finished"}}, False),
]


@pytest.mark.parametrize(("diff", "is_control"), CONTROLS)
def test_what_comes_from_outside_is_told_from_what_ends_a_claim(
    diff: dict[str, Any], *, is_control: bool
) -> None:
    change = changes(CREATED, CLAIMED, update(diff))[-1]
    assert (change.is_control, change.is_move, change.is_claim) == (
        is_control,
        not is_control,
        False,
    )


def test_a_message_wakes_a_workflow_that_waits_for_it() -> None:
    parked = update({"u": {"status": "idle", "timeoutAt": T0 + DAY}, "i": {"waitingFor": ["a"]}})
    woken = update({"u": {"timeoutAt": T0}, "i": {"mail": 1}, "d": {"waitingFor": False}})
    _, _, park, wake = changes(CREATED, CLAIMED, parked, woken)
    assert (park.after.is_waiting, park.is_wake, wake.is_wake) == (True, False, True)


def test_an_update_may_be_written_as_the_whole_document() -> None:
    whole = {**CREATED["o"], "status": "paused"}
    found = changes(CREATED, {**update({}), "o": whole})
    assert [change.after.status for change in found] == [Status.IDLE, Status.PAUSED]


def test_whatever_else_is_done_is_odd() -> None:
    operations = [
        {"ns": "db.steps", "op": "u", "o": {}, "o2": {"_id": 2}, "wall": T0},
        {"ns": "db.naps", "op": "d", "o": {"_id": 3}, "o2": {"_id": 3}, "wall": T0},
        {"ns": "db.workflows", "op": "d", "o": {"_id": 1}, "wall": T0},
    ]
    assert list(read(operations)) == [
        Odd(collection="steps", operation="u", key=2),
        Odd(collection="naps", operation="d", key=3),
        Odd(collection="workflows", operation="d", key=1),
    ]


def test_a_workers_name_has_its_process_id() -> None:
    assert pid_of(WORKER) == 4711


def test_a_workflow_that_has_restarted_may_lose_its_records() -> None:
    restarted = update({"i": {"generation": 1}, "u": {"status": "idle"}})
    recorded, deleted = (
        inserted("steps"),
        {
            "ns": "db.steps",
            "op": "d",
            "o": {"_id": 2},
            "wall": T0,
        },
    )
    kept = list(read([CREATED, recorded, restarted, deleted]))
    assert all(isinstance(change, Change) for change in kept)
    *_, lost = read([CREATED, recorded, deleted])
    assert lost == Odd(collection="steps", operation="d", key=2)

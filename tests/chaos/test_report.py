"""The times of a report are those that it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bluestreak_core import Status
from tests.chaos.history import Change, State
from tests.chaos.injection import Injected
from tests.chaos.report import outages, takeovers
from tests.chaos.schedule import Kind

T0 = datetime(2030, 1, 1, tzinfo=UTC)
IDLE = State(status=Status.IDLE, claim=None, worker=None, timeout_at=T0, failures=0)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def held(claim: str, pid: int) -> State:
    return State(
        status=Status.RUNNING, claim=claim, worker=f"host-{pid}-x", timeout_at=T0, failures=0
    )


def change(workflow_id: str, seconds: float, before: State, after: State) -> Change:
    return Change(workflow_id=workflow_id, at=at(seconds), before=before, after=after)


def hit(kind: Kind, began: float, ended: float, pid: int | None = None) -> Injected:
    return Injected(kind=kind, began_at=at(began), ended_at=at(ended), pid=pid)


KILLED = hit(Kind.WORKER_KILLED, 2, 2, pid=100)


def test_a_takeover_counts_from_the_fault_to_the_next_claim_of_what_was_held_then() -> None:
    changes = [
        change("held", 1, IDLE, held("a", 100)),
        change("another's", 1, IDLE, held("b", 200)),
        change("held", 5, held("a", 100), held("c", 200)),
        change("another's", 6, held("b", 200), held("d", 300)),
    ]
    assert takeovers(changes, [KILLED], Kind.WORKER_KILLED) == [3.0]
    assert takeovers(changes, [KILLED], Kind.WORKER_HALTED) == []


def test_what_was_claimed_after_the_fault_or_given_back_before_it_was_not_taken_over() -> None:
    changes = [
        change("given back", 1, IDLE, held("a", 100)),
        change("given back", 1.5, held("a", 100), IDLE),
        change("given back", 3, IDLE, held("b", 200)),
        change("later", 3, IDLE, held("c", 100)),
        change("later", 6, held("c", 100), held("d", 200)),
    ]
    assert takeovers(changes, [KILLED], Kind.WORKER_KILLED) == []


def test_an_outage_is_the_longest_pause_of_all_writes_that_a_fault_overlaps() -> None:
    instants = [0, 9, 10, 12, 16, 17, 30]
    changes = [change("w", seconds, IDLE, held("a", 100)) for seconds in instants]
    halted = hit(Kind.PRIMARY_HALTED, 11, 13)
    assert outages(changes, [halted], Kind.PRIMARY_HALTED) == [4.0]
    assert outages(changes, [halted], Kind.PRIMARY_KILLED) == []

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import TransitionRefused
from bluestreak_core.machine import TRANSITIONS, Change, Transition, change
from bluestreak_core.model import (
    Claim,
    ClaimEntry,
    ClaimRequest,
    ErrorRecord,
    FailedStep,
    Failure,
    NewWorkflow,
    Parent,
    Published,
    Status,
    Workflow,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ERROR = ErrorRecord(type="E", message="m", traceback="t")

IDLE = machine.create(NewWorkflow(workflow_id="w", handler_id="h", input=None, created_at=NOW))
RUNNING = machine.claim(
    IDLE, "token", ClaimRequest(worker="worker", now=NOW, lease=10 * SECOND, limit=1)
)
CLAIM = Claim(token="token", workflow=RUNNING)
LEASED = RUNNING.timeout_at
"""The end of its lease."""

COMPENSATES = machine.promise(RUNNING)
STOPPING = machine.give_up(COMPENSATES, ERROR, NOW)
COMPENSATING = machine.claim(
    STOPPING, "token", ClaimRequest(worker="worker", now=NOW, lease=10 * SECOND, limit=1)
)
COMPENSATING_CLAIM = Claim(token="token", workflow=COMPENSATING)

STATES = {
    Status.IDLE: IDLE,
    Status.RUNNING: RUNNING,
    Status.FAILED: machine.fail(RUNNING, Failure(error=ERROR, retry_at=NOW), NOW),
    Status.FINISHED: machine.finish(RUNNING, "result", NOW),
    Status.ABORTED: machine.fail(RUNNING, Failure(error=ERROR, retry_at=None), NOW),
    Status.PAUSED: machine.control(RUNNING, Transition.PAUSE, NOW, None),
    Status.CANCELLED: machine.control(RUNNING, Transition.CANCEL, NOW, "why"),
    Status.STOPPING: STOPPING,
    Status.COMPENSATING: COMPENSATING,
}

EVENTS: dict[Transition, Callable[[Workflow], Workflow]] = {
    Transition.PARK: lambda workflow: machine.park(workflow, NOW + SECOND),
    Transition.RELEASE: lambda workflow: machine.release(workflow, NOW),
    Transition.RESTART: lambda workflow: machine.restart(workflow, "again", NOW),
    Transition.FINISH: lambda workflow: machine.finish(workflow, "result", NOW),
    Transition.FAIL: lambda workflow: machine.fail(
        workflow, Failure(error=ERROR, retry_at=NOW), NOW
    ),
    Transition.ABORT: lambda workflow: machine.fail(
        workflow, Failure(error=ERROR, retry_at=None), NOW
    ),
    Transition.GIVE_UP: lambda workflow: machine.give_up(workflow, ERROR, NOW),
    Transition.POSTPONE: lambda workflow: machine.postpone(workflow, NOW + SECOND),
    Transition.END_ABORTED: lambda workflow: machine.end_compensated(workflow, NOW),
    Transition.END_CANCELLED: lambda workflow: machine.end_compensated(
        replace(workflow, outcome=Status.CANCELLED), NOW
    ),
}
"""What ends a claim, by the transition."""

HOLDERS = {
    event: COMPENSATING_CLAIM if event in TRANSITIONS[Status.COMPENSATING] else CLAIM
    for event in EVENTS
}
"""A claim that it ends."""

FAILED_STEP = FailedStep(step_id="s", error=ERROR, attempts=1, failed_at=NOW)
REQUEST = ClaimRequest(worker="worker", now=NOW, lease=SECOND, limit=1)

WAIT = change.wait(NOW + SECOND, ("paid", "refused"))
WAKE = change.wake(NOW, 2)
CHANGES: list[Change] = [
    *(
        change.claim("new", REQUEST, crashed=crashed, event=event)
        for event in machine.CLAIMS
        for crashed in (False, True)
    ),
    change.renew(NOW, SECOND),
    change.progress(),
    change.fail_step(FAILED_STEP),
    change.park(NOW + SECOND),
    change.release(NOW),
    change.restart(RUNNING, "again", NOW),
    change.publish((Published(name="progress", number=1, value=40, at=NOW),)),
    change.finish("result", NOW),
    *(change.fail(Failure(error=ERROR, retry_at=at), NOW) for at in (None, NOW + SECOND)),
    *(moved for event in machine.CONTROL for moved in change.control(event, NOW, "why")),
    change.promise(),
    change.give_up(ERROR, NOW),
    change.postpone(NOW + SECOND),
    *change.hand_over(NOW),
    *(change.end_compensated(end, NOW) for end in (Status.ABORTED, Status.CANCELLED)),
    change.deliver(2),
    WAIT,
    WAKE,
    change.adopt(),
    change.settle(),
]
MOVING = [event for event in Transition if event is not Transition.WAKE]
"""The transitions that lead to another state, or begin another claim."""

WAITING = machine.wait(RUNNING, NOW + SECOND, ("paid", "refused"), mail=0, now=NOW)
PAUSED_WAITING = machine.control(WAITING, Transition.PAUSE, NOW, None)


def test_the_table_has_a_row_for_every_state() -> None:
    assert set(TRANSITIONS) == set(Status)


def test_the_table_is_the_designs() -> None:
    arrows = {
        (start, event, end) for start, row in TRANSITIONS.items() for event, end in row.items()
    }
    assert arrows == {
        (Status.IDLE, Transition.CLAIM, Status.RUNNING),
        (Status.FAILED, Transition.CLAIM, Status.RUNNING),
        (Status.RUNNING, Transition.CLAIM, Status.RUNNING),
        (Status.RUNNING, Transition.PARK, Status.IDLE),
        (Status.RUNNING, Transition.RELEASE, Status.IDLE),
        (Status.RUNNING, Transition.RESTART, Status.IDLE),
        (Status.RUNNING, Transition.FINISH, Status.FINISHED),
        (Status.RUNNING, Transition.FAIL, Status.FAILED),
        (Status.RUNNING, Transition.ABORT, Status.ABORTED),
        (Status.IDLE, Transition.PAUSE, Status.PAUSED),
        (Status.FAILED, Transition.PAUSE, Status.PAUSED),
        (Status.RUNNING, Transition.PAUSE, Status.PAUSED),
        (Status.PAUSED, Transition.RESUME, Status.IDLE),
        (Status.IDLE, Transition.CANCEL, Status.CANCELLED),
        (Status.FAILED, Transition.CANCEL, Status.CANCELLED),
        (Status.RUNNING, Transition.CANCEL, Status.CANCELLED),
        (Status.PAUSED, Transition.CANCEL, Status.CANCELLED),
        (Status.ABORTED, Transition.RETRY, Status.IDLE),
        (Status.CANCELLED, Transition.RETRY, Status.IDLE),
        (Status.IDLE, Transition.WAKE, Status.IDLE),
        (Status.PAUSED, Transition.WAKE, Status.PAUSED),
        (Status.IDLE, Transition.STOP, Status.STOPPING),
        (Status.FAILED, Transition.STOP, Status.STOPPING),
        (Status.RUNNING, Transition.STOP, Status.STOPPING),
        (Status.PAUSED, Transition.STOP, Status.STOPPING),
        (Status.RUNNING, Transition.GIVE_UP, Status.STOPPING),
        (Status.STOPPING, Transition.COMPENSATE, Status.COMPENSATING),
        (Status.COMPENSATING, Transition.COMPENSATE, Status.COMPENSATING),
        (Status.COMPENSATING, Transition.POSTPONE, Status.STOPPING),
        (Status.COMPENSATING, Transition.END_ABORTED, Status.ABORTED),
        (Status.COMPENSATING, Transition.END_CANCELLED, Status.CANCELLED),
    }


@pytest.mark.parametrize("event", MOVING)
def test_an_event_leads_to_one_state(event: Transition) -> None:
    assert {row[event] for row in TRANSITIONS.values() if event in row} == {machine.target(event)}


def test_waking_a_workflow_leads_to_no_other_state() -> None:
    woken = {status: row for status, row in TRANSITIONS.items() if Transition.WAKE in row}
    assert all(row[Transition.WAKE] is status for status, row in woken.items())
    with pytest.raises(ValueError, match="too many values"):
        machine.target(Transition.WAKE)
    assert "status" not in WAKE.set
    assert WAKE.sources == machine.sources(Transition.WAKE)


@pytest.mark.parametrize("event", Transition)
def test_the_sources_of_an_event_are_the_rows_that_have_it(event: Transition) -> None:
    assert set(machine.sources(event)) == {s for s, row in TRANSITIONS.items() if event in row}


@pytest.mark.parametrize("status", Status)
def test_only_a_retry_leads_away_from_an_end(status: Status) -> None:
    assert status.ended is (set(TRANSITIONS[status]) <= {Transition.RETRY})


@pytest.mark.parametrize("status", Status)
def test_a_claim_needs_a_state_that_the_table_allows(status: Status) -> None:
    workflow = STATES[status]
    later = NOW + timedelta(days=1)
    ways = TRANSITIONS[status].keys() & machine.CLAIMS
    if ways:
        claimed = machine.claim(
            workflow, "new", ClaimRequest(worker="worker", now=later, lease=SECOND, limit=1)
        )
        assert {claimed.status} == {TRANSITIONS[status][event] for event in ways}
        assert ways == {machine.claiming(status)}
    else:
        assert not machine.is_due(workflow, later)
        with pytest.raises(TransitionRefused, match=f"'claim' is refused while '{status}'"):
            machine.claim(
                workflow, "new", ClaimRequest(worker="worker", now=later, lease=SECOND, limit=1)
            )


@pytest.mark.parametrize("status", machine.claimable())
def test_a_claim_needs_a_workflow_that_is_due(status: Status) -> None:
    workflow = replace(STATES[status], timeout_at=NOW + SECOND)
    with pytest.raises(TransitionRefused):
        machine.claim(
            workflow, "new", ClaimRequest(worker="worker", now=NOW, lease=SECOND, limit=1)
        )
    assert (
        machine.claim(
            workflow, "new", ClaimRequest(worker="worker", now=NOW + SECOND, lease=SECOND, limit=1)
        ).claim_token
        == "new"
    )


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("claim", [CLAIM, COMPENSATING_CLAIM], ids=lambda claim: claim.key)
def test_a_claim_is_in_force_only_in_the_state_that_it_has_made(
    status: Status, claim: Claim
) -> None:
    found = replace(STATES[status], failures=claim.workflow.failures, claim_token=claim.token)
    assert machine.in_force(found, claim) is (status is claim.workflow.status)


@pytest.mark.parametrize("status", [found for found in Status if found not in machine.held()])
def test_a_record_that_nobody_has_claimed_is_no_claim(status: Status) -> None:
    assert not machine.in_force(STATES[status], Claim(token="token", workflow=STATES[status]))


def test_another_token_is_never_in_force() -> None:
    assert not machine.in_force(RUNNING, Claim(token="other", workflow=RUNNING))
    assert not machine.in_force(None, CLAIM)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_of_the_claim_in_force_follows_its_arrow(event: Transition) -> None:
    held = HOLDERS[event].workflow
    assert EVENTS[event](held).status is TRANSITIONS[held.status][event]


@pytest.mark.parametrize("event", EVENTS)
def test_a_repeat_is_told_from_a_stale_call(event: Transition) -> None:
    claim = HOLDERS[event]
    held = claim.workflow
    ended = EVENTS[event](held)
    assert machine.has_ended_by(ended, claim, event)
    assert not machine.has_ended_by(ended, Claim(token="o", workflow=held), event)
    assert not machine.has_ended_by(held, claim, event)
    assert not machine.has_ended_by(None, claim, event)


def test_a_failure_ends_a_claim_though_its_token_stays_when_another_library_runs_it_again() -> None:
    failed = EVENTS[Transition.FAIL](RUNNING)
    by_javascript = replace(failed, status=Status.RUNNING)
    assert not machine.in_force(by_javascript, CLAIM)
    assert machine.has_ended_by(by_javascript, CLAIM, Transition.FAIL)
    assert not machine.has_ended_by(by_javascript, CLAIM, Transition.FINISH)


@pytest.mark.parametrize(
    "event",
    [
        Transition.PARK,
        Transition.RELEASE,
        Transition.FAIL,
        Transition.GIVE_UP,
        Transition.POSTPONE,
    ],
)
def test_the_claim_log_tells_a_repeat_after_the_next_claim(event: Transition) -> None:
    claim = HOLDERS[event]
    held = claim.workflow
    ended = EVENTS[event](held)
    claimed = machine.claim(
        ended,
        "next",
        ClaimRequest(worker="worker", now=NOW + timedelta(days=1), lease=SECOND, limit=1),
    )
    assert machine.has_ended_by(claimed, claim, event)
    assert not machine.has_ended_by(claimed, claim, Transition.FINISH)
    taken_over = machine.claim(
        held,
        "next",
        ClaimRequest(worker="worker", now=NOW + timedelta(days=1), lease=SECOND, limit=1),
    )
    assert not machine.has_ended_by(taken_over, claim, event)
    forgotten = replace(claimed, claims=held.claims + machine.MAX_CLAIM_LOG + 1)
    assert not machine.has_ended_by(forgotten, claim, event)


def test_a_first_run_is_one_that_nothing_came_before() -> None:
    assert machine.is_first_run(RUNNING)
    assert not machine.is_first_run(replace(RUNNING, claims=2))
    assert not machine.is_first_run(replace(RUNNING, created_at=None))  # created elsewhere
    assert not machine.is_first_run(replace(RUNNING, failures=1))  # as by the JavaScript library
    assert not machine.is_first_run(replace(RUNNING, crashes=1))
    assert not machine.is_first_run(replace(RUNNING, retries=1))


def test_what_another_library_ran_until_it_was_paused_does_not_run_for_the_first_time() -> None:
    by_javascript = replace(STATES[Status.IDLE], status=Status.RUNNING)
    paused = machine.control(by_javascript, Transition.PAUSE, NOW, None)
    resumed = machine.control(paused, Transition.RESUME, NOW, None)
    assert not machine.is_first_run(
        machine.claim(
            resumed, "token", ClaimRequest(worker="worker", now=NOW, lease=SECOND, limit=1)
        )
    )


def test_only_an_expired_lease_counts_as_a_crash() -> None:
    later = NOW + timedelta(days=1)
    crashes = {
        status: machine.claim(
            STATES[status], "new", ClaimRequest(worker="worker", now=later, lease=SECOND, limit=1)
        ).crashes
        for status in machine.claimable()
    }
    assert crashes == {
        Status.IDLE: 0,
        Status.FAILED: 0,
        Status.RUNNING: 1,
        Status.STOPPING: 0,
        Status.COMPENSATING: 1,
    }


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("event", Transition)
def test_control_follows_the_table_and_takes_the_claim(status: Status, event: Transition) -> None:
    workflow = STATES[status]
    if event in machine.CONTROL and event in TRANSITIONS[status]:
        moved = machine.control(workflow, event, NOW, "why")
        assert (moved.status, moved.claim_token) == (TRANSITIONS[status][event], None)
    else:
        with pytest.raises(TransitionRefused, match=f"'{event}' is refused while '{status}'"):
            machine.control(workflow, event, NOW, None)


def test_a_claim_that_was_taken_is_not_in_force_when_another_library_runs_the_workflow() -> None:
    resumed = machine.control(STATES[Status.PAUSED], Transition.RESUME, NOW, None)
    assert not machine.in_force(replace(resumed, status=Status.RUNNING), CLAIM)


def test_a_pause_keeps_the_instant_that_was_waited_for_unless_that_was_a_leases_end() -> None:
    later = NOW + timedelta(days=1)
    parked = machine.control(machine.park(RUNNING, later), Transition.PAUSE, NOW, None)
    assert parked.timeout_at == later
    assert STATES[Status.PAUSED].timeout_at == NOW


@pytest.mark.parametrize("status", machine.sources(Transition.RETRY))
def test_a_retry_forgets_failures_and_why_it_ended_and_nothing_else(status: Status) -> None:
    ended = replace(STATES[status], failures=2, crashes=3, retries=1, error=ERROR)
    later = NOW + SECOND
    assert machine.control(ended, Transition.RETRY, later, None) == replace(
        ended,
        status=Status.IDLE,
        timeout_at=later,
        start_at=later,
        claim_token=None,
        failures=0,
        crashes=0,
        retries=2,
        controls=ended.controls + 1,
        finished_at=None,
        error=None,
        reason=None,
        unsettled=True,
    )


@pytest.mark.parametrize("status", machine.sources(Transition.RETRY))
def test_what_has_compensated_is_not_retried(status: Status) -> None:
    compensated = replace(STATES[status], compensates=True, outcome=status)
    with pytest.raises(TransitionRefused, match="'retry' is refused while 'compensated'"):
        machine.control(compensated, Transition.RETRY, NOW, None)


@pytest.mark.parametrize("status", machine.sources(Transition.RETRY))
def test_what_is_marked_for_deletion_is_not_retried(status: Status) -> None:
    marked = replace(STATES[status], pruned_at=NOW)
    with pytest.raises(TransitionRefused, match="'retry' is refused while 'pruned'"):
        machine.control(marked, Transition.RETRY, NOW, None)


def test_progress_resets_crashes_and_nothing_else() -> None:
    crashed = machine.claim(
        RUNNING,
        "new",
        ClaimRequest(worker="worker", now=NOW + timedelta(days=1), lease=SECOND, limit=1),
    )
    assert machine.progress(crashed) == replace(crashed, crashes=0)


@pytest.mark.parametrize(
    ("max_failures", "failures", "retried"),
    [(None, 0, True), (None, 10**6, True), (0, 0, False), (3, 2, True), (3, 3, False)],
)
def test_failures_beyond_the_limit_abort(
    max_failures: int | None, failures: int, *, retried: bool
) -> None:
    workflow = replace(RUNNING, failures=failures)
    retry_at = machine.retry_at(workflow, NOW, SECOND, max_failures)
    assert retry_at == (NOW + SECOND if retried else None)


def test_a_deadline_counts_from_the_latest_start() -> None:
    late = replace(IDLE, start_at=NOW + SECOND)
    foreign = replace(IDLE, created_at=None, started_at=NOW + 2 * SECOND)
    assert machine.deadline_at(IDLE, SECOND) == NOW + SECOND
    assert machine.deadline_at(late, SECOND) == NOW + 2 * SECOND
    assert machine.deadline_at(foreign, SECOND) == NOW + 3 * SECOND
    assert machine.deadline_at(IDLE, None) is None


@pytest.mark.parametrize(
    ("max_crashes", "crashes", "given_up"),
    [(None, 10**6, False), (0, 0, False), (0, 1, True), (10, 10, False), (10, 11, True)],
)
def test_crashes_beyond_the_limit_abort(
    max_crashes: int | None, crashes: int, *, given_up: bool
) -> None:
    workflow = replace(RUNNING, crashes=crashes)
    assert machine.crashed_too_often(workflow, max_crashes) is given_up


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "claim 1 is void, the workflow has been deleted"),
        (STATES[Status.FINISHED], "claim 1 has ended, the workflow is 'finished'"),
        (STATES[Status.CANCELLED], "claim 1 has ended, the workflow is 'cancelled'"),
        (replace(RUNNING, claim_token="new", claims=2), "claim 1 was superseded by claim 2"),
        (
            replace(RUNNING, claim_token=None),
            "claim 1 was superseded by a claim of another library",
        ),
    ],
)
def test_a_lost_claim_says_what_became_of_it(found: Workflow | None, reason: str) -> None:
    assert str(machine.lost(found, CLAIM)) == f"workflow 'w': {reason}"


# A workflow compensates ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", machine.sources(Transition.STOP))
def test_a_cancelled_workflow_that_compensates_stops_first(status: Status) -> None:
    workflow = replace(STATES[status], compensates=True, crashes=2, waiting_for=("paid",))
    later, leases = NOW + SECOND, {Status.RUNNING: LEASED, Status.PAUSED: LEASED}
    assert machine.control(workflow, Transition.CANCEL, later, "why") == replace(
        workflow,
        status=Status.STOPPING,
        outcome=Status.CANCELLED,
        stopped_at=later,
        reason="why",
        timeout_at=leases.get(status, later),
        claim_token=None,
        waiting_for=(),
        crashes=0,
        controls=workflow.controls + 1,
    )


def test_a_running_workflow_that_stops_is_due_once_its_run_is_over() -> None:
    stopped = machine.control(COMPENSATES, Transition.CANCEL, NOW, None)
    assert not machine.is_due(stopped, NOW + SECOND)
    assert machine.was_taken(stopped, CLAIM)
    assert machine.is_due(machine.hand_over(stopped, NOW), NOW)
    for later in (
        replace(stopped, claims=2),
        replace(stopped, controls=3),
        replace(stopped, created_at=NOW + SECOND),
        COMPENSATES,
        COMPENSATING,
        None,
    ):
        assert not machine.was_taken(later, CLAIM)


BETWEEN: dict[str, tuple[Transition, ...]] = {
    "at once": (Transition.PAUSE,),
    "after it was resumed": (Transition.PAUSE, Transition.RESUME),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_what_is_stopped_after_a_pause_waits_for_the_lease_that_the_pause_has_taken(
    between: str,
) -> None:
    workflow = COMPENSATES
    for event in BETWEEN[between]:
        workflow = machine.control(workflow, event, NOW, None)
        assert workflow.timeout_at == NOW
    stopped = machine.control(workflow, Transition.CANCEL, NOW, None)
    assert NOW < stopped.timeout_at == COMPENSATES.timeout_at
    late = machine.control(workflow, Transition.CANCEL, NOW + timedelta(days=1), None)
    assert late.timeout_at == NOW + timedelta(days=1)


def test_a_run_that_was_paused_hands_over_before_or_after_the_stop() -> None:
    paused = machine.control(COMPENSATES, Transition.PAUSE, NOW, None)
    assert machine.was_taken(paused, CLAIM)
    handed = machine.hand_over(paused, NOW + SECOND)
    assert handed == replace(paused, leased_until=None)
    assert machine.is_due(machine.control(handed, Transition.CANCEL, NOW, None), NOW)
    stopped = machine.control(paused, Transition.CANCEL, NOW, None)
    assert machine.was_taken(stopped, CLAIM)
    assert machine.is_due(machine.hand_over(stopped, NOW), NOW)
    for later in (
        machine.control(paused, Transition.RESUME, NOW, None),
        replace(paused, claims=2),
        replace(paused, compensates=False),
    ):
        assert not machine.was_taken(later, CLAIM)


def test_a_later_pause_keeps_the_lease_that_ends_last() -> None:
    earlier, later = NOW + SECOND, NOW + timedelta(days=1)
    for before, at in ((earlier, COMPENSATES.timeout_at), (later, later)):
        paused = machine.control(
            replace(COMPENSATES, leased_until=before), Transition.PAUSE, NOW, None
        )
        assert paused.leased_until == at


def test_a_workflow_that_is_given_up_and_compensates_shows_its_error_at_once() -> None:
    crashed = replace(COMPENSATES, crashes=3)
    assert machine.give_up(crashed, ERROR, NOW + SECOND) == replace(
        crashed,
        status=Status.STOPPING,
        outcome=Status.ABORTED,
        stopped_at=NOW + SECOND,
        timeout_at=NOW + SECOND,
        error=ERROR,
        failures=1,
        crashes=0,
    )


@pytest.mark.parametrize("outcome", [Status.ABORTED, Status.CANCELLED])
def test_a_workflow_that_has_compensated_ends_as_was_decided_before(outcome: Status) -> None:
    compensating = replace(COMPENSATING, outcome=outcome)
    ended = machine.end_compensated(compensating, NOW + SECOND)
    assert ended == replace(
        compensating, status=outcome, timeout_at=NOW + SECOND, finished_at=NOW + SECOND
    )


def test_a_claim_to_compensate_keeps_what_the_workflow_is_to_end_as() -> None:
    later = replace(REQUEST, now=NOW + SECOND)
    claimed = machine.claim(STOPPING, "next", later)
    assert (claimed.status, claimed.outcome) == (Status.COMPENSATING, Status.ABORTED)
    assert (claimed.error, claimed.stopped_at) == (ERROR, NOW)


def test_a_pause_reaches_no_workflow_that_stops() -> None:
    sources = [moved.sources for moved in change.control(Transition.PAUSE, NOW, None)]
    assert sources == [(Status.IDLE, Status.FAILED), (Status.RUNNING,)]


# A workflow waits for messages -------------------------------------------------------------------


def test_a_workflow_that_waits_for_a_message_is_parked() -> None:
    assert replace(
        RUNNING,
        status=Status.IDLE,
        timeout_at=NOW + SECOND,
        waiting_for=("paid", "refused"),
    ) == machine.wait(RUNNING, NOW + SECOND, ("paid", "refused"), mail=0, now=NOW)
    assert WAIT.event is Transition.PARK


@pytest.mark.parametrize("mail", [1, 3])
def test_a_workflow_is_released_if_mail_has_come_since_it_looked(mail: int) -> None:
    workflow = replace(RUNNING, mail=mail)
    arguments = (NOW + SECOND, ("paid",), 2, NOW)
    assert machine.wait(workflow, *arguments) == machine.release(workflow, NOW)
    assert machine.wait_change(workflow, *arguments) == change.release(NOW)
    unchanged = replace(RUNNING, mail=2)
    assert machine.wait_change(unchanged, *arguments) == change.wait(NOW + SECOND, ("paid",))


@pytest.mark.parametrize("event", [Transition.PARK, Transition.RELEASE])
@pytest.mark.parametrize("names", [[], ["other"], ["paid"]])
def test_a_repeated_wait_is_told_from_a_stale_one_whatever_was_sent(
    names: list[str], event: Transition
) -> None:
    delivered = machine.deliver(WAITING, names, NOW)
    assert machine.has_ended_by(delivered, CLAIM, event)
    later = replace(REQUEST, now=NOW + SECOND)
    assert machine.has_ended_by(machine.claim(delivered, "next", later), CLAIM, event)
    assert not machine.has_ended_by(PAUSED_WAITING, CLAIM, event)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("names", [["paid"], ["paid", "paid", "other"]])
def test_a_message_is_counted_in_any_state_and_changes_nothing_else(
    status: Status, names: list[str]
) -> None:
    workflow = replace(STATES[status], mail=4)
    delivered = machine.deliver(workflow, names, NOW - SECOND)
    assert delivered == replace(workflow, mail=4 + len(names))


@pytest.mark.parametrize("waiting", [WAITING, PAUSED_WAITING], ids=lambda found: found.status)
@pytest.mark.parametrize("names", [["refused"], ["other", "paid"]])
def test_a_message_wakes_a_workflow_that_waits_for_it(waiting: Workflow, names: list[str]) -> None:
    woken = machine.deliver(waiting, names, NOW)
    assert woken == replace(waiting, timeout_at=NOW, waiting_for=(), mail=len(names))


@pytest.mark.parametrize("waiting", [WAITING, PAUSED_WAITING], ids=lambda found: found.status)
def test_a_message_of_another_name_wakes_nothing(waiting: Workflow) -> None:
    assert machine.deliver(waiting, ["other", "Paid"], NOW) == replace(waiting, mail=2)


def test_a_message_does_not_put_off_a_workflow_that_is_due() -> None:
    woken = machine.deliver(WAITING, ["paid"], NOW + 5 * SECOND)
    assert woken.timeout_at == WAITING.timeout_at


def test_a_message_leaves_the_lease_of_another_library_alone() -> None:
    by_javascript = replace(WAITING, status=Status.RUNNING)  # it knows no `waiting_for`
    assert machine.deliver(by_javascript, ["paid"], NOW) == replace(by_javascript, mail=1)


def test_a_paused_workflow_that_was_woken_is_due_once_it_is_resumed() -> None:
    woken = machine.deliver(PAUSED_WAITING, ["paid"], NOW)
    assert not machine.is_due(woken, NOW)
    assert machine.is_due(machine.control(woken, Transition.RESUME, NOW, None), NOW)


def test_a_workflow_waits_on_after_a_pause() -> None:
    resumed = machine.control(PAUSED_WAITING, Transition.RESUME, NOW, None)
    assert (resumed.waiting_for, resumed.timeout_at) == (WAITING.waiting_for, WAITING.timeout_at)


def test_a_claimed_workflow_waits_for_nothing() -> None:
    later = replace(REQUEST, now=NOW + SECOND)
    assert machine.claim(WAITING, "next", later).waiting_for == ()


@pytest.mark.parametrize("waiting", [WAITING, PAUSED_WAITING], ids=lambda found: found.status)
def test_a_cancelled_workflow_waits_for_nothing(waiting: Workflow) -> None:
    assert machine.control(waiting, Transition.CANCEL, NOW, "why").waiting_for == ()


# A workflow has relatives -------------------------------------------------------------------------

PARENT = Parent(workflow_id="p", created_at=NOW)


def test_a_child_is_unsettled_from_its_creation() -> None:
    child = NewWorkflow(workflow_id="w", handler_id="h", input=None, created_at=NOW, parent=PARENT)
    assert machine.create(child) == replace(IDLE, parent=PARENT, unsettled=True)


@pytest.mark.parametrize("status", Status)
def test_a_workflow_is_unsettled_from_its_first_child_to_the_care_for_it(status: Status) -> None:
    workflow = STATES[status]
    adopted = machine.adopt(workflow)
    assert adopted == replace(workflow, unsettled=True)
    assert machine.settle(adopted) == workflow


@pytest.mark.parametrize("status", Status)
def test_only_the_end_that_was_seen_is_settled(status: Status) -> None:
    workflow = STATES[status]
    seen = workflow.standing
    assert machine.is_settled_by(workflow, seen) is status.ended
    assert machine.is_settled_by(seen, seen) is status.ended
    assert not machine.is_settled_by(None, seen)
    for other in (
        replace(workflow, controls=workflow.controls + 1),
        replace(workflow, created_at=NOW + SECOND),
    ):
        assert not machine.is_settled_by(other, seen)


def test_a_later_workflow_of_the_same_id_is_not_the_parent() -> None:
    parent = replace(IDLE, workflow_id="p")
    assert machine.is_parent(PARENT, parent)
    assert machine.is_parent(PARENT, parent.standing)
    assert not machine.is_parent(PARENT, replace(parent, created_at=NOW + SECOND))
    assert not machine.is_parent(PARENT, IDLE)
    assert not machine.is_parent(PARENT, None)


# Changes as data ----------------------------------------------------------------------------------


def _touched(moved: Change) -> list[str]:
    by_field = (moved.set, moved.clear, moved.add, moved.at_least, moved.at_most, moved.append)
    late = moved.not_before.keys() - moved.set.keys()  # the one way that may follow another
    return [*late, *(name for names in by_field for name in names)]


@pytest.mark.parametrize("moved", CHANGES)
def test_a_change_touches_fields_of_the_model_each_in_one_way(moved: Change) -> None:
    touched = Counter(_touched(moved))
    assert touched.keys() <= {field.name for field in fields(Workflow)}
    assert set(touched.values()) == {1}


@pytest.mark.parametrize("moved", CHANGES)
def test_a_change_leaves_the_other_fields_alone(moved: Change) -> None:
    before = replace(
        RUNNING,
        crashes=3,
        failed_steps=(FAILED_STEP,),
        reason="before",
        waiting_for=("before",),
        mail=3,
    )
    after = moved.apply(before)
    others = {field.name for field in fields(Workflow)} - set(_touched(moved))
    assert {name: getattr(after, name) for name in others} == {
        name: getattr(before, name) for name in others
    }


@pytest.mark.parametrize("event", MOVING)
def test_the_changes_of_a_transition_start_at_its_sources_and_lead_to_its_target(
    event: Transition,
) -> None:
    # There are two ways to park: until an instant, and until a message.
    changes = [moved for moved in CHANGES if moved.event is event and moved is not WAIT]
    starts = Counter(status for moved in changes for status in moved.sources)
    assert starts == Counter(machine.sources(event))
    assert {moved.set["status"] for moved in changes} == {machine.target(event)}


@pytest.mark.parametrize("event", [event for event in Transition if event not in machine.CONTROL])
def test_only_control_comes_from_outside(event: Transition) -> None:
    assert change.control(event, NOW, None) == ()


def test_a_change_is_applied_field_by_field() -> None:
    entry = ClaimEntry(worker="worker", claimed_at=NOW, after_crash=True)
    before = replace(RUNNING, claims=2, failures=1, error=ERROR, timeout_at=NOW, started_at=NOW)
    moved = Change(
        set={"worker": "other"},
        clear=("error", "failed_steps"),
        add={"failures": 2},
        at_least={"timeout_at": NOW + SECOND, "claims": 1},
        at_most={"started_at": NOW + SECOND, "finished_at": NOW},
        append={"claim_log": entry},
        keep=1,
    )
    assert moved.apply(replace(before, failed_steps=(FAILED_STEP,))) == replace(
        before,
        worker="other",
        error=None,
        failures=3,
        timeout_at=NOW + SECOND,
        finished_at=NOW,
        claim_log=(entry,),
    )


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("token", ["token", "other", None])
@pytest.mark.parametrize("failures", [0, 1])
def test_the_guard_of_a_claim_says_what_in_force_says(
    status: Status, token: str | None, failures: int
) -> None:
    workflow = replace(RUNNING, status=status, claim_token=token, failures=failures)
    matches = all(getattr(workflow, name) == has for name, has in machine.guard(CLAIM).items())
    assert machine.in_force(workflow, CLAIM) is matches


# Restarts -----------------------------------------------------------------------------------------


def test_a_restarted_workflow_begins_anew_with_another_input() -> None:
    before = replace(RUNNING, failures=2, crashes=1, error=ERROR, failed_steps=(FAILED_STEP,))
    after = machine.restart(before, "again", NOW + SECOND)
    assert (after.status, after.timeout_at, after.input) == (Status.IDLE, NOW + SECOND, "again")
    assert (after.failures, after.crashes, after.error, after.failed_steps) == (0, 0, None, ())
    assert (after.generation, after.restarted_at) == (1, NOW + SECOND)
    assert (after.created_at, after.claims, after.mail) == (before.created_at, 1, before.mail)


def test_no_two_generations_begin_at_the_same_instant() -> None:
    millisecond = timedelta(milliseconds=1)
    first = machine.restart(replace(RUNNING, created_at=NOW), None, NOW)
    assert first.begun_at == NOW + millisecond
    second = machine.restart(replace(RUNNING, restarted_at=NOW + SECOND), None, NOW)
    assert second.begun_at == NOW + SECOND + millisecond
    assert second.timeout_at == NOW
    foreign = machine.restart(replace(RUNNING, created_at=None), None, NOW)
    assert foreign.begun_at == NOW


def test_a_claim_is_not_of_another_generation() -> None:
    assert machine.is_of(CLAIM, RUNNING)
    assert not machine.is_of(CLAIM, machine.restart(RUNNING, None, NOW))
    assert not machine.in_force(machine.restart(RUNNING, None, NOW), CLAIM)


@pytest.mark.parametrize(
    ("start_at", "restarted_at", "counts_from"),
    [(None, None, NOW), (None, NOW + SECOND, NOW + SECOND), (NOW + SECOND, NOW, NOW + SECOND)],
)
def test_a_deadline_counts_from_the_last_start(
    start_at: datetime | None, restarted_at: datetime | None, counts_from: datetime
) -> None:
    workflow = replace(RUNNING, created_at=NOW, start_at=start_at, restarted_at=restarted_at)
    assert machine.deadline_at(workflow, SECOND) == counts_from + SECOND

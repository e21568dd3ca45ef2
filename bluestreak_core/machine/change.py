"""What each transition does to a stored workflow, as data.

A store that holds the record calls `Change.apply`. A store with a query language turns a change
into one statement, and need not read the record first:

    UPDATE workflows SET status = 'idle', timeout_at = :wake_up_at WHERE workflow_id = :id
       AND status = 'running' AND claim_token = :token AND failures = :failures

The fields to set are those of the `Change`. The condition is `machine.guard` of the claim, or,
for a transition that needs no claim, that the status is one of the change's `sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from bluestreak_core.machine.table import (
    CONTROL,
    Transition,
    end_transition,
    failure_transition,
    held,
    sources,
    target,
    waiting,
)
from bluestreak_core.model import (
    ClaimEntry,
    ClaimRequest,
    ErrorRecord,
    FailedStep,
    Failure,
    Published,
    Status,
    Workflow,
)

MAX_CLAIM_LOG = 20
"""A workflow's claim log keeps this many entries, the newest."""

_MILLISECOND = timedelta(milliseconds=1)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Change(NamedTuple):
    """How a workflow changes, by the names of the fields of `Workflow`.

    No field appears twice, and no new value depends on another field, except in `not_before`. Every
    claim and every ending makes a change, so it is a named tuple: a frozen dataclass takes three
    times as long to make.
    """

    event: Transition | None = None
    """The transition that this is; None for a change that leaves the claim in force."""

    sources: tuple[Status, ...] = (Status.RUNNING,)
    """The states in which the workflow may be."""

    when: Mapping[str, Any] = _NOTHING
    """The values that other fields must have. A field with an empty value may be missing."""

    set: Mapping[str, Any] = _NOTHING
    """The new values."""

    clear: tuple[str, ...] = ()
    """The fields that become empty again, as they were when the workflow was created."""

    add: Mapping[str, int] = _NOTHING
    """The numbers to add to counts."""

    at_least: Mapping[str, Any] = _NOTHING
    """New values for fields that are smaller."""

    at_most: Mapping[str, Any] = _NOTHING
    """New values for fields that are larger or empty."""

    not_before: Mapping[str, str] = _NOTHING
    """Instants that, after all else, become at least what another field was before the change.

    An empty field is before every instant.
    """

    append: Mapping[str, Any] = _NOTHING
    """The entry to add at the end of a list of entries."""

    keep: int | None = None
    """The list keeps this many entries, the newest; None is all."""

    def apply(self, workflow: Workflow) -> Workflow:
        """The changed workflow. The caller has checked the guard."""
        changed = {**vars(workflow), **self.set}
        for name in self.clear:
            changed.pop(name, None)
        for name, count in self.add.items():
            changed[name] = getattr(workflow, name) + count
        for name, value in self.at_least.items():
            changed[name] = max(getattr(workflow, name), value)
        for name, value in self.at_most.items():
            changed[name] = min(getattr(workflow, name) or value, value)
        for name, other in self.not_before.items():
            instants = (changed.get(name), getattr(workflow, other))
            changed[name] = max((at for at in instants if at is not None), default=None)
        for name, entry in self.append.items():
            entries = (*getattr(workflow, name), entry)
            changed[name] = entries if self.keep is None else entries[-self.keep :]
        return Workflow.of(changed)


def replaced(workflow: Workflow, **changed: Any) -> Workflow:
    """`dataclasses.replace` at a fraction of its cost, which each call of a store pays."""
    return Workflow.of({**vars(workflow), **changed})


def claim(
    token: str,
    request: ClaimRequest,
    *,
    crashed: bool,
    event: Transition = Transition.CLAIM,
) -> Change:
    """A due workflow gets a claim; `crashed` if it had one, so that its lease has run out.

    `event` is one of the `CLAIMS`.
    """
    entry = ClaimEntry(worker=request.worker, claimed_at=request.now, after_crash=crashed)
    return Change(
        event=event,
        sources=_claimed_from(event, crashed=crashed),
        set={
            "status": target(event),
            "timeout_at": request.now + request.lease,
            "claim_token": token,
            "worker": request.worker,
        },
        clear=("waiting_for",),
        add={"claims": 1, "crashes": int(crashed)},
        at_most={"started_at": request.now},
        append={"claim_log": entry},
        keep=MAX_CLAIM_LOG,
    )


@cache
def _claimed_from(event: Transition, *, crashed: bool) -> tuple[Status, ...]:
    among = held() if crashed else waiting()
    return tuple(status for status in sources(event) if status in among)


def renew(now: datetime, lease: timedelta) -> Change:
    """The lease of the claim in force starts again now, unless that would shorten it."""
    return Change(at_least={"timeout_at": now + lease})


def progress() -> Change:
    """A step or a nap was recorded under the claim in force: crashes are counted afresh."""
    return Change(set={"crashes": 0})


def fail_step(failed: FailedStep) -> Change:
    """A step was given up under the claim in force, which is progress too.

    Its guard is also that no failed step of this id is there.
    """
    return Change(set={"crashes": 0}, append={"failed_steps": failed})


def publish(published: tuple[Published, ...]) -> Change:
    """The latest values that were published under the claim in force. This is no progress."""
    return Change(set={"published": published})


def park(wake_up_at: datetime) -> Change:
    """The claim is given back until the nap ends."""
    return _ending(Transition.PARK, wake_up_at)


def wait(wake_up_at: datetime, names: tuple[str, ...]) -> Change:
    """`park`, until a message of one of these names is sent, but no longer than until the instant.

    Its guard is also that `mail` is still what it was when the mailbox was found empty. If it is
    not, the change is `release`.
    """
    return _ending(Transition.PARK, wake_up_at, waiting_for=names)


def deliver(count: int) -> Change:
    """So many messages were sent, in whatever state the workflow is."""
    return Change(sources=tuple(Status), add={"mail": count})


def wake(now: datetime, count: int) -> Change:
    """So many messages were sent, and the workflow is parked until one of them comes."""
    return Change(
        event=Transition.WAKE,
        sources=sources(Transition.WAKE),
        clear=("waiting_for",),
        add={"mail": count},
        at_most={"timeout_at": now},
    )


def adopt() -> Change:
    """The holder of the claim is about to start a child, which its end will concern."""
    return Change(set={"unsettled": True})


def settle() -> Change:
    """The children and the parent of a workflow that has ended have been seen to.

    Its guard is also that the workflow is the one that was seen, by `created_at`, and has ended as
    it was seen, by `controls`: no retry is between.
    """
    return Change(sources=tuple(status for status in Status if status.ended), clear=("unsettled",))


def release(now: datetime) -> Change:
    """The claim is given back, and the workflow is due immediately."""
    return _ending(Transition.RELEASE, now)


def restart(workflow: Workflow, input: Any, now: datetime) -> Change:
    """The handler starts over: a new generation with another input, due immediately.

    `workflow` is the record of the claim in force.
    """
    begun_at = workflow.begun_at
    restarted_at = now if begun_at is None else max(now, begun_at + _MILLISECOND)
    anew = {"restarted_at": restarted_at, "failures": 0, "crashes": 0}
    return _ending(Transition.RESTART, now, input=input, **anew)._replace(
        clear=("error", "failed_steps", "beats", "compensates"), add={"generation": 1}
    )


def finish(result: Any, now: datetime) -> Change:
    """The handler returned."""
    return _ending(Transition.FINISH, now, result=result, finished_at=now)


def fail(failure: Failure, now: datetime) -> Change:
    """The handler raised: due again at the retry instant, or aborted if there is none."""
    event = failure_transition(failure)
    ended = {"finished_at": now} if event is Transition.ABORT else {}
    moved = {
        "status": target(event),
        "timeout_at": failure.retry_at or now,
        "error": failure.error,
    }
    return Change(event=event, set=moved | ended, add={"failures": 1})


def promise() -> Change:
    """The workflow has registered a compensation under the claim in force."""
    return Change(set={"compensates": True})


def give_up(error: ErrorRecord, now: datetime) -> Change:
    """The handler raised, and is not tried again: the compensations are due."""
    stopped = _stopped(Transition.GIVE_UP, Status.ABORTED, now)
    moved = {**stopped, "timeout_at": now, "error": error}
    return Change(event=Transition.GIVE_UP, set=moved, add={"failures": 1})


def hand_over(now: datetime) -> tuple[Change, Change]:
    """The run whose claim was taken from outside is over: nothing has to wait for its lease.

    There is one change for a paused workflow, and one for a stopping one, which is due at once.
    Their guard is that nothing else has happened since, see `machine.was_taken`.
    """
    return (
        Change(sources=(Status.PAUSED,), clear=("leased_until",)),
        Change(sources=(Status.STOPPING,), at_most={"timeout_at": now}),
    )


def postpone(wake_up_at: datetime) -> Change:
    """The claim of a compensating workflow is given back until an instant."""
    return _ending(Transition.POSTPONE, wake_up_at)._replace(sources=(Status.COMPENSATING,))


def end_compensated(outcome: Status | None, now: datetime) -> Change:
    """The compensations have run, and the workflow ends as was decided before."""
    ended = _ending(end_transition(outcome), now, finished_at=now)
    return ended._replace(sources=(Status.COMPENSATING,))


def _stopped(event: Transition, outcome: Status, now: datetime) -> dict[str, Any]:
    """What is set when a workflow is to end as `outcome`. Its crashes are counted afresh."""
    return {
        "status": target(event),
        "outcome": outcome,
        "stopped_at": now,
        "crashes": 0,
    }


def _apart_from_running(moved: Change, **others: Any) -> tuple[Change, Change]:
    """The change for all sources but `running`, which sets some more, and for that."""
    sources = tuple(status for status in moved.sources if status is not Status.RUNNING)
    return (
        moved._replace(sources=sources, set={**moved.set, **others}),
        moved._replace(sources=(Status.RUNNING,)),
    )


def _ending(event: Transition, timeout_at: datetime, **moved: Any) -> Change:
    moved = {"status": target(event), "timeout_at": timeout_at, **moved}
    return Change(event=event, set=moved)


def control(event: Transition, now: datetime, reason: str | None) -> tuple[Change, ...]:
    """A transition from outside, which takes the claim from its holder.

    There is one change for each group of states from which it does the same, and which the field
    of a workflow may divide further. A workflow that is marked for deletion must not be changed.
    """
    if event not in CONTROL:
        return ()
    taken = Change(
        event=event,
        sources=sources(event),
        set={"status": target(event)},
        clear=("claim_token",),
        add={"controls": 1},
    )
    match event:
        case Transition.CANCEL:
            ended = {"timeout_at": now, "finished_at": now, "reason": reason}
            cleared = (*taken.clear, "waiting_for")
            stopped = _stopped(Transition.STOP, Status.CANCELLED, now) | {"reason": reason}
            stop = Transition.STOP
            apart, running = _apart_from_running(
                taken._replace(event=stop, set=stopped, clear=cleared, when={"compensates": True}),
                timeout_at=now,
            )
            return (
                taken._replace(
                    set={**taken.set, **ended}, clear=cleared, when={"compensates": False}
                ),
                # A run from which a pause took it may still be in a step.
                apart._replace(not_before={"timeout_at": "leased_until"}),
                running,
            )
        case Transition.RETRY:
            anew = {"timeout_at": now, "start_at": now, "failures": 0, "crashes": 0}
            anew["unsettled"] = True  # its next end is another one
            forgotten = ("failed_steps", "finished_at", "error", "reason")
            return (
                taken._replace(
                    set={**taken.set, **anew},
                    clear=taken.clear + forgotten,
                    add={**taken.add, "retries": 1},
                    when={"outcome": None},
                ),
            )
        case Transition.PAUSE:
            # A workflow that waits for an instant goes on waiting for it. A running one has been
            # claimed at least once, though the JavaScript library does not count that.
            apart, running = _apart_from_running(taken)
            running = running._replace(
                set={**running.set, "timeout_at": now},
                at_least={"claims": 1},
                not_before={"leased_until": "timeout_at"},
            )
            return (apart, running)
    return (taken,)

"""The workflow state machine: one table.

A workflow is created `idle`. A transition moves it along one of the arrows in `TRANSITIONS`. A
transition that has no arrow from the workflow's state is refused, and a refusal changes nothing.
States without exits are listed with empty rows, so the table is complete.

    idle, failed, running --claim--> running --park, release--> idle
                                             --restart--------> idle      (a new generation)
                                             --finish---------> finished
                                             --fail-----------> failed    (will be tried again)
                                             --abort----------> aborted   (will not)
    idle, failed, running --pause--> paused  --resume---------> idle
    idle, failed, running, paused    --cancel---------> cancelled
    aborted, cancelled               --retry----------> idle
    idle, paused                     --wake-----------> the same

A workflow that has registered compensations, which says its field `compensates`, takes another way
to its end, on which they run:

    idle, failed, running, paused --stop--> stopping           (instead of cancel)
    running                    --give up--> stopping           (instead of abort)
    stopping --compensate--> compensating --postpone---------> stopping
                                          --end aborted------> aborted
                                          --end cancelled----> cancelled

Each transition has a guard besides its arrow. There are four kinds:

- `claim` and `compensate` make a claim, and need a workflow that is *due*: `timeout_at` has come.
  That one instant is the due time of an `idle`, `failed` or `stopping` workflow, and the end of the
  lease of a `running` or `compensating` one. So claiming one of the latter means taking over from a
  worker that died.
- `park`, `release`, `restart`, `finish`, `fail`, `abort` and `give up` end a claim that a `claim`
  has made; `postpone`, `end aborted` and `end cancelled` end one that a `compensate` has made. They
  need the *claim in force*: the workflow is in the state that the claim has put it in, and the
  caller's claim is its newest. Any other call is stale and raises `ClaimLost`.
- `cancel`, `stop`, `pause`, `resume` and `retry` come from outside, need no claim, and take it from
  its holder. A caller asks for `cancel`, and the field decides whether that is a `stop`. A `retry`
  needs a workflow that has not compensated, since the effects of its steps are undone. They raise
  `TransitionRefused` if they have no arrow, or if the workflow is marked for deletion.
- `wake` happens to a workflow that was parked until a message comes, when one is sent that it
  waits for: it becomes due at once, or when it is resumed. It needs no claim, and there is none.

A `stop` that takes the claim of a running workflow leaves `timeout_at` alone, the end of its lease:
its run may still be in a step, and nothing is undone beside that. Once the run is over, its worker
hands the workflow over, which is then due at once. A `pause` that takes a claim keeps the end of
the lease in `leased_until`, before which a later `stop` makes nothing due. Once the run is over,
its worker clears that.

A workflow that restarts keeps its id, its creation and its mailbox, and gets another input. What it
has recorded belongs to its last *generation*: from that moment it counts as another workflow's, and
so does what a stale run of that generation still records.

A workflow that waits for messages is parked only if none was sent since it last looked: `mail`
counts them, and if the count has changed, the workflow is released instead. So no message is
overlooked, whenever it is sent.

An ending may arrive twice, since a caller that got no answer has to ask again. A repeat is accepted
and changes nothing; `has_ended_by` distinguishes it from a stale call. The token stays on the
record after its claim has ended. Once the next claim has replaced the token, the claim log shows
whether that claim took over or found the workflow given back. A transition from outside in between
may be what ended the claim, so then the call counts as stale.

The diagram in the documentation is drawn from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache

from bluestreak_core.model import Failure, Status

PRUNED = "pruned"
"""The state that refusals name for a workflow that is marked for deletion."""

COMPENSATED = "compensated"
"""The state that refusals name for a workflow whose compensations have run."""

RESTARTED = "restarted"
"""The state that refusals name for a fork of a workflow that restarts meanwhile."""

FORKING = "forking"
"""The state that refusals name for a fork whose records are still being copied."""


class Transition(StrEnum):
    """What can happen to a workflow."""

    CLAIM = "claim"
    PARK = "park"
    RELEASE = "release"
    RESTART = "restart"
    FINISH = "finish"
    FAIL = "fail"
    ABORT = "abort"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    WAKE = "wake"
    STOP = "stop"
    GIVE_UP = "give up"
    COMPENSATE = "compensate"
    POSTPONE = "postpone"
    END_ABORTED = "end aborted"
    END_CANCELLED = "end cancelled"


TRANSITIONS: Mapping[Status, Mapping[Transition, Status]] = {
    Status.IDLE: {
        Transition.CLAIM: Status.RUNNING,
        Transition.WAKE: Status.IDLE,
        Transition.PAUSE: Status.PAUSED,
        Transition.CANCEL: Status.CANCELLED,
        Transition.STOP: Status.STOPPING,
    },
    Status.FAILED: {
        Transition.CLAIM: Status.RUNNING,
        Transition.PAUSE: Status.PAUSED,
        Transition.CANCEL: Status.CANCELLED,
        Transition.STOP: Status.STOPPING,
    },
    Status.RUNNING: {
        Transition.CLAIM: Status.RUNNING,
        Transition.PARK: Status.IDLE,
        Transition.RELEASE: Status.IDLE,
        Transition.RESTART: Status.IDLE,
        Transition.FINISH: Status.FINISHED,
        Transition.FAIL: Status.FAILED,
        Transition.ABORT: Status.ABORTED,
        Transition.GIVE_UP: Status.STOPPING,
        Transition.PAUSE: Status.PAUSED,
        Transition.CANCEL: Status.CANCELLED,
        Transition.STOP: Status.STOPPING,
    },
    Status.PAUSED: {
        Transition.WAKE: Status.PAUSED,
        Transition.RESUME: Status.IDLE,
        Transition.CANCEL: Status.CANCELLED,
        Transition.STOP: Status.STOPPING,
    },
    Status.STOPPING: {
        Transition.COMPENSATE: Status.COMPENSATING,
    },
    Status.COMPENSATING: {
        Transition.COMPENSATE: Status.COMPENSATING,
        Transition.POSTPONE: Status.STOPPING,
        Transition.END_ABORTED: Status.ABORTED,
        Transition.END_CANCELLED: Status.CANCELLED,
    },
    Status.FINISHED: {},
    Status.ABORTED: {
        Transition.RETRY: Status.IDLE,
    },
    Status.CANCELLED: {
        Transition.RETRY: Status.IDLE,
    },
}

CONTROL = (Transition.CANCEL, Transition.PAUSE, Transition.RESUME, Transition.RETRY)
"""The transitions that callers ask for from outside, and that need no claim."""

CLAIMS = (Transition.CLAIM, Transition.COMPENSATE)
"""The transitions that make a claim."""


@cache
def sources(event: Transition) -> tuple[Status, ...]:
    """The states from which a transition has an arrow."""
    return tuple(status for status, row in TRANSITIONS.items() if event in row)


@cache
def claimable() -> tuple[Status, ...]:
    """The states of a workflow that is claimed once it is due."""
    return tuple(status for event in CLAIMS for status in sources(event))


@cache
def held() -> tuple[Status, ...]:
    """The states of a workflow that somebody has a claim on."""
    return tuple(target(event) for event in CLAIMS)


@cache
def waiting() -> tuple[Status, ...]:
    """The states of a workflow that nobody runs and that is claimed once it is due."""
    return tuple(status for status in claimable() if status not in held())


@cache
def claiming(status: Status) -> Transition:
    """The transition by which a workflow in this state is claimed. Raises `KeyError`."""
    return {source: event for event in CLAIMS for source in sources(event)}[status]


@cache
def taking() -> tuple[Status, ...]:
    """The states in which a transition from outside has left a workflow that somebody ran."""
    events = (Transition.CANCEL, Transition.PAUSE, Transition.STOP)
    return tuple(target(event) for event in events)


@cache
def target(event: Transition) -> Status:
    """The state that a transition leads to, which is the same from each of its sources.

    `wake`, which leaves the state alone, has none.
    """
    (status,) = {row[event] for row in TRANSITIONS.values() if event in row}
    return status


def end_transition(outcome: Status | None) -> Transition:
    """What ends a workflow that has compensated, and was to end as this."""
    return Transition.END_ABORTED if outcome is Status.ABORTED else Transition.END_CANCELLED


def failure_transition(failure: Failure) -> Transition:
    """`fail` if another try is to come, else `abort`."""
    return Transition.ABORT if failure.retry_at is None else Transition.FAIL

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

Each transition has a guard besides its arrow. There are four kinds:

- `claim` needs a workflow that is *due*: `timeout_at` has come. That one instant is the due time of
  an `idle` or `failed` workflow and the end of the lease of a `running` one. So claiming a
  `running` workflow means taking over from a worker that died.
- `park`, `release`, `restart`, `finish`, `fail` and `abort` end a claim, and need the *claim in
  force*: the workflow is `running`, and the caller's claim is its newest. Any other call is stale
  and raises `ClaimLost`.
- `cancel`, `pause`, `resume` and `retry` come from outside, need no claim, and take it from its
  holder. They raise `TransitionRefused` if they have no arrow, or if the workflow is marked for
  deletion.
- `wake` happens to a workflow that was parked until a message comes, when one is sent that it
  waits for: it becomes due at once, or when it is resumed. It needs no claim, and there is none.

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


TRANSITIONS: Mapping[Status, Mapping[Transition, Status]] = {
    Status.IDLE: {
        Transition.CLAIM: Status.RUNNING,
        Transition.WAKE: Status.IDLE,
        Transition.PAUSE: Status.PAUSED,
        Transition.CANCEL: Status.CANCELLED,
    },
    Status.FAILED: {
        Transition.CLAIM: Status.RUNNING,
        Transition.PAUSE: Status.PAUSED,
        Transition.CANCEL: Status.CANCELLED,
    },
    Status.RUNNING: {
        Transition.CLAIM: Status.RUNNING,
        Transition.PARK: Status.IDLE,
        Transition.RELEASE: Status.IDLE,
        Transition.RESTART: Status.IDLE,
        Transition.FINISH: Status.FINISHED,
        Transition.FAIL: Status.FAILED,
        Transition.ABORT: Status.ABORTED,
        Transition.PAUSE: Status.PAUSED,
        Transition.CANCEL: Status.CANCELLED,
    },
    Status.PAUSED: {
        Transition.WAKE: Status.PAUSED,
        Transition.RESUME: Status.IDLE,
        Transition.CANCEL: Status.CANCELLED,
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
"""The transitions that come from outside and need no claim."""


@cache
def sources(event: Transition) -> tuple[Status, ...]:
    """The states from which a transition has an arrow."""
    return tuple(status for status, row in TRANSITIONS.items() if event in row)


@cache
def waiting() -> tuple[Status, ...]:
    """The states of a workflow that nobody runs and that is claimed once it is due."""
    return tuple(status for status in sources(Transition.CLAIM) if status is not Status.RUNNING)


@cache
def target(event: Transition) -> Status:
    """The state that a transition leads to, which is the same from each of its sources.

    `wake`, which leaves the state alone, has none.
    """
    (status,) = {row[event] for row in TRANSITIONS.values() if event in row}
    return status


def failure_transition(failure: Failure) -> Transition:
    """`fail` if another try is to come, else `abort`."""
    return Transition.ABORT if failure.retry_at is None else Transition.FAIL

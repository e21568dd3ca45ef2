"""What can be done to a workflow, by its state."""

from __future__ import annotations

from bluestreak_core import Status
from bluestreak_core.machine import CONTROL, TRANSITIONS, Transition

BULK: tuple[Transition, ...] = (
    *(Transition.CANCEL, Transition.PAUSE, Transition.RESUME, Transition.RETRY),
)
"""What can be done to many at once. Once it is done, a workflow is in no state that allows it."""


def allowing(action: Transition) -> tuple[Status, ...]:
    """The states in which a workflow can be controlled so."""
    return tuple(status for status in Status if action in TRANSITIONS[status])


def offered(status: Status) -> list[str]:
    """The actions that the page of a workflow in this state offers."""
    controls = [action.value for action in CONTROL if action in TRANSITIONS[status]]
    return [*controls, *([] if status is Status.FINISHED else ["send"]), "fork"]

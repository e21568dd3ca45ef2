"""The workflow state machine, in three files to be read in this order.

- `table`: the states and the transitions between them, with the whole story.
- `change`: what each transition does to a record, as data that any store can carry out.
- `decision`: pure functions that say which call is stale and make a new record of an old one.

Nothing here does I/O or reads a clock.
"""

from bluestreak_core.machine import change
from bluestreak_core.machine.change import MAX_CLAIM_LOG, Change
from bluestreak_core.machine.decision import (
    claim,
    control,
    control_change,
    crashed_too_often,
    create,
    deadline_at,
    deliver,
    fail,
    fail_step,
    finish,
    fork,
    guard,
    has_ended_by,
    in_force,
    is_due,
    is_first_run,
    is_of,
    is_suspect,
    latest_attempts,
    lost,
    park,
    progress,
    release,
    renew,
    retry_at,
    wait,
    wait_change,
)
from bluestreak_core.machine.table import (
    CONTROL,
    FORKING,
    PRUNED,
    TRANSITIONS,
    Transition,
    failure_transition,
    sources,
    target,
    waiting,
)

__all__ = [
    "CONTROL",
    "FORKING",
    "MAX_CLAIM_LOG",
    "PRUNED",
    "TRANSITIONS",
    "Change",
    "Transition",
    "change",
    "claim",
    "control",
    "control_change",
    "crashed_too_often",
    "create",
    "deadline_at",
    "deliver",
    "fail",
    "fail_step",
    "failure_transition",
    "finish",
    "fork",
    "guard",
    "has_ended_by",
    "in_force",
    "is_due",
    "is_first_run",
    "is_of",
    "is_suspect",
    "latest_attempts",
    "lost",
    "park",
    "progress",
    "release",
    "renew",
    "retry_at",
    "sources",
    "target",
    "wait",
    "wait_change",
    "waiting",
]

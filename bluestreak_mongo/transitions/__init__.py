"""The state machine written as filters and updates.

Updates are translated from `bluestreak_core.machine.change`, which says what each transition does.
"""

from bluestreak_mongo.transitions.claiming import (
    HELD,
    any_in_force,
    claim,
    due,
    due_between,
    hand_over,
    in_force,
    lost,
    never_due,
    one_of,
    renew,
    stamped,
    stamped_now,
    still_due,
    still_new,
    taken_from,
)
from bluestreak_mongo.transitions.controlling import complete_fork, control
from bluestreak_mongo.transitions.family import live_children, settle, settled_by, unsettled
from bluestreak_mongo.transitions.message import count, deliver, reachable, reachable_awake, wait
from bluestreak_mongo.transitions.record import (
    RETRACT,
    announce,
    announced,
    fail_step,
    in_transaction,
    of_generation,
    progress,
    publish,
    without_failed_step,
)
from bluestreak_mongo.transitions.retention import discard, ended_before, left_behind, mark, marked
from bluestreak_mongo.transitions.updating import update

__all__ = [
    "HELD",
    "RETRACT",
    "announce",
    "announced",
    "any_in_force",
    "claim",
    "complete_fork",
    "control",
    "count",
    "deliver",
    "discard",
    "due",
    "due_between",
    "ended_before",
    "fail_step",
    "hand_over",
    "in_force",
    "in_transaction",
    "left_behind",
    "live_children",
    "lost",
    "mark",
    "marked",
    "never_due",
    "of_generation",
    "one_of",
    "progress",
    "publish",
    "reachable",
    "reachable_awake",
    "renew",
    "settle",
    "settled_by",
    "stamped",
    "stamped_now",
    "still_due",
    "still_new",
    "taken_from",
    "unsettled",
    "update",
    "wait",
    "without_failed_step",
]

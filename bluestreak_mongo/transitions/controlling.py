"""Moving workflows from outside."""

from __future__ import annotations

from datetime import datetime

from bluestreak_core import machine
from bluestreak_core.machine import Change, Transition, change
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.transitions.updating import FIELDS, in_any, or_missing, pipeline, update


def control(
    event: Transition, now: datetime, reason: str | None
) -> list[tuple[Document, Document | list[Document]]]:
    """For each group of states from which a transition does the same: a filter and its update."""
    whole: Document = {}
    if event is not Transition.PAUSE:
        whole[wf.PRUNED_AT] = None
        if event is not Transition.CANCEL:  # the only one for a fork without all of its records
            whole[wf.FORKING] = None
    return [
        (
            in_any(moved.sources) | _when(moved) | whole,
            pipeline(moved) if moved.not_before else update(moved),
        )
        for moved in change.control(event, now, reason)
    ]


def _when(moved: Change) -> Document:
    """Matches the values that other fields must have; an empty one may be missing."""
    return {FIELDS[name]: or_missing(value) for name, value in moved.when.items()}


def complete_fork(now: datetime) -> Document:
    """Lets a fork begin that has all of its records."""
    due = {wf.STATUS: machine.target(Transition.RESUME).value, wf.TIMEOUT_AT: now}
    return {"$set": due, "$unset": {wf.FORKING: 1}}

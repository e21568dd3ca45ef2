"""Deleting workflows that have ended."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from bluestreak_core import machine
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Status,
)
from bluestreak_core.store import ENDED
from bluestreak_mongo.schema import FIRST_DATE, Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.transitions.updating import in_any

_MARK = datetime(1970, 1, 1, tzinfo=UTC)
"""The end that a workflow marked for deletion is given: the index has those first."""


def ended_before(instant: datetime, statuses: Collection[Status]) -> Document:
    """Matches the workflows that ended before an instant, in one of these states, and are settled.

    It also matches a marked workflow that `left_behind` no longer finds, since the JavaScript
    library still ran it and moved its instant.
    """
    return in_any(statuses) | {
        wf.TIMEOUT_AT: {"$gt": _MARK, "$lt": instant},
        wf.UNSETTLED: {"$ne": True},
    }


def mark(now: datetime) -> Document:
    """Marks a workflow that has ended for deletion."""
    return {"$set": {wf.PRUNED_AT: now, wf.TIMEOUT_AT: _MARK}}


def discard(now: datetime) -> Document:
    """Marks a fork that never had all of its records for deletion, in any state."""
    cancelled: Document = {wf.STATUS: machine.target(Transition.CANCEL).value}
    return {"$set": mark(now)["$set"] | cancelled}


def marked() -> Document:
    """Matches the workflows that are marked for deletion."""
    return {wf.PRUNED_AT: {"$gte": FIRST_DATE}}


def left_behind() -> Document:
    """Matches the workflows that are marked for deletion by the index of due workflows."""
    return in_any(ENDED) | {wf.TIMEOUT_AT: _MARK} | marked()

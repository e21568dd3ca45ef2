"""Counting messages, and waiting for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from bluestreak_core import machine
from bluestreak_core.machine import Transition, change
from bluestreak_core.model import (
    Status,
)
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.transitions.updating import stored, update

_REACHABLE: Document = {wf.STATUS: {"$ne": Status.FINISHED.value}, wf.PRUNED_AT: None}


def wait(wake_up_at: datetime, names: Collection[str], mail: int, now: datetime) -> list[Document]:
    """Parks a workflow until a message comes if `mail` is still the count, else releases it."""
    parked = stored(change.wait(wake_up_at, tuple(names)).set)
    released = stored(change.release(now).set)
    is_same = {"$eq": [{"$ifNull": [f"${wf.MAIL}", 0]}, mail]}
    fields = {
        field: {
            "$cond": [
                is_same,
                {"$literal": value},
                {"$literal": released[field]} if field in released else "$$REMOVE",
            ]
        }
        for field, value in parked.items()
    }
    return [{"$set": fields}]


def reachable(workflow_id: str, created_at: datetime | None) -> Document:
    """Matches a workflow that may still receive messages, and not a later one of the same id."""
    return {wf.WORKFLOW_ID: workflow_id, wf.CREATED_AT: created_at} | _REACHABLE


def reachable_awake(keys: Sequence[Any]) -> Document:
    """Matches those of these documents whose workflows may receive messages, and wait for none."""
    return {"_id": {"$in": keys}, wf.WAITING_FOR: {"$exists": False}} | _REACHABLE


def count(messages: int) -> Document:
    """Counts messages in a workflow that waits for none, for which `deliver` would do the same."""
    return update(change.deliver(messages))


def deliver(names: Sequence[str], now: datetime) -> list[Document]:
    """Counts messages of these names, and wakes the workflow if it waits for one of them."""
    awaited = {
        "$setIntersection": [{"$ifNull": [f"${wf.WAITING_FOR}", []]}, {"$literal": list(names)}]
    }
    statuses = [status.value for status in machine.sources(Transition.WAKE)]
    wakes = {"$and": [{"$in": [f"${wf.STATUS}", statuses]}, {"$ne": [awaited, []]}]}
    woken = stored(change.wake(now, len(names)).at_most)[wf.TIMEOUT_AT]
    due_at = {"$min": [f"${wf.TIMEOUT_AT}", woken]}
    fields = {
        wf.MAIL: {"$add": [{"$ifNull": [f"${wf.MAIL}", 0]}, len(names)]},
        wf.TIMEOUT_AT: {"$cond": [wakes, due_at, f"${wf.TIMEOUT_AT}"]},
        wf.WAITING_FOR: {"$cond": [wakes, "$$REMOVE", f"${wf.WAITING_FOR}"]},
    }
    return [{"$set": fields}]

"""Parents and children."""

from __future__ import annotations

from datetime import datetime

from bluestreak_core import machine
from bluestreak_core.machine import Transition, change
from bluestreak_core.model import (
    Parent,
    Standing,
)
from bluestreak_core.store import ENDED
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.parent import from_parent
from bluestreak_mongo.transitions.updating import in_any, or_missing, update


def settled_by(seen: Standing) -> Document:
    """Matches a workflow that has ended, as long as the end that was seen is its last one."""
    return unsettled() | {
        wf.WORKFLOW_ID: seen.workflow_id,
        wf.CREATED_AT: seen.created_at,
        wf.CONTROLS: or_missing(seen.controls),
    }


def settle() -> Document:
    """Notes that the parent and the children have been seen to."""
    return update(change.settle())


def unsettled() -> Document:
    """Matches the workflows that have ended, and whose parent or children have to be seen to."""
    return in_any(ENDED) | {wf.UNSETTLED: True}


def live_children(workflow_id: str, created_at: datetime | None) -> Document:
    """Matches the children that can be cancelled, and are to end with this parent."""
    live = machine.sources(Transition.CANCEL)
    parent = from_parent(Parent(workflow_id=workflow_id, created_at=created_at))
    return in_any(live) | {f"{wf.PARENT}.{field}": value for field, value in parent.items()}

"""The documents of steps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bluestreak_core.model import Claim, NewMessage, Receipt, Step, Workflow
from bluestreak_mongo.schema.document import STEPS, WORKFLOW_ID, Document
from bluestreak_mongo.schema.message import from_receipt, read_receipt
from bluestreak_mongo.schema.reader import Reader
from bluestreak_mongo.schema.record import SAVED_AT, Owner, own_id

STEP_ID = "stepId"
OUTPUT = "output"


def from_step(workflow: Workflow, step_id: str, output: Any, saved_at: datetime) -> Document:
    """The document of a step."""
    owner = Owner.of(workflow)
    place = owner.place_of(step_id)
    return owner.stamp | {STEP_ID: place, OUTPUT: output, SAVED_AT: saved_at}


def from_received(
    claim: Claim, step_id: str, message: NewMessage | None, now: datetime
) -> Document:
    """The document of a step that has received a message, or none in time."""
    output = None if message is None else message.payload
    return from_step(claim.workflow, step_id, output, now) | from_receipt(Receipt.of(message))


def to_step(document: Mapping[str, Any]) -> Step:
    """The step in a document, whichever library wrote it."""
    read = Reader(STEPS, document)
    return Step(
        workflow_id=read.text(WORKFLOW_ID),
        step_id=own_id(document, read.text(STEP_ID)),
        output=document.get(OUTPUT),
        saved_at=read.optional_instant(SAVED_AT),
        receipt=read_receipt(read),
    )

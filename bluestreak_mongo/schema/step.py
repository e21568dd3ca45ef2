"""The documents of steps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bluestreak_core.model import Step, Workflow
from bluestreak_mongo.schema.document import STEPS, WORKFLOW_ID, Document
from bluestreak_mongo.schema.reader import Reader
from bluestreak_mongo.schema.record import SAVED_AT, belonging_to, own_id

STEP_ID = "stepId"
OUTPUT = "output"


def from_step(workflow: Workflow, step_id: str, output: Any, saved_at: datetime) -> Document:
    """The document of a step."""
    return belonging_to(workflow) | {STEP_ID: step_id, OUTPUT: output, SAVED_AT: saved_at}


def to_step(document: Mapping[str, Any]) -> Step:
    """The step in a document, whichever library wrote it."""
    read = Reader(STEPS, document)
    return Step(
        workflow_id=read.text(WORKFLOW_ID),
        step_id=own_id(document, read.text(STEP_ID)),
        output=document.get(OUTPUT),
        saved_at=read.optional_instant(SAVED_AT),
    )

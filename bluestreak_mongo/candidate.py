"""The due workflows that a claim tries for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bluestreak_core.model import Status, Workflow
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf

STATE = (wf.WORKFLOW_ID, wf.STATUS, wf.TIMEOUT_AT, wf.SESSION)
"""The fields that a candidate is read from, if not from the whole document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A due workflow, as it was found; `workflow` is None where only its state was read.

    `session_id` belongs to the last transaction that its worker has begun and not committed.
    """

    key: Any
    workflow_id: str
    status: Status
    due_at: datetime
    workflow: Workflow | None
    session_id: Any

    @property
    def is_new(self) -> bool:
        """Whether it was never claimed, and has been read whole."""
        return (
            self.workflow is not None and self.status is Status.IDLE and self.workflow.claims == 0
        )


def ids_of(candidates: Sequence[Candidate]) -> list[str]:
    """The ids of their workflows."""
    return [candidate.workflow_id for candidate in candidates]


def read_whole(document: Document) -> Candidate:
    """The candidate in a document with all its fields."""
    workflow = wf.to_workflow(document)
    return Candidate(
        key=document["_id"],
        workflow_id=workflow.workflow_id,
        status=workflow.status,
        due_at=workflow.timeout_at,
        workflow=workflow,
        session_id=document.get(wf.SESSION),
    )


def read_state(document: Document) -> Candidate:
    """The candidate in a document with the `STATE` fields."""
    workflow_id, status, due_at = wf.to_candidate(document)
    return Candidate(
        key=document["_id"],
        workflow_id=workflow_id,
        status=status,
        due_at=due_at,
        workflow=None,
        session_id=document.get(wf.SESSION),
    )

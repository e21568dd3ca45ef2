"""What a run changes under its claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bluestreak_core.machine import change
from bluestreak_core.model import (
    Claim,
    FailedStep,
    Published,
)
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.step import STEP_ID
from bluestreak_mongo.transitions.claiming import in_force
from bluestreak_mongo.transitions.updating import or_missing, update


def progress() -> Document:
    """Resets the count of crashes."""
    return update(change.progress())


def without_failed_step(claim: Claim, step_id: str) -> Document:
    """Matches a workflow while the claim may move it, and the step has not been given up."""
    return in_force(claim) | {f"{wf.FAILED_STEPS}.{STEP_ID}": {"$ne": step_id}}


def fail_step(failed: FailedStep) -> Document:
    """Records that a step is given up, which is progress too."""
    return update(change.fail_step(failed))


def publish(published: Sequence[Published]) -> Document:
    """Replaces what a workflow has published."""
    return update(change.publish(tuple(published)))


def of_generation(claim: Claim) -> Document:
    """Matches a workflow in the generation that it was claimed in.

    The JavaScript library may run the next one under the token of the claim that has ended the last
    one.
    """
    return {wf.GENERATION: or_missing(claim.workflow.generation)}


def in_transaction() -> Document:
    """Counts a step that is committed in a transaction, which is progress too."""
    return {"$inc": {wf.TRANSACTIONS: 1}, "$unset": {wf.SESSION: 1}, **progress()}


def announce(session_id: Any) -> Document:
    """Names the session that may hold locks on a workflow's documents if its worker dies."""
    return {"$set": {wf.SESSION: session_id}}


def announced(workflow_id: str, session_id: Any) -> Document:
    """Matches a workflow that names this session, under any claim."""
    return {wf.WORKFLOW_ID: workflow_id, wf.SESSION: session_id}


RETRACT: Document = {"$unset": {wf.SESSION: 1}}
"""Removes the name of the session."""

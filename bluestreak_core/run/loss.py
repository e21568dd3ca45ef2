"""Reporting a lost claim, and handing over a workflow that compensates."""

from __future__ import annotations

import logging

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost, StoreError
from bluestreak_core.model import Claim, Status, Workflow
from bluestreak_core.run.log import fields
from bluestreak_core.store import Store, SupportsCompensation, require

logger = logging.getLogger(__name__)


async def report_loss(store: Store, claim: Claim, lost: ClaimLost) -> None:
    """Log how a claim was lost. If the workflow is to compensate, let a worker begin."""
    workflow, extra = await _find(store, claim.workflow_id), fields(claim.workflow)
    if workflow is not None:
        if machine.was_taken(workflow, claim):
            await _hand_over(store, claim)
        is_newest = workflow.claims == claim.number
        if is_newest and workflow.status is Status.PAUSED:
            logger.info("workflow %r was paused", claim.workflow_id, extra=extra)
            return
        # One that compensates may have been claimed for that already.
        is_cancelled = is_newest and workflow.status is Status.CANCELLED
        if is_cancelled or workflow.outcome is Status.CANCELLED:
            facts = (claim.workflow_id, workflow.reason)
            logger.info("workflow %r was cancelled: %r", *facts, extra=extra)
            return
    logger.warning("%s; its run wrote nothing more", lost, extra=extra)


async def _hand_over(store: Store, claim: Claim) -> None:
    """Report that the run is over; else nothing is undone before the end of its lease."""
    try:
        compensating = require(store, SupportsCompensation, "hand_over()")
        await compensating.hand_over(claim, store.clock.now())
    except StoreError as error:
        logger.warning(
            "workflow %r will compensate later: %r",
            *(claim.workflow_id, error),
            extra=fields(claim.workflow),
        )


async def _find(store: Store, workflow_id: str) -> Workflow | None:
    """The workflow, or None if it cannot be read."""
    try:
        return await store.find_workflow(workflow_id)
    except StoreError:
        return None

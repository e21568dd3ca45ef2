"""Reporting a lost claim, and cleaning up if the workflow was cancelled."""

from __future__ import annotations

import logging
from datetime import timedelta

from bluestreak_core.concurrency import until_answered
from bluestreak_core.errors import ClaimLost, StoreError, StoreUnavailable
from bluestreak_core.model import Claim, Status, Workflow
from bluestreak_core.run.clean_up import CleanUps
from bluestreak_core.store import Store

logger = logging.getLogger(__name__)


async def report_loss(store: Store, claim: Claim, clean_ups: CleanUps, lost: ClaimLost) -> None:
    """Log how a claim was lost. If its workflow was cancelled, carry out the clean-ups."""
    workflow = await _find(store, claim.workflow_id, is_needed=bool(clean_ups))
    if workflow is not None and workflow.claims == claim.number:
        match workflow.status:
            case Status.PAUSED:
                logger.info("workflow %r was paused", claim.workflow_id)
                return
            case Status.CANCELLED:
                logger.info("workflow %r was cancelled: %r", claim.workflow_id, workflow.reason)
                await clean_ups.carry_out()
                return
    logger.warning("%s; its run wrote nothing more", lost)


async def _find(store: Store, workflow_id: str, *, is_needed: bool) -> Workflow | None:
    """The workflow, or None if it cannot be read. An outage is waited out if `is_needed`."""

    async def pause(span: timedelta, unavailable: StoreUnavailable) -> None:
        if not is_needed:
            raise unavailable
        logger.warning("workflow %r: store unavailable, trying again: %r", workflow_id, unavailable)
        await store.clock.sleep(span)

    try:
        return await until_answered(lambda: store.find_workflow(workflow_id), pause)
    except StoreError:
        return None

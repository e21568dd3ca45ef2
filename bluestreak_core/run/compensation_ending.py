"""Ending a claim to compensate."""

from __future__ import annotations

import logging
from typing import assert_never

from bluestreak_core.model import RunEnd, Status
from bluestreak_core.run.exit import Abandon, AbortNow, Park, Release, Restart
from bluestreak_core.run.failure import error_record, in_one_line
from bluestreak_core.run.family import Family
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.log import fields, log_abort, log_end
from bluestreak_core.run.outcome import Orphaned, Outcome, Raised, Returned

logger = logging.getLogger(__name__)


class CompensationEnding:
    """What a run does in place of an `Ending` if its workflow compensates."""

    def __init__(self, journal: Journal, family: Family) -> None:
        self._journal = journal
        self._family = family

    async def end(self, outcome: Outcome) -> RunEnd:
        """End the claim according to the outcome. Raises `ClaimLost`, and what the store raises."""
        workflow = self._journal.workflow
        match outcome:
            case Returned():
                await self._end()
                logger.info(
                    "workflow %r has compensated", workflow.workflow_id, extra=fields(workflow)
                )
                return RunEnd.COMPENSATED
            case Raised(error) | AbortNow(error):
                await self._end()
                recorded = error_record(error)
                log_abort(
                    *(logger, workflow, "workflow %r has ended with incomplete compensations: %s"),
                    *(workflow.workflow_id, in_one_line(recorded)),
                    error=error,
                    recorded=recorded,
                )
                return RunEnd.COMPENSATED
            case Park(wake_up_at):
                await self._journal.postpone(wake_up_at)
                log_end(logger, workflow, "goes on to compensate at %s", wake_up_at)
                return RunEnd.PARKED
            case Release():
                await self._journal.postpone(self._journal.clock.now())
                log_end(logger, workflow, "was released while it compensates")
                return RunEnd.RELEASED
            case Abandon(error):
                self._journal.lease.check()
                if error is not None:
                    raise error
                return RunEnd.LOST
            case Restart() | Orphaned():
                raise AssertionError(f"a workflow that compensates is not {outcome}")
            case _:
                assert_never(outcome)

    async def _end(self) -> None:
        await self._journal.end_compensated()
        await self._family.settle(self._journal.workflow.outcome or Status.CANCELLED)

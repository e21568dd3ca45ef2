"""How workflows compensate: they promise it, stop, and end afterwards."""

from __future__ import annotations

from datetime import datetime

from bluestreak_core.machine import change
from bluestreak_core.model import Claim, ErrorRecord
from bluestreak_core.store import Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.ending import Endings


class Compensating:
    """Moves workflows that compensate; the methods are those of `SupportsCompensation`."""

    def __init__(self, database: Database, endings: Endings, hints: Hints) -> None:
        self._database = database
        self._endings = endings
        self._hints = hints

    async def promise(self, claim: Claim) -> None:
        """See `SupportsCompensation.promise`."""
        await self._endings.move(claim, change.promise())

    async def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        """See `SupportsCompensation.give_up`."""
        await self._endings.end_with_error(claim, change.give_up(error, now), error)
        self._hints.due(now)

    @writes
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        """See `SupportsCompensation.hand_over`."""
        for taken, handed in transitions.hand_over(claim, now):
            if (await self._database.workflows.update_one(taken, handed)).matched_count:
                self._hints.due(now)  # in case it is stopping
                return

    async def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        """See `SupportsCompensation.postpone`."""
        await self._endings.make_due(claim, change.postpone(wake_up_at), wake_up_at)

    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        """See `SupportsCompensation.end_compensated`."""
        await self._endings.end_for_good(claim, change.end_compensated(claim.workflow.outcome, now))

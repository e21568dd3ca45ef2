"""Workflows that start over, in steps of which each may be the last one of its process.

First the messages are marked as read that the run has received: a worker that died just then may
have left one unmarked, and the steps that say so are about to be forgotten. Then one update begins
the next generation, to which no earlier record belongs. Deleting these comes last, and may be left
to a later call.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from bluestreak_core import machine
from bluestreak_core.machine import change
from bluestreak_core.model import Claim
from bluestreak_core.store import Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Ending, Groups
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.leftovers import Leftovers
from bluestreak_mongo.outcome import check_written
from bluestreak_mongo.receiving import mail_of
from bluestreak_mongo.schema.message import MESSAGE_ID, UNREAD, unread_of
from bluestreak_mongo.schema.record import Owner

_MARKED_AT_ONCE = 1000


class Restarting:
    """Does what `SupportsRestart` asks for."""

    def __init__(
        self,
        database: Database,
        groups: Groups,
        rules: BsonRules,
        hints: Hints,
        leftovers: Leftovers,
    ) -> None:
        self._database = database
        self._groups = groups
        self._rules = rules
        self._hints = hints
        self._leftovers = leftovers

    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        """See `SupportsRestart.restart`."""
        what = f"input of workflow {claim.workflow_id!r}"
        value, size = self._rules.round_trip(input, what)
        await self._mark_read(claim, sorted(received))
        moved = change.restart(claim.workflow, value, now)
        ending = Ending(claim=claim, change=moved, only_if=transitions.of_generation(claim))
        check_written(await self._groups.endings.call(ending, size), value, what)
        self._hints.due(now)
        restarted = machine.restart(claim.workflow, None, now)
        await self._leftovers.delete(Owner.of(restarted))

    @writes
    async def _mark_read(self, claim: Claim, received: list[str]) -> None:
        for start in range(0, len(received), _MARKED_AT_ONCE):
            part = received[start : start + _MARKED_AT_ONCE]
            unread = unread_of(mail_of(claim)) | {MESSAGE_ID: {"$in": part}}
            await self._database.messages.update_many(unread, {"$unset": {UNREAD: 1}})

"""Workflows that start over, in steps of which each may be the last one of its process.

First the messages are marked as read that the run has received: a worker that died just then may
have left one unmarked, and the steps that say so are about to be forgotten. Then one update begins
the next generation, to which no earlier record belongs. Deleting these comes last, and may be left
to a later call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

import bson

from bluestreak_core.errors import ValueTooLarge
from bluestreak_core.machine import change
from bluestreak_core.model import Claim
from bluestreak_core.store import MAX_VALUE_BYTES, Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import CODEC, BsonRules
from bluestreak_mongo.bulk import Ending, Groups
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import reads, writes
from bluestreak_mongo.finding import find_workflow
from bluestreak_mongo.leftovers import Leftovers
from bluestreak_mongo.outcome import check_written
from bluestreak_mongo.receiving import mail_of
from bluestreak_mongo.schema.message import MESSAGE_ID, REFUSED, UNREAD, unread_of
from bluestreak_mongo.schema.published import from_published
from bluestreak_mongo.schema.record import Owner
from bluestreak_mongo.schema.workflow import PUBLISHED

_MARKED_AT_ONCE = 1000
_ROOMY = MAX_VALUE_BYTES // 2
"""The size of an input that has room beside whatever a workflow has published."""


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
        if size > _ROOMY:
            await self._check_room(claim, size, what)
        await self._mark(claim, received)
        moved = change.restart(claim.workflow, value, now)
        ending = Ending(claim=claim, change=moved, only_if=transitions.of_generation(claim))
        check_written(await self._groups.endings.call(ending, size), value, what)
        self._hints.due(now)
        await self._leftovers.delete(Owner.of(moved.apply(claim.workflow)))

    @reads
    async def _check_room(self, claim: Claim, size: int, what: str) -> None:
        """Raise `ValueTooLarge` for an input without room beside what the workflow has published.

        The rest of the document is needed to claim and to end the workflow.
        """
        workflow = await find_workflow(self._database, claim.workflow_id)
        if workflow is None:
            return
        published = [from_published(latest) for latest in workflow.published]
        taken = len(bson.encode({PUBLISHED: published}, codec_options=CODEC))
        if published and size > MAX_VALUE_BYTES - taken:
            raise ValueTooLarge(what, size, MAX_VALUE_BYTES - taken)

    @writes
    async def _mark(self, claim: Claim, received: Collection[str]) -> None:
        """Mark as read what the run has received, and nothing else that a step has received.

        A stale caller marks nothing: the run that has overtaken it may not know of its messages.
        While the claim is in force, what the caller has received is in the history of a later run.
        """
        database, mail = self._database, mail_of(claim)
        taken = Owner.of(claim.workflow).stamp | {MESSAGE_ID: {"$exists": True}}
        found = database.steps.find(taken, {"_id": 0, MESSAGE_ID: 1})
        unknown = {step[MESSAGE_ID] async for step in found}.difference(received)
        if not (received or unknown):
            return
        ours = transitions.in_force(claim) | transitions.of_generation(claim)
        if await database.workflows.find_one(ours, {"_id": 1}) is None:
            return
        for part in _parts(received):
            unread = unread_of(mail) | {MESSAGE_ID: {"$in": part}}
            await database.messages.update_many(unread, {"$unset": {UNREAD: 1}})
        # A call that was broken off may have marked what its run does not know.
        for part in _parts(unknown):
            read = mail.stamp | {MESSAGE_ID: {"$in": part}, UNREAD: None, REFUSED: None}
            await database.messages.update_many(read, {"$set": {UNREAD: True}})


def _parts(message_ids: Collection[str]) -> Iterator[list[str]]:
    ids = sorted(message_ids)
    for start in range(0, len(ids), _MARKED_AT_ONCE):
        yield ids[start : start + _MARKED_AT_ONCE]

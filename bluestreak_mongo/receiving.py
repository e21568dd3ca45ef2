"""Receiving messages: a step is recorded that has received one, and that decides it.

A unique index of the steps keeps two of them from receiving the same message.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import bson
from pymongo import ASCENDING

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import first_of
from bluestreak_core.errors import ClaimLost
from bluestreak_core.model import Claim, NewMessage, NoMessage, Step
from bluestreak_core.store import Hints
from bluestreak_mongo.address import Address
from bluestreak_mongo.bson_rules import CODEC
from bluestreak_mongo.bulk import Groups
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import reads
from bluestreak_mongo.duplicate import is_foreign
from bluestreak_mongo.feed import Feed
from bluestreak_mongo.finding import find_place
from bluestreak_mongo.outcome import check_moved, check_written
from bluestreak_mongo.recording import Recording
from bluestreak_mongo.schema.message import (
    MESSAGE_ID,
    NAME,
    PAYLOAD,
    PLACE,
    REFUSED,
    UNREAD,
    message_key,
    to_message,
    unread_of,
)
from bluestreak_mongo.schema.record import Owner
from bluestreak_mongo.schema.step import OUTPUT, STEP_ID, from_received, to_step
from bluestreak_mongo.shared_read import SharedRead

_IN_ORDER = [(PLACE, ASCENDING), ("_id", ASCENDING)]


class Receiving:
    """Takes messages out of mailboxes; the methods are those of `SupportsMessages`."""

    def __init__(
        self,
        *,
        database: Database,
        groups: Groups,
        recording: Recording,
        addresses: SharedRead[Address],
        feed: Feed,
        hints: Hints,
        clock: Clock,
    ) -> None:
        self._database = database
        self._groups = groups
        self._recording = recording
        self._addresses = addresses
        self._feed = feed
        self._hints = hints
        self._clock = clock

    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        """See `SupportsMessages.receive`."""
        if (step := await self._take_first(claim, step_id, names, now)) is not None:
            return step
        if give_up:
            step = await self._record(claim, step_id, None, now)
            if step is None:
                raise AssertionError("nothing but a message can be taken by another step")
            return step
        # The count is read before the look that finds nothing.
        address = await self._addresses.find(claim.workflow_id)
        mail = 0 if address is None else address.mail
        if (step := await self._recorded(claim, step_id)) is not None:
            return step
        if mail == claim.workflow.mail:  # which was read before the first look
            return NoMessage(mail=mail)
        step = await self._take_first(claim, step_id, names, now)
        return NoMessage(mail=mail) if step is None else step

    async def wait(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        """See `SupportsMessages.wait_for_message`."""
        delivered = self._hints.mail_of(workflow_id)
        seen = delivered.count
        with self._feed.waiting_for_mail(workflow_id):
            address = await self._addresses.find(workflow_id)
            if address is None or address.mail != mail:
                return True
            pause = min(timeout, self._feed.read_again_after)
            await first_of(delivered.wait(seen), self._clock.sleep(pause))
        return delivered.count != seen

    @reads
    async def find_unread(self, workflow_id: str, limit: int) -> Sequence[NewMessage]:
        """See `SupportsMessages.find_unread`."""
        address = await self._addresses.find(workflow_id)
        if address is None:
            return []
        found = self._database.messages.find(unread_of(address.owner), {PAYLOAD: 0})
        documents = await found.sort(_IN_ORDER).limit(limit).to_list(None)
        return [to_message(document) for document in documents]

    @reads
    async def find_message(self, workflow_id: str, message_id: str) -> NewMessage | None:
        """See `SupportsMessages.find_message`."""
        address = await self._addresses.find(workflow_id)
        if address is None:
            return None
        key = message_key(address.owner, message_id) | {REFUSED: None}
        found = await self._database.messages.find_one(key)
        return None if found is None else to_message(found)

    async def _take_first(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime
    ) -> Step | None:
        """Record the first message of these names that no step has received yet."""
        passed: list[str] = []
        while (message := await self._find_first(mail_of(claim), names, passed)) is not None:
            step = await self._record(claim, step_id, message, now)
            received = message.message_id if step is None else _received_by(step)
            if received is not None:
                await self._mark_read(claim, received)
            if step is not None:
                return step
            passed.append(message.message_id)
        return None

    @reads
    async def _find_first(
        self, owner: Owner, names: Collection[str], passed: Sequence[str]
    ) -> NewMessage | None:
        named = unread_of(owner) | {NAME: {"$in": sorted(names)}}
        if passed:
            named[MESSAGE_ID] = {"$nin": passed}
        found = await self._database.messages.find_one(named, sort=_IN_ORDER)
        return None if found is None else to_message(found)

    async def _record(
        self, claim: Claim, step_id: str, message: NewMessage | None, now: datetime
    ) -> Step | None:
        """The recorded step, this one or an earlier one of its id; None if the message is taken."""
        document = from_received(claim, step_id, message, now)
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        size = len(bson.encode({OUTPUT: document[OUTPUT]}, codec_options=CODEC))
        outcome, winner = await self._recording.save_received(claim, document, size)
        if winner is not None:
            return to_step(winner)
        if message is not None and is_foreign(outcome) and await self._is_taken(claim, message):
            return None
        check_written(outcome, document[OUTPUT], what)
        return to_step(document)

    @reads
    async def _is_taken(self, claim: Claim, message: NewMessage) -> bool:
        key = message_key(Owner.of(claim.workflow), message.message_id)
        return await self._database.steps.find_one(key, {"_id": 1}) is not None

    @reads
    async def _recorded(self, claim: Claim, step_id: str) -> Step | None:
        _, found = await find_place(self._database.steps, claim, STEP_ID, step_id)
        return None if found is None else to_step(found)

    async def _mark_read(self, claim: Claim, message_id: str) -> None:
        """Spare later looks this message. If this is broken off, the next one does it.

        The workflow is read after the step was recorded. If it has restarted, the step belongs to a
        generation that nobody continues, and the next one is to find the message: raise
        `ClaimLost`. The same may happen under a claim that is not in force, so that leaves the mark
        to the one that is.
        """
        address = await self._addresses.find(claim.workflow_id)
        if address is None or address.owner_of_records != Owner.of(claim.workflow):
            reason = "is void, the workflow has been deleted or has restarted"
            raise ClaimLost(claim.workflow_id, claim.number, reason)
        if address.is_held_by(claim):
            mark = (message_key(mail_of(claim), message_id), {"$unset": {UNREAD: 1}})
            check_moved(await self._groups.receipts.call(mark, 0), claim.workflow_id)


def mail_of(claim: Claim) -> Owner:
    """The owner of the mailbox of a claimed workflow."""
    return Owner.of_mail(claim.workflow_id, claim.workflow.created_at)


def _received_by(step: Step) -> str | None:
    return None if step.receipt is None else step.receipt.message_id

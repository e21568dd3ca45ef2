"""Sending messages: each is put into the mailbox of its workflow, and then counted there.

So whoever has seen the count can see the message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.errors import DuplicateKeyError

from bluestreak_core.errors import BluestreakError, WorkflowEnded, WorkflowNotFound
from bluestreak_core.model import NewMessage, Status
from bluestreak_core.store import Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.address import ADDRESS_FIELDS, Address
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Groups
from bluestreak_mongo.database import Database
from bluestreak_mongo.delivery import Delivery, Unreachable
from bluestreak_mongo.driver import reads, writes
from bluestreak_mongo.finding import find_one
from bluestreak_mongo.outcome import check_moved, check_written
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.message import (
    PAYLOAD,
    REFUSED,
    UNREAD,
    from_message,
    message_key,
)
from bluestreak_mongo.shared_read import SharedRead
from bluestreak_mongo.transactions import check_session

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_PLACES_IN_A_MILLISECOND = 2**20
_SENT_AT_ONCE = 1000


class Places:
    """Numbers the messages of one sender: each place is higher than the last, and by the time."""

    def __init__(self) -> None:
        self._last = 0

    def next(self, now: datetime) -> int:
        """The place of the next message. It fits into 63 bits until the year 2248."""
        first = (now - _EPOCH) // _MILLISECOND * _PLACES_IN_A_MILLISECOND
        self._last = max(self._last + 1, first)
        return self._last


class Sending:
    """Puts messages into mailboxes; the methods are those of `SupportsMessages`."""

    def __init__(
        self,
        database: Database,
        groups: Groups,
        rules: BsonRules,
        hints: Hints,
        addresses: SharedRead[Address],
    ) -> None:
        self._database = database
        self._is_routed = database.is_routed
        self._groups = groups
        self._rules = rules
        self._hints = hints
        self._addresses = addresses
        self._places = Places()

    async def send(self, message: NewMessage) -> bool:
        """See `SupportsMessages.send`."""
        return await self._send(message, *self._stored(message))

    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        """See `SupportsMessages.send_many`. The groups of `send` make few writes of it."""
        stored = [self._stored(message) for message in messages]
        answers: list[bool | BluestreakError] = []
        for first in range(0, len(messages), _SENT_AT_ONCE):
            places = range(first, min(first + _SENT_AT_ONCE, len(messages)))
            sends = [self._answer(messages[place], *stored[place]) for place in places]
            answers += await asyncio.gather(*sends)
        return answers

    async def _answer(
        self, message: NewMessage, what: str, payload: Any, size: int
    ) -> bool | BluestreakError:
        try:
            return await self._send(message, what, payload, size)
        except BluestreakError as error:
            return error

    async def _send(self, message: NewMessage, what: str, payload: Any, size: int) -> bool:
        place = self._places.next(message.sent_at)
        address = _found(message, await self._addresses.find(message.workflow_id))
        if address.status is Status.FINISHED:
            await self._check_came_before(message, address)
            return False
        document = from_message(message, address.owner, place) | {PAYLOAD: payload}
        outcome = await self._groups.messages.call(document, size)
        is_new = not isinstance(outcome, DuplicateKeyError)
        if is_new:
            check_written(outcome, payload, what)
        await self._deliver(message, address, is_new=is_new)
        return is_new

    async def send_in(self, session: Any, message: NewMessage) -> bool:
        """See `SupportsMessages.send_in`. The driver's errors pass as they are."""
        _, payload, _ = self._stored(message)
        check_session(session, self._database)
        place = self._places.next(message.sent_at)
        key = {wf.WORKFLOW_ID: message.workflow_id}
        workflows, messages = self._database.workflows, self._database.messages
        found = await find_one(workflows, key, session, ADDRESS_FIELDS)
        address = _found(message, None if found is None else Address.read(found))
        # A duplicate would not only be refused, it would end the caller's transaction.
        known = message_key(address.owner, message.message_id)
        before = await messages.find_one(known, {REFUSED: 1}, session=session)
        is_new = before is None
        if address.status is Status.FINISHED:
            if before is None or REFUSED in before:
                raise WorkflowEnded(message.workflow_id)
            return False
        if is_new:
            document = from_message(message, address.owner, place) | {PAYLOAD: payload}
            await messages.insert_one(document, session=session)
        reachable = transitions.reachable(message.workflow_id, address.created_at)
        update = transitions.deliver([message.name], message.sent_at)
        await workflows.update_one(reachable, update, session=session)
        return is_new

    async def _deliver(self, message: NewMessage, address: Address, *, is_new: bool) -> None:
        delivery = Delivery(
            workflow_id=message.workflow_id,
            created_at=address.created_at,
            name=message.name,
            sent_at=message.sent_at,
            document_key=address.key,
        )
        apart = self._is_routed or address.waiting_for
        group = self._groups.deliveries if apart else self._groups.counts
        outcome = await group.call(delivery, 0)
        if isinstance(outcome, Unreachable) and is_new:
            await self._take_back(message, address)
        elif isinstance(outcome, Unreachable):
            _found(message, await self._addresses.find(message.workflow_id))
            await self._check_came_before(message, address)
        else:
            check_moved(outcome, message.workflow_id)
        self._hints.delivered(message.workflow_id)
        if address.may_be_parked:  # where there is no change stream, nothing else tells
            self._hints.due(message.sent_at)

    @reads
    async def _check_came_before(self, message: NewMessage, address: Address) -> None:
        came = message_key(address.owner, message.message_id) | {REFUSED: None}
        if await find_one(self._database.messages, came, fields={"_id": 1}) is None:
            raise WorkflowEnded(message.workflow_id)

    @writes
    async def _take_back(self, message: NewMessage, address: Address) -> None:
        """Refuse a message that has come too late, unless it was received all the same."""
        now = await self._addresses.find(message.workflow_id) or address
        step = message_key(now.owner_of_records, message.message_id)
        if await self._database.steps.find_one(step, {"_id": 1}) is not None:
            return
        # Of what an earlier generation has received, the steps are gone, and the messages are read.
        unread = message_key(address.owner, message.message_id) | {UNREAD: True}
        refuse = {"$set": {REFUSED: True}, "$unset": {UNREAD: 1}}
        refused = await self._database.messages.update_one(unread, refuse)
        if not refused.matched_count and await self._was_received(message, address):
            return
        _found(message, await self._addresses.find(message.workflow_id))
        raise WorkflowEnded(message.workflow_id)

    async def _was_received(self, message: NewMessage, address: Address) -> bool:
        """Whether a message is read that nobody has refused."""
        key = message_key(address.owner, message.message_id)
        read = key | {UNREAD: None, REFUSED: None}
        return await self._database.messages.find_one(read, {"_id": 1}) is not None

    def _stored(self, message: NewMessage) -> tuple[str, Any, int]:
        """What the payload is called, the payload as it is stored, and its size."""
        what = f"payload of message {message.name!r} to workflow {message.workflow_id!r}"
        return what, *self._rules.round_trip(message.payload, what)


def _found(message: NewMessage, address: Address | None) -> Address:
    if address is None or address.is_pruned:
        raise WorkflowNotFound(message.workflow_id)
    return address

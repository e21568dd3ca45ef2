"""The mailboxes of a store in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from bluestreak_core import machine
from bluestreak_core.concurrency import first_of
from bluestreak_core.errors import BluestreakError
from bluestreak_core.model import Claim, NewMessage, NoMessage, Step
from bluestreak_core.store import SupportsMessages
from bluestreak_memory.parts import Parts


class Messages(Parts, SupportsMessages):
    """Keeps messages until they are received; a part of `MemoryStore`."""

    @override
    async def send(self, message: NewMessage) -> bool:
        return self._workflows.send(self._copies.message(message))

    @override
    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        return self._workflows.send_many([self._copies.message(message) for message in messages])

    @override
    async def send_in(self, session: Any, message: NewMessage) -> bool:
        return self._transactions.send(session, self._copies.message(message))

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        record = self._workflows.claimed(claim)
        step = record.receive(claim, step_id, names, now, give_up=give_up)
        if isinstance(step, NoMessage):
            return step
        return replace(step, output=self._copies.copy(step.output))

    @override
    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        workflow = self._workflows.find(claim.workflow_id)
        if workflow is None:
            raise machine.lost(None, claim)
        moved = machine.wait_change(workflow, wake_up_at, tuple(names), mail, now)
        self._workflows.end(claim, moved)

    @override
    async def wait_for_message(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        workflow = self._workflows.find(workflow_id)
        if workflow is None or workflow.mail != mail:
            return True
        delivered = self._hints.mail_of(workflow_id)
        seen = delivered.count
        await first_of(delivered.wait(), self._clock.sleep(timeout))
        return delivered.count != seen

    @override
    async def find_unread(self, workflow_id: str, limit: int) -> Sequence[NewMessage]:
        record = self._workflows.get(workflow_id)
        unread = [] if record is None else record.mailbox.unread(limit)
        return [replace(message, payload=None) for message in unread]

    @override
    async def find_message(self, workflow_id: str, message_id: str) -> NewMessage | None:
        record = self._workflows.get(workflow_id)
        message = None if record is None else record.mailbox.find(message_id)
        if message is None:
            return None
        return replace(message, payload=self._copies.copy(message.payload))

    @override
    async def beat(self, workflow_id: str, step_id: str, now: datetime) -> None:
        record = self._workflows.existing(workflow_id)
        record.workflow = machine.beat(record.workflow, step_id, now)

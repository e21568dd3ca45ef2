"""Sending messages to workflows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from bluestreak_core.argument import check_id, has_real_type
from bluestreak_core.callback import is_answer_name
from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.errors import BluestreakError, InvalidArgument
from bluestreak_core.message import Message, to_message
from bluestreak_core.model import NewMessage
from bluestreak_core.run.known_handlers import KnownHandlers
from bluestreak_core.store import SupportsMessages


@dataclass(frozen=True, slots=True)
class Send:
    """One message for `send_many`; the fields are the arguments of `send`."""

    workflow_id: str
    message: Message[Any] | str
    payload: Any = None
    message_id: str | None = field(default=None, kw_only=True)


class Sending:
    """The calls of a client that send messages; see `Client`."""

    def __init__(self, store: OpenStore, handlers: KnownHandlers) -> None:
        self._store = store
        self._handlers = handlers

    async def send(self, send: Send, session: Any) -> bool:
        """Send one message, in the session's transaction if there is one."""
        store = self._store.require(SupportsMessages, "send()")
        message = self._new(send)
        if session is None:
            return await store.send(message)
        await self._store.transactional("send(session=)")
        return await store.send_in(session, message)

    async def send_many(self, sends: Iterable[Send]) -> list[bool]:
        """Send many messages; those that are refused keep none of the others from being sent."""
        store = self._store.require(SupportsMessages, "send_many()")
        if has_real_type(sends, str) or not isinstance(sends, Iterable):
            raise InvalidArgument("sends", sends, "expected several Send")
        messages = [self._new(send, f"sends[{place}]: ") for place, send in enumerate(sends)]
        answers = await store.send_many(messages)
        errors = [answer for answer in answers if isinstance(answer, BluestreakError)]
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {len(messages)} messages were not sent", errors)
        return [answer for answer in answers if isinstance(answer, bool)]

    def _new(self, send: Send, where: str = "") -> NewMessage:
        if not has_real_type(send, Send):
            raise InvalidArgument(where.removesuffix(": "), send, "expected a Send")
        workflow_id = check_id(f"{where}workflow id", send.workflow_id)
        message = to_message(f"{where}message", send.message)
        message_id = uuid4().hex
        if send.message_id is not None:
            message_id = check_id(f"{where}message id", send.message_id)
        for name, used in (("message", message.name), ("message id", message_id)):
            if is_answer_name(used):
                raise InvalidArgument(f"{where}{name}", used, "answer a callback by resolve()")
        return NewMessage(
            workflow_id=workflow_id,
            message_id=message_id,
            name=message.name,
            payload=self._handlers.stored_payload(workflow_id, message, send.payload),
            sent_at=self._store.clock.now(),
        )

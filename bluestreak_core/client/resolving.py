"""Answering callbacks, and giving signs of life for them, by token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bluestreak_core.argument import check_reason
from bluestreak_core.callback import Answer, CallbackToken
from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.errors import (
    CallbackExpired,
    InvalidArgument,
    InvalidToken,
    WorkflowEnded,
    WorkflowNotFound,
)
from bluestreak_core.message import Message
from bluestreak_core.model import NewMessage, Status
from bluestreak_core.run.known_handlers import KnownHandlers
from bluestreak_core.store import SupportsMessages

_STOPPED = (Status.ABORTED, Status.CANCELLED, Status.STOPPING, Status.COMPENSATING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The answer of a callback that counts: a payload as it is stored, or an error.

    `is_first` is True if it was given by the call of `resolve` that returned this.
    """

    is_first: bool
    payload: Any = None
    error: str | None = None


class Resolving:
    """The calls of a client about callbacks; see `MessageCalls`."""

    def __init__(self, store: OpenStore, handlers: KnownHandlers) -> None:
        self._store = store
        self._handlers = handlers

    async def resolve(self, token: str, payload: Any, error: str | None, type: Any) -> Resolution:
        """Answer a callback, unless it has an answer; return the one that counts."""
        store = self._store.require(SupportsMessages, "resolve()")
        called = CallbackToken.read(token)
        if payload is not None and error is not None:
            raise InvalidArgument("error", error, "give either a payload or an error")
        answer = self._answer(called, payload, check_reason(error, "error"), type)
        await self._check("resolve()", called)
        message = self._message(called, answer)
        with _deleted_meanwhile():
            # The mailbox takes one message of this id: the first answer, or that there was none.
            if not await self._has_been_stopped(called) and await store.send(message):
                return Resolution(is_first=True, payload=answer.payload, error=answer.error)
        first = await _first_answer(store, called)
        if first is None:
            raise WorkflowEnded(called.workflow_id)
        return Resolution(is_first=False, payload=first.payload, error=first.error)

    async def beat(self, token: str) -> bool:
        """Give a sign of life for a callback, if it waits for an answer."""
        store = self._store.require(SupportsMessages, "beat()")
        called = CallbackToken.read(token)
        # Taken before the look at the token: a workflow that restarts after that begins later than
        # this, and then the sign of life cannot prolong the same wait of its next generation.
        now = self._store.clock.now()
        await self._check("beat()", called)
        if await _first_answer(store, called) is not None:
            return False
        with _deleted_meanwhile():
            await store.beat(called.workflow_id, called.step_id, now)
        return True

    def _answer(self, called: CallbackToken, payload: Any, error: str | None, type: Any) -> Answer:
        if error is not None:
            return Answer(error=error)
        message = Message(called.answer_name, type)
        stored = self._handlers.stored_payload(called.workflow_id, message, payload)
        return Answer(payload=stored)

    def _message(self, called: CallbackToken, answer: Answer) -> NewMessage:
        name = called.answer_name
        return NewMessage(
            workflow_id=called.workflow_id,
            message_id=name,
            name=name,
            payload=answer.stored,
            sent_at=self._store.clock.now(),
        )

    async def _check(self, call: str, called: CallbackToken) -> None:
        """Raise `InvalidToken` unless it has been recorded."""
        record = await self._store.get(call).find_step(called.workflow_id, called.record_id)
        if record is None or not called.is_recorded_as(record.output):
            raise InvalidToken

    async def _has_been_stopped(self, called: CallbackToken) -> bool:
        """Whether the workflow has ended without a result, or is about to.

        It would take the answer for a retry.
        """
        standing = await self._store.get("resolve()").find_standing(called.workflow_id)
        return standing is not None and standing.status in _STOPPED


async def _first_answer(store: SupportsMessages, called: CallbackToken) -> Answer | None:
    """The answer that counts, if there is one. Raises `CallbackExpired` if none came in time."""
    message = await store.find_message(called.workflow_id, called.answer_name)
    if message is None:
        return None
    answer = Answer.read(message.payload)
    if answer.missing is not None:
        raise CallbackExpired(called.workflow_id, called.step_id)
    return answer


@contextmanager
def _deleted_meanwhile() -> Iterator[None]:
    """A workflow that was found a moment ago may be gone by now."""
    try:
        yield
    except WorkflowNotFound:
        raise InvalidToken from None

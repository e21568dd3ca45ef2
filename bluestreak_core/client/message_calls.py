"""The calls of a client about messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.client.resolving import Resolution, Resolving
from bluestreak_core.client.sending import Send, Sending
from bluestreak_core.message import Message
from bluestreak_core.run.known_handlers import KnownHandlers

Payload = TypeVar("Payload")


class MessageCalls:
    """Sends messages to workflows, and answers their callbacks; a part of `Client`."""

    def __init__(self, store: OpenStore, handlers: KnownHandlers) -> None:
        self._sending = Sending(store, handlers)
        self._resolving = Resolving(store, handlers)

    @overload
    async def send(
        self,
        workflow_id: str,
        message: Message[Payload],
        payload: Payload,
        *,
        message_id: str | None = None,
        session: Any = None,
    ) -> bool: ...

    @overload
    async def send(
        self,
        workflow_id: str,
        message: Message[None] | str,
        payload: Any = None,
        *,
        message_id: str | None = None,
        session: Any = None,
    ) -> bool: ...

    async def send(
        self,
        workflow_id: str,
        message: Message[Any] | str,
        payload: Any = None,
        *,
        message_id: str | None = None,
        session: Any = None,
    ) -> bool:
        """Put a message into the mailbox of a workflow, which gets it by `ctx.receive`.

        The workflow may be in any state but `finished`, and need not wait yet. A codec converts the
        payload by the type of the message. Once this has returned, the message survives any crash.

        Returns True; False if a message of this `message_id` was sent to the workflow before. Give
        the message an id of yours, such as that of a webhook's event, to send it again without harm
        after a `StoreUnavailable`.

        With `session`, the message is sent as a part of the transaction that is in progress in it,
        see `start`.

        Raises `WorkflowNotFound` and `WorkflowEnded`; and before anything is written `InvalidId`,
        `InvalidArgument`, `InvalidValue`, `UnstorableValue`, `ValueTooLarge` and `Unsupported`.
        """
        return await self._sending.send(
            Send(workflow_id, message, payload, message_id=message_id), session
        )

    async def send_many(self, sends: Iterable[Send]) -> list[bool]:
        """`send` many messages in few round trips. Returns which were new, in order.

        Messages of one name to one workflow are received in their order. The call as a whole is not
        atomic: if some messages cannot be sent, the others are, and an `ExceptionGroup` has the
        error of each.

        Raises like `send` before anything is written; the message names the place, as in
        `sends[3]`.
        """
        return await self._sending.send_many(sends)

    async def resolve(
        self, token: str, payload: Any = None, *, error: str | None = None, type: Any = None
    ) -> Resolution:
        """Answer a callback: `ctx.callback` returns the payload, or raises `CallbackFailed`.

        The first answer wins, by whichever of the callback's tokens it is given. Once
        this has returned, the answer survives any crash. After a `StoreUnavailable`, call it again:
        the first answer may then be your own.

        - `error`, up to 1,000 characters, instead of the payload: why there is none.
        - `type`: a codec converts the payload by it. Take the one that `ctx.callback` is given.

        Returns the answer that counts, and whether it is this one.

        Raises `InvalidToken`; `CallbackExpired` if the callback has timed out; `WorkflowEnded` if
        the workflow has ended without an answer; and before anything is written `InvalidArgument`,
        `InvalidValue`, `UnstorableValue`, `ValueTooLarge` and `Unsupported`.
        """
        return await self._resolving.resolve(token, payload, error, type)

    async def beat(self, token: str) -> bool:
        """Give a sign of life for a callback, so that its `heartbeat` begins anew.

        Returns True; False if the callback has been answered, so that nobody waits any more.

        Raises `InvalidToken`; `CallbackExpired` if the callback has timed out; `WorkflowEnded`;
        `InvalidArgument` and `Unsupported`.
        """
        return await self._resolving.beat(token)

"""The verbs of a context about messages."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from datetime import datetime
from typing import Any, TypeVar, overload

from bluestreak_core.argument import Duration
from bluestreak_core.message import Message, Received
from bluestreak_core.run.context.verbs import Verbs
from bluestreak_core.run.verb.receive import receive, received_payload

P = TypeVar("P")


class MessageVerbs(Verbs):
    """Receives messages; a part of `Context`."""

    @overload
    def receive(
        self,
        step_id: str,
        message: Message[P],
        /,
        *,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
    ) -> Coroutine[Any, Any, P]: ...

    @overload
    def receive(
        self,
        step_id: str,
        message: str,
        /,
        *,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
    ) -> Coroutine[Any, Any, Any]: ...

    def receive(
        self,
        step_id: str,
        message: Message[Any] | str,
        /,
        *,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Wait for a message that is sent to this workflow; return its payload.

        It may have been sent before: a message waits in the workflow's mailbox until it is
        received. Each is received once, in the order in which they were sent. That is recorded as
        a step, so later runs get the same message here.

        After `park_after` the workflow leaves memory. When a message is sent, the handler runs
        again from the top.

        - `timeout`, in seconds or as a `timedelta`, counts from the first run that gets here;
          `deadline` is an aware datetime. If no message has come by then, `MessageTimeout` is
          raised here, in this run and in each later one; if the handler does not catch it, the
          workflow is aborted. A message that comes later waits for the next `receive`. A timeout of
          0 receives what is there.

        Raises `InvalidId`, `InvalidArgument`, `InvalidDuration`, `DuplicateStep`,
        `AlreadyReceiving`, `UsedInStep`, `UsedInTransaction`, and `Unsupported` if the store has no
        mailboxes. A payload that does not fit the type of the message raises `InvalidValue`, which
        aborts the workflow.
        """
        work = received_payload(self._frame, step_id, message, timeout, deadline)
        return self._watch("receive", step_id, work)

    @overload
    def receive_any(
        self,
        step_id: str,
        messages: Sequence[Message[P]],
        /,
        *,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
    ) -> Coroutine[Any, Any, Received[P]]: ...

    @overload
    def receive_any(
        self,
        step_id: str,
        messages: Sequence[Message[Any] | str],
        /,
        *,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
    ) -> Coroutine[Any, Any, Received[Any]]: ...

    def receive_any(
        self,
        step_id: str,
        messages: Sequence[Message[Any] | str],
        /,
        *,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
    ) -> Coroutine[Any, Any, Received[Any]]:
        """`receive` the first of several messages; return it with its name, time and id."""
        work = receive(self._frame, step_id, messages, timeout, deadline)
        return self._watch("receive_any", step_id, work)

"""The power to keep mailboxes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from bluestreak_core.errors import BluestreakError
from bluestreak_core.model import (
    Claim,
    NewMessage,
    NoMessage,
    Step,
)


@runtime_checkable
class SupportsMessages(Protocol):
    """A store that keeps a mailbox for each workflow.

    A message stays in its mailbox until a step has received it, whatever becomes of the workflow
    meanwhile, and is deleted with it. Forks begin with an empty mailbox.

    Messages of one name are received in the order in which their senders sent them; those of
    several senders by the store's time. Of several names, the first sent is received first.
    """

    async def send(self, message: NewMessage) -> bool:
        """Put a message into the mailbox of its workflow; then change that as `machine.deliver`.

        Return False if the mailbox has had a message of this id; change the workflow all the same,
        since an earlier call may have been interrupted in between. The change is atomic. Raise
        `WorkflowNotFound`, or `WorkflowEnded` if the workflow has finished without such a message.
        """
        ...

    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        """`send` for each message, in few writes; return the answers or errors in the same order.

        Refuse a payload that cannot be stored before writing anything.
        """
        ...

    async def send_in(self, session: Any, message: NewMessage) -> bool:
        """`send` as a part of the caller's transaction, like `SupportsTransactions.create_in`.

        A store without `SupportsTransactions` raises `Unsupported`.
        """
        ...

    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        """Record the first message of one of these names as a step, and return the step.

        The step has the payload as its output, and a `receipt`. It and the message's being received
        are one record, so no two steps ever receive the same message. If the step is recorded
        already, return that, like `save_step`, and receive nothing.

        If there is no such message, return `NoMessage`, or with `give_up` record a step that has
        timed out: its output is None. Progress counts as in `save_step`, and so does a stale claim.
        """
        ...

    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        """End the claim as `machine.wait` does: parked if `mail` is still the count, else released.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def wait_for_message(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        """Return True once the workflow's `mail` differs from the one given; False after `timeout`.

        A hint, like `Store.wait_for_end`: return True for nothing, or False sooner, rather than
        miss a message for long. The engine looks again after True.
        """
        ...

    async def find_unread(self, workflow_id: str, limit: int) -> Sequence[NewMessage]:
        """The first messages that no step has received, in order, without their payloads."""
        ...

    async def find_message(self, workflow_id: str, message_id: str) -> NewMessage | None:
        """The message of this id, whether or not a step has received it; None if there is none.

        Of several messages that were sent with one id, it is the first, which the mailbox has.
        """
        ...

    async def beat(self, workflow_id: str, step_id: str, now: datetime) -> None:
        """Change a workflow as `machine.beat`: its callback under this id gives a sign of life.

        The change is atomic, and a repeat does no harm. It wakes nobody. Raise `WorkflowNotFound`,
        or `WorkflowEnded`, which changes nothing.
        """
        ...

"""What one run has recorded, and the store calls that record more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core.codec import Conversion
from bluestreak_core.errors import StoreUnavailable
from bluestreak_core.model import (
    Attempt,
    ErrorRecord,
    FailedStep,
    Failure,
    History,
    NewMessage,
    NoMessage,
    Published,
    Step,
)
from bluestreak_core.run.lease import Lease
from bluestreak_core.store import (
    Store,
    SupportsCompensation,
    SupportsMessages,
    SupportsPublishing,
    SupportsRestart,
    ValueRules,
    require,
)

_PAUSE = timedelta(seconds=1)
"""After a wait for messages that the store could not carry out."""


class Journal:
    """The store as one run sees it.

    Each call is repeated until the store answers. If the lease runs out first, or has been lost
    already, the call raises `ClaimLost`.
    """

    def __init__(self, store: Store, lease: Lease, conversion: Conversion | None = None) -> None:
        self.lease = lease
        self.workflow = lease.claim.workflow
        """The workflow, as the claim found it."""
        self.clock = store.clock
        """The store's clock."""
        self.history = History()
        self.has_progressed = False
        """Whether this run has recorded something."""
        self.conversion = conversion
        """None if values need no conversion."""
        self.compensates = lease.claim.workflow.compensates
        """Whether the workflow has promised to compensate, by now."""
        self.unreached: list[str] | None = None
        """The records that the handler may not have asked for yet, once `ctx.log` was used."""
        self._store = store
        self._claim = lease.claim
        self._received = set[str]()
        """The ids of the messages that this run has received."""

    async def save_step(self, step_id: str, output: Any, fn: Callable[..., Any]) -> Any:
        """Record a step, and return the recorded output, even if another run recorded it.

        The output is converted by the annotation of `fn`. If it does not fit, `InvalidValue` is
        raised and nothing recorded.
        """
        if self.conversion is not None:
            output = self.stored(step_id, output, fn)
        recorded = await self.lease.until_answered(
            lambda: self._store.save_step(self._claim, step_id, output, self.clock.now())
        )
        self.has_progressed = True
        return recorded if self.conversion is None else self.converted(step_id, recorded, fn)

    async def save_typed(self, step_id: str, output: Any, annotation: Any) -> Any:
        """`save_step` for an output of some type."""
        conversion, workflow_id = self.conversion, self.workflow.workflow_id
        if conversion is not None:
            output = conversion.stored_as(workflow_id, step_id, annotation, output)
        recorded = await self.save_value(step_id, output)
        if conversion is None:
            return recorded
        return conversion.read_as(workflow_id, step_id, annotation, recorded)

    def stored(self, step_id: str, output: Any, fn: Callable[..., Any]) -> Any:
        """An output as it is stored, by the annotation of `fn`. Raises `InvalidValue`."""
        if self.conversion is None:
            return output
        return self.conversion.stored_output(self.workflow.workflow_id, step_id, fn, output)

    def converted(self, step_id: str, recorded: Any, fn: Callable[..., Any]) -> Any:
        """A recorded output as the handler gets it, by the annotation of `fn`.

        Raises `InvalidValue`.
        """
        if self.conversion is None:
            return recorded
        return self.conversion.output(self.workflow.workflow_id, step_id, fn, recorded)

    def is_settled(self, step_id: str) -> bool:
        """Whether a step had an output, or had been given up, when the run began."""
        given_up = (failed.step_id for failed in self.workflow.failed_steps)
        return step_id in self.history.steps or step_id in given_up

    async def find_step(self, step_id: str) -> Step | None:
        """A step as the store has it now."""
        workflow_id = self.workflow.workflow_id
        return await self.lease.until_answered(lambda: self._store.find_step(workflow_id, step_id))

    async def save_nap(self, nap_id: str, wake_up_at: datetime) -> datetime:
        """Record a nap, and return the recorded instant, even if another run recorded it."""
        recorded = await self.lease.until_answered(
            lambda: self._store.save_nap(self._claim, nap_id, wake_up_at, self.clock.now())
        )
        self.has_progressed = True
        return recorded

    async def save_attempt(self, attempt: Attempt) -> Attempt:
        """Record a failed attempt, and return the recorded one, even if another run recorded it."""
        recorded = await self.lease.until_answered(
            lambda: self._store.save_attempt(self._claim, attempt)
        )
        self.has_progressed = True
        return recorded

    async def fail_step(self, failed: FailedStep) -> None:
        """Record that a step was given up."""
        await self.lease.until_answered(lambda: self._store.fail_step(self._claim, failed))
        self.has_progressed = True

    async def save_value(self, step_id: str, value: Any) -> Any:
        """`save_step` for a plain value of the engine's own, which no annotation converts."""
        recorded = await self.lease.until_answered(
            lambda: self._store.save_step(self._claim, step_id, value, self.clock.now())
        )
        self.has_progressed = True
        return recorded

    def mailboxes(self, call: str) -> SupportsMessages:
        """The store, if it has mailboxes. Raises `Unsupported`, with the name of the call."""
        return require(self._store, SupportsMessages, call)

    async def send(self, message: NewMessage) -> None:
        """Put a message into a mailbox, unless there has been one of its id."""
        store = self.mailboxes("send()")
        await self.lease.until_answered(lambda: store.send(message))

    async def heard_at(self, step_id: str) -> datetime | None:
        """When the callback of a step last gave a sign of life, as is stored now."""
        workflow = await self.lease.until_answered(
            lambda: self._store.find_workflow(self.workflow.workflow_id)
        )
        return None if workflow is None else workflow.heard_at(step_id)

    async def receive(
        self, step_id: str, names: tuple[str, ...], *, give_up: bool
    ) -> Step | NoMessage:
        """Record the first message of these names as a step, even if another run did before.

        With `give_up` and without a message, record that none came in time.
        """
        store = self.mailboxes("receive()")
        received = await self.lease.until_answered(
            lambda: store.receive(self._claim, step_id, names, self.clock.now(), give_up=give_up)
        )
        if isinstance(received, Step):
            self.has_progressed = True
            if received.receipt is not None and received.receipt.message_id is not None:
                self._received.add(received.receipt.message_id)
        return received

    async def wait_for_message(self, mail: int, timeout: timedelta) -> bool:
        """Wait until the workflow's count of messages may be another one; False after `timeout`."""
        try:
            store = self.mailboxes("wait_for_message()")
            return await store.wait_for_message(self.workflow.workflow_id, mail, timeout)
        except StoreUnavailable:  # the next look finds out whether it still is
            await self.clock.sleep(min(timeout, _PAUSE))
            return True

    def published_rules(self) -> ValueRules:
        """The store's rules for published values. Raises `Unsupported`."""
        return require(self._store, SupportsPublishing, "ctx.publish").value_rules()

    async def publish(self, published: tuple[Published, ...]) -> None:
        """Replace what the workflow has published."""
        store = require(self._store, SupportsPublishing, "ctx.publish")
        await self.lease.until_answered(lambda: store.publish(self._claim, published))

    async def park(self, wake_up_at: datetime, names: tuple[str, ...] = (), mail: int = 0) -> None:
        """Release the claim until a nap ends, or a message of one of the names comes."""
        if not names:
            await self.lease.until_answered(lambda: self._store.park(self._claim, wake_up_at))
            return
        store = self.mailboxes("park_until_message()")
        await self.lease.until_answered(
            lambda: store.park_until_message(self._claim, wake_up_at, names, mail, self.clock.now())
        )

    async def release(self) -> None:
        """Release the claim, due at once."""
        await self.lease.until_answered(lambda: self._store.release(self._claim, self.clock.now()))

    def check_restart(self) -> None:
        """Raise `Unsupported` if the store cannot restart workflows."""
        require(self._store, SupportsRestart, "ctx.restart")

    async def restart(self, input: Any) -> None:
        """Start the workflow over with another input."""
        store = require(self._store, SupportsRestart, "ctx.restart")
        received = self._received | {
            receipt.message_id
            for receipt in self.history.receipts.values()
            if receipt.message_id is not None
        }
        await self.lease.until_answered(
            lambda: store.restart(self._claim, input, received, self.clock.now())
        )

    async def finish(self, result: Any) -> None:
        """End the workflow with a result."""
        await self.lease.until_answered(
            lambda: self._store.finish(self._claim, result, self.clock.now())
        )

    async def fail(self, failure: Failure) -> None:
        """Record a failure of the workflow."""
        await self.lease.until_answered(
            lambda: self._store.fail(self._claim, failure, self.clock.now())
        )

    # Compensation --------------------------------------------------------------------------------

    def check_can_compensate(self) -> None:
        """Raise `Unsupported` if workflows of the store cannot compensate."""
        self._compensating()

    async def promise(self) -> None:
        """Record that the workflow compensates."""
        store = self._compensating()
        await self.lease.until_answered(lambda: store.promise(self._claim))
        self.compensates = True

    async def give_up(self, error: ErrorRecord) -> None:
        """Record the last failure of a workflow that compensates."""
        store = self._compensating()
        await self.lease.until_answered(lambda: store.give_up(self._claim, error, self.clock.now()))

    async def postpone(self, wake_up_at: datetime) -> None:
        """Release a claim to compensate until an instant."""
        store = self._compensating()
        await self.lease.until_answered(lambda: store.postpone(self._claim, wake_up_at))

    async def end_compensated(self) -> None:
        """End a workflow that has compensated."""
        store = self._compensating()
        await self.lease.until_answered(
            lambda: store.end_compensated(self._claim, self.clock.now())
        )

    def _compensating(self) -> SupportsCompensation:
        return require(self._store, SupportsCompensation, "ctx.compensate()")

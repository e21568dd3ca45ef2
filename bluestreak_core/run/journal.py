"""What one run has recorded, and the store calls by which it records more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core.clock import Clock
from bluestreak_core.codec.conversion import Conversion
from bluestreak_core.errors import StepTimeout, Unsupported
from bluestreak_core.model import Attempt, FailedStep, Failure, History, Workflow
from bluestreak_core.run.lease import Lease
from bluestreak_core.run.time_limit import in_time
from bluestreak_core.run.transaction_call import Committed, RolledBack, Writing
from bluestreak_core.store.powers import Transacts
from bluestreak_core.store.protocol import Store


class Journal:
    """The store as one run sees it.

    Each call is made until the store has answered it, for as long as the lease lasts; then it
    raises `ClaimLost`, and nothing is written.
    """

    def __init__(self, store: Store, lease: Lease, conversion: Conversion | None = None) -> None:
        self.lease = lease
        self.history = History()
        self.has_progressed = False
        """Whether this run has recorded something."""
        self._turn = asyncio.Lock()
        self.conversion = conversion
        """What makes of values what is stored; None where they stay as they are."""
        self._store = store
        self._claim = lease.claim

    @property
    def workflow(self) -> Workflow:
        """The workflow, as the claim found it."""
        return self._claim.workflow

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        return self._store.clock

    async def save_step(
        self, step_id: str, output: Any, fn: Callable[..., Any] | None = None
    ) -> Any:
        """Record a step; the recorded output is returned, whoever recorded it.

        It is converted by the annotation of `fn`. Raises `InvalidValue`, and nothing is recorded.
        """
        if self.conversion is not None:
            output = self._stored(step_id, output, fn)
        recorded = await self.lease.persist(
            lambda: self._store.save_step(self._claim, step_id, output, self.clock.now())
        )
        self.has_progressed = True
        return recorded if self.conversion is None else self.converted(step_id, recorded, fn)

    def _stored(self, step_id: str, output: Any, fn: Callable[..., Any] | None) -> Any:
        if self.conversion is None or fn is None:
            return output
        return self.conversion.stored_output(self.workflow.workflow_id, step_id, fn, output)

    def converted(self, step_id: str, recorded: Any, fn: Callable[..., Any] | None) -> Any:
        """A recorded output, as it is by the annotation of `fn`. Raises `InvalidValue`."""
        if self.conversion is None or fn is None:
            return recorded
        return self.conversion.output(self.workflow.workflow_id, step_id, fn, recorded)

    async def save_nap(self, nap_id: str, wake_up_at: datetime) -> datetime:
        """Record a nap; the recorded instant is returned, whoever recorded it."""
        recorded = await self.lease.persist(
            lambda: self._store.save_nap(self._claim, nap_id, wake_up_at, self.clock.now())
        )
        self.has_progressed = True
        return recorded

    async def save_attempt(self, attempt: Attempt) -> Attempt:
        """Record a failed attempt of a step; the recorded one is returned, whoever recorded it."""
        recorded = await self.lease.persist(lambda: self._store.save_attempt(self._claim, attempt))
        self.has_progressed = True
        return recorded

    async def fail_step(self, failed: FailedStep) -> None:
        """Record that a step is given up."""
        await self.lease.persist(lambda: self._store.fail_step(self._claim, failed))
        self.has_progressed = True

    async def transact(self, writing: Writing) -> Committed | RolledBack:
        """Record a step in one transaction with what its function writes.

        All of them change the workflow, and so does a renewal of the lease: two at once would keep
        each other from being committed. So they take turns, and the lease is renewed before and
        after. What takes longer than half of the lease is rolled back by a `StepTimeout`. The
        output is converted by the annotation of the function; see `save_step`. Raises
        `Unsupported`.
        """
        store = await self._transacts("ctx.transaction()")
        async with self._turn:
            with self.lease.withheld():
                outcome = await self.lease.persist(lambda: self._try_to_commit(store, writing))
            if self.lease.left <= self.lease.span / 2:
                await self._renew()
        if isinstance(outcome, RolledBack):
            return outcome
        self.has_progressed = True
        return Committed(self.converted(writing.step_id, outcome.output, writing.fn))

    async def _try_to_commit(self, store: Transacts, writing: Writing) -> Committed | RolledBack:
        async def write(session: Any) -> Any:
            return self._stored(writing.step_id, await writing.write(session), writing.fn)

        if self.lease.is_due_within(timedelta(0)):
            await self._renew()
        workflow_id, step_id = self._claim.workflow_id, writing.step_id
        transaction = store.transact(self._claim, step_id, write, self.clock.now)
        try:
            return Committed(await in_time(self.lease.span / 2, workflow_id, step_id, transaction))
        except Exception as error:
            if error is writing.error:
                return RolledBack(error)
            if not isinstance(error, StepTimeout):
                raise
            # It may have been cut while it was committed, and a majority may not know yet. The
            # renewal changes the same record: once that is acknowledged, a commit before it is seen
            # here, and there is none after it. In an outage it raises: so it is not the function
            # that took long.
            await self._renew()
            step = await self._store.find_step(workflow_id, step_id)
            return RolledBack(error) if step is None else Committed(step.output)

    async def _transacts(self, call: str) -> Transacts:
        store = self._store
        if not isinstance(store, Transacts):
            raise Unsupported(call, f"{type(store).__name__} has no transactions")
        await self.lease.persist(lambda: store.check_transactions(call))
        return store

    async def _renew(self) -> None:
        clock, span = self.clock, self.lease.span
        deadline = clock.monotonic() + span.total_seconds()
        if await self.lease.persist(lambda: self._store.renew([self._claim], clock.now(), span)):
            self.lease.lose("was taken over")
            self.lease.check()
        self.lease.extend(deadline)

    async def park(self, wake_up_at: datetime) -> None:
        """Give the claim back until a nap ends."""
        await self.lease.persist(lambda: self._store.park(self._claim, wake_up_at))

    async def release(self) -> None:
        """Give the claim back, due at once."""
        await self.lease.persist(lambda: self._store.release(self._claim, self.clock.now()))

    async def finish(self, result: Any) -> None:
        """End the workflow well."""
        await self.lease.persist(lambda: self._store.finish(self._claim, result, self.clock.now()))

    async def fail(self, failure: Failure) -> None:
        """Record a failure of the workflow."""
        await self.lease.persist(lambda: self._store.fail(self._claim, failure, self.clock.now()))

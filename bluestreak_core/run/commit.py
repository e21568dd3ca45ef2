"""Steps that are recorded in one transaction with what their functions write."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

from bluestreak_core.errors import StepTimeout
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.lease import renewals
from bluestreak_core.run.time_limit import in_time
from bluestreak_core.run.transaction_call import Committed, RolledBack, TransactionCall
from bluestreak_core.store import Store, SupportsTransactions, require


class Commits:
    """The transactions of one run.

    All of them change the workflow, and so does a renewal of the lease: two at once would keep each
    other from being committed. So they take turns, and the lease is renewed before and after.
    """

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._lease = journal.lease
        self._claim = journal.lease.claim
        self._turn = asyncio.Lock()

    async def transact(self, call: TransactionCall) -> Committed | RolledBack:
        """Record a step in one transaction with what its function writes.

        What takes longer than half of the lease is rolled back by a `StepTimeout`. The
        output is converted by the annotation of the function; see `save_step`. Raises
        `Unsupported`.
        """
        store = await self._transacts("ctx.transaction()")
        async with self._turn:
            with self._lease.withheld():
                outcome = await self._lease.until_answered(lambda: self._try_to_commit(store, call))
            if self._lease.left <= self._lease.span / 2:
                await self._renew()
        if isinstance(outcome, RolledBack):
            return outcome
        self._journal.has_progressed = True
        return Committed(self._journal.converted(call.step_id, outcome.output, call.fn))

    async def _try_to_commit(
        self, store: SupportsTransactions, call: TransactionCall
    ) -> Committed | RolledBack:
        async def write(session: Any) -> Any:
            return self._journal.stored(call.step_id, await call.write(session), call.fn)

        if self._lease.is_due_within(timedelta(0)):
            await self._renew()
        workflow_id, step_id = self._claim.workflow_id, call.step_id
        transaction = store.transact(self._claim, step_id, write, self._journal.clock.now)
        try:
            return Committed(await in_time(self._lease.span / 2, workflow_id, step_id, transaction))
        except Exception as error:
            if error is call.error:
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

    async def _transacts(self, call: str) -> SupportsTransactions:
        store = require(self._store, SupportsTransactions, call)
        await self._lease.until_answered(lambda: store.check_transactions(call))
        return store

    async def _renew(self) -> None:
        for renewal in renewals([self._lease], self._journal.clock):
            renew = partial(renewal.send, self._store.renew)
            if renewal.settle(await self._lease.until_answered(renew)):
                self._lease.lose("was taken over")
                self._lease.check()

"""Recording a step in one transaction with what its function writes."""

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

    Each writes to the workflow's record, and so does a renewal of the lease: two of them at once
    would conflict, and be rolled back. So transactions take turns, and the lease is renewed before
    and after each, not during it.
    """

    def __init__(self, store: Store, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._lease = journal.lease
        self._claim = journal.lease.claim
        self._turn = asyncio.Lock()

    async def transact(self, call: TransactionCall) -> Committed | RolledBack:
        """Commit a step's record together with what its function writes.

        A transaction that takes longer than half of the lease is rolled back with a `StepTimeout`.
        The output is converted like that of `Journal.save_step`. Raises `Unsupported`.
        """
        store = await self._supported("ctx.transaction()")
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
            # The time-out may have hit during the commit, whose outcome is not known here. A
            # renewal writes to the same record. So once it is acknowledged, the commit is either
            # visible or will never take effect. In an outage the renewal raises, and the whole call
            # is repeated: it was not the function that took too long.
            await self._renew()
            step = await self._store.find_step(workflow_id, step_id)
            return RolledBack(error) if step is None else Committed(step.output)

    async def _supported(self, call: str) -> SupportsTransactions:
        store = require(self._store, SupportsTransactions, call)
        await self._lease.until_answered(lambda: store.check_transactions(call))
        return store

    async def _renew(self) -> None:
        for renewal in renewals([self._lease], self._journal.clock):
            renew = partial(renewal.send, self._store.renew)
            if renewal.settle(await self._lease.until_answered(renew)):
                self._lease.lose("was taken over")
                self._lease.check()

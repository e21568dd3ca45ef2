"""Keeping the leases of a worker's runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial

from bluestreak_core import machine
from bluestreak_core.concurrency import first_of, until_answered
from bluestreak_core.errors import CorruptDocument, StoreUnavailable
from bluestreak_core.run import RENEWALS_PER_LEASE, Handlers, Run
from bluestreak_core.run.lease import renewals
from bluestreak_core.store import Store, SupportsThreadRenewal
from bluestreak_core.worker.health import Contact
from bluestreak_core.worker.runs import Runs
from bluestreak_core.worker.watchdog import Watchdog

_WATCH_AFTER = timedelta(milliseconds=200)
"""How long something must run before the worker listens for control from outside."""


class Leases:
    """Renews the leases of all runs, and ends runs whose claims are lost.

    `renew`, `expire` and `watch_control` are chores: they run until they are cancelled.
    """

    def __init__(
        self, worker: str, store: Store, handlers: Handlers, runs: Runs, contact: Contact
    ) -> None:
        self._worker = worker
        self._store = store
        self._clock = store.clock
        self._handlers = handlers
        self._runs = runs
        self._contact = contact

    async def renew(self) -> None:
        """Renew each lease before more than a third of it has passed."""
        while True:
            await self._runs.until_some()
            await self._clock.sleep(self._interval)
            await until_answered(self._renew_due, self._pause, longest=self._interval)

    async def expire(self) -> None:
        """End the runs that have outlived their leases, even in an outage of the store.

        Sleep no longer than the renewal interval: the event loop's timers may stand still while the
        machine is suspended.
        """
        while True:
            await self._runs.until_some()
            left = [run.lease.left for run in self._runs.all() if not run.lost]
            await self._clock.sleep(min([*left, self._interval]))
            for run in self._runs.all():
                if run.lease.left <= timedelta(0) and not run.lost:
                    run.lose("outlived its lease")

    async def watch_control(self) -> None:
        """Notice at once when a running workflow is cancelled or paused.

        After each hint of the store, renew all leases, which reveals the lost ones. Where a renewal
        would conflict with a transaction, read the workflow instead.
        """
        while True:
            await self._runs.until_some()
            since = self._clock.now()
            await self._clock.sleep(_WATCH_AFTER)
            while self._runs:
                obey = partial(self._obey, since)
                since = await until_answered(obey, self._pause, self._handlers.shortest_lease)

    @asynccontextmanager
    async def kept_by_thread(self) -> AsyncIterator[None]:
        """Keep the leases even if the event loop is blocked, if the store supports that."""
        store = self._store
        renewer = store.renewer() if isinstance(store, SupportsThreadRenewal) else None
        if renewer is None:
            yield
            return
        watchdog = Watchdog(
            self._worker,
            renewer,
            self._clock,
            self._handlers.shortest_lease,
            leases=lambda: [run.lease for run in self._runs.all()],
            location_of=self._runs.location_of,
        )
        async with watchdog:
            yield

    @property
    def _interval(self) -> timedelta:
        return self._handlers.shortest_lease / RENEWALS_PER_LEASE

    async def _renew_due(self) -> None:
        await self._renew(
            run for run in self._runs.all() if run.lease.is_due_within(self._interval)
        )

    async def _renew(self, runs: Iterable[Run]) -> None:
        by_key = {run.lease.claim.key: run for run in runs if run.may_be_renewed}
        for renewal in renewals((run.lease for run in by_key.values()), self._clock):
            lost = renewal.settle(await renewal.send(self._store.renew))
            self._contact.succeeded()
            for lease in lost:
                by_key[lease.claim.key].lose("was taken over")

    async def _obey(self, since: datetime) -> datetime:
        """Wait for a hint, and end runs whose claims were taken; return the next `since`."""
        asked_at = self._clock.now()
        if not await self._is_controlled(since):
            return asked_at  # a later `since`, or the store would search an ever longer period
        heard_at = self._clock.now()
        runs = self._runs.all()
        await self._renew(runs)
        await self._check_claims([run for run in runs if run.lease.is_withheld])
        await self._clock.sleep(_WATCH_AFTER)
        return heard_at

    async def _is_controlled(self, since: datetime) -> bool:
        """Whether a claim may have been taken; False as soon as nothing runs."""
        wait = self._store.wait_for_control(self._worker, since, self._handlers.lease)
        waiting = asyncio.ensure_future(wait)
        await first_of(waiting, self._runs.until_none())
        return waiting.done() and not waiting.cancelled() and waiting.result()

    async def _check_claims(self, runs: Sequence[Run]) -> None:
        """End the runs whose claims are no longer in force, without renewing the others."""
        for run in runs:
            with suppress(CorruptDocument):  # the run gets this when it writes
                workflow = await self._store.find_workflow(run.workflow_id)
                if not machine.in_force(workflow, run.lease.claim):
                    run.lose("was taken over")

    async def _pause(self, span: timedelta, error: StoreUnavailable) -> None:
        self._contact.failed(error)
        await self._clock.sleep(span)

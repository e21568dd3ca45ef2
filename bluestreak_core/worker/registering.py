"""Reporting a worker to the store, so that people can see it: a chore of a worker."""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from bluestreak_core.concurrency import first_of
from bluestreak_core.errors import StoreError, StoreRefused
from bluestreak_core.model import WorkerRecord, WorkerState
from bluestreak_core.run import RENEWALS_PER_LEASE, Handlers
from bluestreak_core.store import Store, SupportsRegistry, supports
from bluestreak_core.worker.health import Contact, WorkerHealth
from bluestreak_core.worker.runs import Runs
from bluestreak_core.worker.stop import Stop

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 100
"""The most runs that a record names."""

_MAX_ERROR = 500
"""The most characters of an error in a record."""


def longest_silence(handlers: Handlers, poll_interval: timedelta) -> timedelta:
    """How long a live worker and its store may have nothing to say to each other."""
    lease = handlers.shortest_lease
    return max(lease / RENEWALS_PER_LEASE, poll_interval) + lease


class Registering:
    """Keeps the record of a worker, if the store has a place for it.

    It is written when the worker starts, when it begins to drain, and every third of a lease. While
    nothing runs, it is written every `poll_interval` if that is longer. Steps write nothing: those
    in flight are looked up for each record.
    """

    def __init__(
        self,
        store: Store,
        handlers: Handlers,
        runs: Runs,
        stop: Stop,
        contact: Contact,
        *,
        health: Callable[[], WorkerHealth],
        poll_interval: timedelta,
    ) -> None:
        self._store = store
        self._clock = store.clock
        self._handlers = handlers
        self._runs = runs
        self._stop = stop
        self._contact = contact
        self._health = health
        self._poll_interval = poll_interval
        self._started_at = store.clock.now()
        self._is_refused = False

    async def run(self) -> None:
        """Report until cancelled, and unregister then."""
        store = self._store
        if not supports(store, SupportsRegistry):
            return
        try:
            while not await self._report(store):
                await self._stop.cuts_short(self._pause())
            while True:
                await self._clock.sleep(self._interval)
                await self._report(store)
        finally:
            await self._unregister(store)

    @property
    def _interval(self) -> timedelta:
        return self._handlers.shortest_lease / RENEWALS_PER_LEASE

    @property
    def _longest_pause(self) -> timedelta:
        return max(self._interval, self._poll_interval)

    async def _pause(self) -> None:
        """Return when the next record of a worker that polls is due."""
        since = self._clock.monotonic()
        if not self._runs:  # in virtual time, an idle worker must not keep time going
            await first_of(self._runs.until_some(), self._clock.sleep(self._longest_pause))
        passed = timedelta(seconds=self._clock.monotonic() - since)
        await self._clock.sleep(max(timedelta(0), self._interval - passed))

    async def _report(self, store: SupportsRegistry) -> bool:
        """Write the record; return whether the worker was draining by then."""
        record = self._record()
        try:
            await store.register_worker(record)
        except StoreError as error:
            self._note(error)
        else:
            self._contact.heard()
        return record.state is WorkerState.DRAINING

    async def _unregister(self, store: SupportsRegistry) -> None:
        health = self._health()
        if health.store_failures or health.worker is None:
            return  # the record is soon out of date anyway
        try:
            await store.unregister_worker(health.worker)
        except StoreError as error:
            self._note(error)

    def _note(self, error: StoreError) -> None:
        """Log an error, which is no reason to stop. Outages are logged by what depends on them."""
        is_new = isinstance(error, StoreRefused) and not self._is_refused
        self._is_refused = self._is_refused or is_new
        level = logging.INFO if is_new else logging.DEBUG
        logger.log(level, "the record of this worker could not be written: %r", error)

    def _record(self) -> WorkerRecord:
        health, now = self._health(), self._clock.now()
        runs = self._runs.all()
        error = health.last_store_error
        return WorkerRecord(
            name=health.worker or "",
            host=_storable(socket.gethostname()),
            pid=os.getpid(),
            bluestreak_version=_version(),
            python_version=platform.python_version(),
            started_at=self._started_at,
            seen_at=now,
            until=now + longest_silence(self._handlers, self._poll_interval),
            state=health.state,
            max_concurrency=health.max_concurrency,
            runs=len(runs),
            in_flight=tuple(run.in_flight for run in runs[:MAX_IN_FLIGHT]),
            handlers=tuple(sorted(self._handlers.ids)),
            last_store_error=None if error is None else _storable(error[:_MAX_ERROR]),
        )


def _storable(text: str) -> str:
    """A text without what UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()


@cache
def _version() -> str:
    try:
        return version("bluestreak")
    except PackageNotFoundError:  # it runs from its sources
        return "unknown"

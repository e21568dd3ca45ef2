"""A worker: one call of `poll`, from its first claim to the end of its last run."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from datetime import timedelta
from uuid import uuid4

from bluestreak_core.concurrency import finish_despite_cancel, first_of, until_answered
from bluestreak_core.errors import StoreUnavailable
from bluestreak_core.errors.text import counted
from bluestreak_core.model import WorkerState
from bluestreak_core.run import Handlers
from bluestreak_core.store import Store
from bluestreak_core.worker.chores import with_chores
from bluestreak_core.worker.claiming import Claiming
from bluestreak_core.worker.expiry import Expiry
from bluestreak_core.worker.health import Contact, WorkerHealth
from bluestreak_core.worker.leases import Leases
from bluestreak_core.worker.registering import Registering, longest_silence
from bluestreak_core.worker.relatives import Relatives
from bluestreak_core.worker.runs import Runs
from bluestreak_core.worker.stop import ShouldStop, Stop

logger = logging.getLogger(__name__)

_CANCEL_AGAIN = timedelta(seconds=1)
_NAMED = 20
"""How many handlers are named in the log."""

_CROWDED_AFTER = timedelta(milliseconds=100)
"""How long no slot has to become free before workflows leave memory that wait for children."""


class Worker:
    """Claims and runs workflows until it is stopped.

    It wires its parts together, hence its many attributes: `Claiming` begins runs, `Runs` holds
    them, `Leases` keeps their claims, `Stop` decides the end, `Contact` notes whether the store
    answers.
    """

    def __init__(
        self,
        store: Store,
        handlers: Handlers,
        *,
        poll_interval: timedelta,
        max_concurrency: int,
        drain_timeout: timedelta,
        skip_unknown: bool,
        should_stop: ShouldStop | None,
        expiry: Expiry | None = None,
    ) -> None:
        self.name = name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self.ended = asyncio.Event()
        self.stop = Stop(store.clock, should_stop)
        self._store = store
        self._handlers = handlers
        self._skip_unknown = skip_unknown
        self._poll_interval = poll_interval
        self._max_concurrency = max_concurrency
        self._drain_timeout = drain_timeout
        self._expiry = expiry
        self._contact = contact = Contact(name, store.clock)
        self._runs = runs = Runs(on_error=self.stop.give_up)
        self._leases = Leases(name, store, handlers, runs, contact)
        self._claiming = Claiming(
            *(name, store, handlers, runs, contact),
            skip_unknown=skip_unknown,
            on_error=self.stop.give_up,
        )

    @property
    def health(self) -> WorkerHealth:
        """The worker at this moment, without a store call."""
        polling = WorkerState.DRAINING if self.stop.is_decided else WorkerState.POLLING
        return WorkerHealth(
            state=WorkerState.STOPPED if self.ended.is_set() else polling,
            worker=self.name,
            runs=len(self._runs),
            max_concurrency=self._max_concurrency,
            store_failures=self._contact.failures,
            last_store_error=self._contact.last_error,
            last_contact_at=self._contact.last_at,
            is_ready=polling is WorkerState.POLLING and self._contact.is_well(self._silence),
            claims=self._contact.claims,
            ends=dict(self._runs.ends),
        )

    @property
    def _silence(self) -> timedelta:
        return longest_silence(self._handlers, self._poll_interval)

    async def work(self) -> None:
        """Claim and run workflows until the worker is stopped; return when no run is left.

        A cancellation stops the worker without a drain. Errors are raised after the drain:
        `HandlerNotFound`, `StoreRefused`, and what a programming error raises.
        """
        leases, stop = self._leases, self.stop
        self._log_start()
        relatives = Relatives(self._store, self._poll_interval)
        registering = Registering(
            self._store,
            self._handlers,
            self._runs,
            stop,
            self._contact,
            health=lambda: self.health,
            poll_interval=self._poll_interval,
        )
        chores = [
            *(leases.renew(), leases.expire(), leases.watch_control(), stop.watch()),
            *(relatives.run(), registering.run()),
        ]
        if self._expiry is not None:
            chores.append(self._expiry.run())
        try:
            async with leases.kept_by_thread(), with_chores(chores, on_error=stop.give_up):
                await self._poll_and_leave()
        finally:
            self.ended.set()
            logger.info("%s: stopped", self.name, extra={"worker": self.name})
        if stop.error is not None:
            raise stop.error

    async def _poll_and_leave(self) -> None:
        try:
            while not self.stop.is_due:
                await until_answered(self._turn, self._pause, longest=self._poll_interval)
        except asyncio.CancelledError:
            self.stop.drain_skipped.set()
            raise
        except Exception as error:  # noqa: BLE001 - raised once the worker has drained
            self.stop.give_up(error)
        finally:
            self.stop.decide()
            await finish_despite_cancel(self._leave(), on_cancel=self.stop.drain_skipped.set)

    async def _turn(self) -> None:
        """Claim due workflows; wait for a free slot, or for work, if there is none."""
        if self.stop.is_due:
            return
        runs_ended = self._runs.ended.count
        free = self._max_concurrency - len(self._runs)
        if free == 0:
            await self.stop.cuts_short(self._until_free(runs_ended))
        elif await finish_despite_cancel(self._claiming.claim(free)) == 0:
            await self.stop.cuts_short(self._store.wait_for_work(self._poll_interval))

    async def _until_free(self, runs_ended: int) -> None:
        """Return when a run has ended. If none does for a while, parents make room for children."""
        ended = self._runs.ended
        await first_of(ended.wait(runs_ended), self._store.clock.sleep(_CROWDED_AFTER))
        try:
            while ended.count == runs_ended:
                self._runs.are_full = True
                for run in self._runs.all():
                    run.make_room()
                await ended.wait(runs_ended)
        finally:
            self._runs.are_full = False

    async def _pause(self, span: timedelta, error: StoreUnavailable) -> None:
        self._contact.failed(error)
        await self.stop.cuts_short(self._store.clock.sleep(span))

    async def _leave(self) -> None:
        """Drain: let runs end for `drain_timeout`, then cancel them and release their claims."""
        logger.info(
            "%s: draining %s for up to %s",
            *(self.name, counted(len(self._runs), "run"), self._drain_timeout),
            extra={"worker": self.name, "runs": len(self._runs)},
        )
        for run in self._runs.all():
            run.drain()
        drained = self._store.clock.sleep(self._drain_timeout)
        await first_of(self._runs.until_none(), drained, self.stop.drain_skipped.wait())
        if self._runs:
            logger.info(
                "%s: drain is over, releasing %s",
                *(self.name, counted(len(self._runs), "run")),
                extra={"worker": self.name, "runs": len(self._runs)},
            )
        while self._runs:
            for run in self._runs.all():
                run.release()
            # A handler may swallow its cancellation. If so, it is cancelled again.
            again = self._store.clock.sleep(max(self._drain_timeout, _CANCEL_AGAIN))
            await first_of(self._runs.until_none(), again)

    def _log_start(self) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        handler_ids = sorted(self._handlers.ids)
        named = ", ".join(map(repr, handler_ids[:_NAMED])) or "none"
        more = len(handler_ids) - _NAMED
        logger.info(
            "%s: started on %r with the handlers %s; timeout_interval %s, poll_interval %s, "
            "max_concurrency %d, drain_timeout %s, unknown_handler %r",
            *(self.name, self._store, f"{named} and {more} more" if more > 0 else named),
            *(self._handlers.lease, self._poll_interval, self._max_concurrency),
            *(self._drain_timeout, "skip" if self._skip_unknown else "raise"),
            extra={"worker": self.name},
        )

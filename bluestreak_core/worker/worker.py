"""The poll loop: free slots, claims, lease renewal, stopping."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from bluestreak_core import machine
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.concurrency.cancellation import end_all, see_through
from bluestreak_core.concurrency.event_loop import running_loop
from bluestreak_core.concurrency.outage import pauses
from bluestreak_core.concurrency.race import first_of
from bluestreak_core.concurrency.wake_up import Signal
from bluestreak_core.errors import (
    ClaimLost,
    CorruptDocument,
    HandlerNotFound,
    StoreError,
    StoreUnavailable,
)
from bluestreak_core.errors.text import counted
from bluestreak_core.model import Claim
from bluestreak_core.run.handler import Registration
from bluestreak_core.run.history import Batch
from bluestreak_core.run.lease import RENEWALS_PER_LEASE, Lease, by_span
from bluestreak_core.run.run import Run
from bluestreak_core.store.powers import RenewsFromThread
from bluestreak_core.store.protocol import Store
from bluestreak_core.worker.expiry import Expiry
from bluestreak_core.worker.watchdog import Watchdog

logger = logging.getLogger(__name__)

ShouldStop = Callable[[], bool]
"""Asked several times a second; True stops a worker."""

_LOOK_FOR_STOP = timedelta(milliseconds=200)
_CANCEL_AGAIN = timedelta(seconds=1)
_HEED_AFTER = timedelta(milliseconds=200)


class State(StrEnum):
    """What a worker is doing."""

    POLLING = "polling"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A worker at one moment.

    `runs` of its `max_concurrency` slots are taken. `store_failures` counts the store calls that
    have failed in a row, `last_store_error` is the latest of them, and `last_contact_at` is when
    the store last answered.
    """

    state: State
    worker: str | None
    runs: int
    max_concurrency: int
    store_failures: int = 0
    last_store_error: str | None = None
    last_contact_at: datetime | None = None


class Worker:
    """One `poll`, from its first claim to the end of its last run."""

    def __init__(
        self,
        store: Store,
        registrations: Mapping[str, Registration],
        *,
        lease: timedelta,
        poll_interval: timedelta,
        max_concurrency: int,
        drain_timeout: timedelta,
        skip_unknown: bool,
        should_stop: ShouldStop | None,
        expiry: Expiry | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self.ended = asyncio.Event()
        self._store = store
        self._clock = store.clock
        self._registrations = registrations
        self._lease = lease
        self._poll_interval = poll_interval
        self._max_concurrency = max_concurrency
        self._drain_timeout = drain_timeout
        self._skip_unknown = skip_unknown
        self._should_stop = should_stop
        self._expiry = expiry
        self._asked_to_look = Signal()
        self._loop = asyncio.get_running_loop()
        self._runs: dict[asyncio.Task[None], Run] = {}
        self._run_began = Signal()
        self._run_ended = Signal()
        self._last_run_ended = Signal()
        self._stop = Signal()
        self._hurrying = asyncio.Event()
        self._fatal: BaseException | None = None
        self._store_failures = 0
        self._last_store_error: str | None = None
        self._last_contact_at: datetime | None = None

    @property
    def health(self) -> Health:
        """How the worker is doing."""
        polling = State.DRAINING if self._is_stopping else State.POLLING
        return Health(
            state=State.STOPPED if self.ended.is_set() else polling,
            worker=self.name,
            runs=len(self._runs),
            max_concurrency=self._max_concurrency,
            store_failures=self._store_failures,
            last_store_error=self._last_store_error,
            last_contact_at=self._last_contact_at,
        )

    def stop(self) -> None:
        """Claim nothing more and drain; said again, skip the drain. From any thread."""
        if running_loop() is not self._loop:
            with suppress(RuntimeError):  # it is closed, so there is nothing left to stop
                self._loop.call_soon_threadsafe(self.stop)
            return
        if self._is_stopping:
            self._hurrying.set()
        self._stop.notify()

    def look_to(self, should_stop: ShouldStop | None) -> None:
        """Ask this function from now on whether to stop. May be called from any thread."""
        self._should_stop = should_stop
        self._loop.call_soon_threadsafe(self._asked_to_look.notify)

    async def work(self) -> None:
        """Claim and run workflows until told to stop; return when no run is left.

        Cancelling this is stopping without a drain. Raises `HandlerNotFound`, `StoreRefused`, and
        what a programming error raises, after the drain.
        """
        try:
            async with (
                self._watched(),
                self._beside(
                    self._renew_leases(),
                    self._expire_leases(),
                    self._heed_control(),
                    self._look_for_stop(),
                    *([] if self._expiry is None else [self._expiry.run()]),
                ),
            ):
                try:
                    await self._poll()
                except asyncio.CancelledError:
                    self._hurrying.set()
                    raise
                except Exception as error:  # noqa: BLE001 - raised below, after the drain
                    self._give_up(error)
                finally:
                    self._stop.notify()
                    await see_through(self._leave(), on_cancel=self._hurrying.set)
        finally:
            self.ended.set()
        if self._fatal is not None:
            raise self._fatal

    # Claiming ----------------------------------------------------------------------------------

    async def _poll(self) -> None:
        outage = pauses(self._poll_interval)
        while not (self._is_stopping or self._is_told_to_stop()):
            runs_ended = self._run_ended.count
            free = self._max_concurrency - len(self._runs)
            try:
                if free == 0:
                    await self._unless_stopped(self._run_ended.wait(runs_ended))
                    continue
                claimed = await see_through(self._claim(free))
                outage = pauses(self._poll_interval)
                if claimed == 0:
                    await self._unless_stopped(self._store.wait_for_work(self._poll_interval))
            except StoreUnavailable as error:
                self._note_failure(error)
                await self._unless_stopped(self._clock.sleep(next(outage)))

    async def _claim(self, limit: int) -> int:
        """Claim and start up to `limit` workflows; how many there were."""
        lease = self._shortest_lease
        deadline = self._clock.monotonic() + lease.total_seconds()
        handlers = self._registrations.keys() if self._skip_unknown else None
        now = self._clock.now()
        claims = await self._store.claim(self.name, now, lease, limit, handlers)
        self._note_contact()
        await self._start_all([self._new_run(one, deadline) for one in claims if self._knows(one)])
        for claim in claims:
            if not self._knows(claim):
                await self._refuse(claim)
        return len(claims)

    def _knows(self, claim: Claim) -> bool:
        return claim.workflow.handler_id in self._registrations

    def _new_run(self, claim: Claim, deadline: float) -> Run:
        registration = self._registrations[claim.workflow.handler_id]
        lease = Lease(claim, self._clock, deadline, registration.lease)
        return Run(self._store, lease, registration)

    @property
    def _shortest_lease(self) -> timedelta:
        """What is claimed with: a claim does not know its handler yet, and leases do not shrink."""
        return min([one.lease for one in self._registrations.values()], default=self._lease)

    async def _start_all(self, runs: Sequence[Run]) -> None:
        """Start runs, but of suspects only one at a time: so a death tells which of them it was."""
        suspects = [run for run in runs if run.is_suspect]
        is_taken = any(run.is_suspect for run in self._runs.values())
        put_off = suspects if is_taken else suspects[1:]
        batch = Batch(self._store, [run.lease.claim for run in runs if run not in put_off])
        for run in runs:
            if run not in suspects:
                self._start(run, batch)
        await self._put_off(put_off, batch)
        for run in suspects:
            if run not in put_off:
                logger.warning("workflow %r may be what kills the workers", run.workflow_id)
                self._start(run, batch)

    async def _put_off(self, runs: Sequence[Run], batch: Batch) -> None:
        """Give claims back, each until another time; return when they cannot be lost any more."""
        for run in runs:
            pause = self._lease * random.random()  # noqa: S311 - nothing secret
            run.put_off(in_milliseconds(self._clock.now() + pause))
        if tasks := [self._start(run, batch) for run in runs]:
            await asyncio.wait(tasks)

    def _start(self, run: Run, batch: Batch) -> asyncio.Task[None]:
        task = asyncio.create_task(run.execute(batch), name=f"workflow {run.workflow_id}")
        self._runs[task] = run
        task.add_done_callback(self._on_run_end)
        self._run_began.notify()
        return task

    def _on_run_end(self, task: asyncio.Task[None]) -> None:
        del self._runs[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._give_up(error)
        self._run_ended.notify()
        if not self._runs:
            self._last_run_ended.notify()

    async def _refuse(self, claim: Claim) -> None:
        """Hand back a workflow whose handler is not here, and end the loop."""
        self._give_up(HandlerNotFound(claim.workflow.handler_id, claim.workflow_id))
        try:
            await self._store.release(claim, self._clock.now())
        except (StoreError, ClaimLost) as error:
            logger.warning("workflow %r could not be handed back: %r", claim.workflow_id, error)

    # Leases ------------------------------------------------------------------------------------

    async def _renew_leases(self) -> None:
        pause = interval = self._shortest_lease / RENEWALS_PER_LEASE
        outage = pauses(interval)
        while True:
            await self._until_something_runs()
            await self._clock.sleep(pause)
            interval = self._shortest_lease / RENEWALS_PER_LEASE
            runs = [run for run in self._runs.values() if run.may_be_renewed]
            try:
                await self._renew([run for run in runs if run.lease.is_due_within(interval)])
            except StoreUnavailable as error:
                self._note_failure(error)
                pause = next(outage)
            else:
                outage, pause = pauses(interval), interval

    async def _renew(self, runs: Sequence[Run]) -> None:
        for span, group in by_span(runs, lambda run: run.lease).items():
            await self._renew_for(span, group)

    async def _renew_for(self, span: timedelta, runs: Sequence[Run]) -> None:
        deadline = self._clock.monotonic() + span.total_seconds()
        claims = [run.lease.claim for run in runs]
        lost = await self._store.renew(claims, self._clock.now(), span)
        self._note_contact()
        lost_keys = {claim.key for claim in lost}
        for run in runs:
            if run.lease.claim.key in lost_keys:
                run.lose("was taken over")
            else:
                run.lease.extend(deadline)

    async def _heed_control(self) -> None:
        """When somebody may have cancelled or paused what runs here, find out at once.

        By a renewal, or by a look where that would get in the way.
        """
        outage = pauses(self._lease)
        while True:
            await self._until_something_runs()
            since = self._clock.now()
            await self._clock.sleep(_HEED_AFTER)  # what has ended by then needs none of this
            while self._runs:
                asked_at = self._clock.now()
                try:
                    if await self._is_controlled(since):
                        heard_at = self._clock.now()
                        runs = self._all_runs()
                        await self._renew([run for run in runs if run.may_be_renewed])
                        await self._look_up([run for run in runs if run.lease.is_withheld])
                        since = heard_at
                        await self._clock.sleep(_HEED_AFTER)
                    else:
                        since = asked_at  # what others cancel all day must not add up
                    outage = pauses(self._lease)
                except StoreUnavailable as error:
                    self._note_failure(error)
                    await self._clock.sleep(next(outage))

    async def _look_up(self, runs: Sequence[Run]) -> None:
        """Lose the claims that are no longer ours; for runs whose leases are not to be renewed."""
        for run in runs:
            with suppress(CorruptDocument):  # which its run meets when it writes
                workflow = await self._store.find_workflow(run.workflow_id)
                if not machine.in_force(workflow, run.lease.claim):
                    run.lose("was taken over")

    async def _is_controlled(self, since: datetime) -> bool:
        """Whether some claim may have been taken; False when nothing runs any more."""
        waiting = asyncio.ensure_future(self._store.wait_for_control(self.name, since, self._lease))
        await first_of(waiting, self._all_ended())
        return waiting.done() and not waiting.cancelled() and waiting.result()

    async def _expire_leases(self) -> None:
        """Stop the runs that have outlived their leases, whatever the store is doing.

        Timers stand still while the machine is suspended, so none is trusted for a whole lease.
        """
        while True:
            await self._until_something_runs()
            left = [run.lease.left for run in self._runs.values() if not run.lost]
            await self._clock.sleep(min([*left, self._shortest_lease / RENEWALS_PER_LEASE]))
            for run in list(self._runs.values()):
                if run.lease.left <= timedelta(0) and not run.lost:
                    run.lose("outlived its lease")

    async def _until_something_runs(self) -> None:
        while not self._runs:
            await self._run_began.wait()

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Where the store can, keep the leases when the event loop is blocked in the block."""
        store = self._store
        renewer = store.renewer() if isinstance(store, RenewsFromThread) else None
        if renewer is None:
            yield
            return
        watchdog = Watchdog(
            self.name,
            renewer,
            self._clock,
            self._shortest_lease,
            leases=lambda: [run.lease for run in self._all_runs()],
            part_at=self._part_at,
        )
        async with watchdog:
            yield

    def _part_at(self, task: asyncio.Task[Any]) -> str | None:
        """Which part of which workflow a task is in. May be asked from any thread."""
        parts = (run.part_at(task) for run in self._all_runs())
        return next(filter(None, parts), None)

    def _all_runs(self) -> list[Run]:
        """A copy, which nobody changes meanwhile. May be asked from any thread."""
        return list(self._runs.values())

    # Stopping ----------------------------------------------------------------------------------

    async def _leave(self) -> None:
        """Let the runs end, for a while; then cancel them and hand their workflows back."""
        for run in list(self._runs.values()):
            run.drain()
        await first_of(
            self._all_ended(), self._clock.sleep(self._drain_timeout), self._hurrying.wait()
        )
        while self._runs:
            for run in list(self._runs.values()):
                run.hand_back()
            # A handler that swallows its cancellation is cancelled again.
            pause = max(self._drain_timeout, _CANCEL_AGAIN)
            await first_of(self._all_ended(), self._clock.sleep(pause))

    async def _all_ended(self) -> None:
        while self._runs:
            await self._last_run_ended.wait()

    def _give_up(self, error: BaseException) -> None:
        """End the loop, and raise this when it has drained."""
        if self._fatal is None:
            self._fatal = error
        self._stop.notify()

    @property
    def _is_stopping(self) -> bool:
        return self._stop.count > 0

    async def _look_for_stop(self) -> None:
        while not self._is_told_to_stop():
            if self._should_stop is None:  # asking nobody would only keep the processor awake
                await self._asked_to_look.wait()
            else:
                await self._clock.sleep(_LOOK_FOR_STOP)
        self._stop.notify()

    def _is_told_to_stop(self) -> bool:
        try:
            return self._should_stop is not None and self._should_stop()
        except asyncio.CancelledError as error:  # it is not this task that was cancelled
            raise RuntimeError("should_stop was cancelled from within") from error

    async def _unless_stopped(
        self, wait: Coroutine[Any, Any, object] | asyncio.Future[None]
    ) -> None:
        await first_of(wait, self._stop.wait(seen=0))

    @asynccontextmanager
    async def _beside(self, *chores: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Run chores beside the loop for as long as the block lasts; an error ends the loop."""
        tasks = [asyncio.create_task(chore) for chore in chores]
        for task in tasks:
            task.add_done_callback(self._on_chore_end)
        try:
            yield
        finally:
            await end_all(tasks)

    def _on_chore_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._give_up(error)

    # Health ------------------------------------------------------------------------------------

    def _note_contact(self) -> None:
        if self._store_failures:
            failures = counted(self._store_failures, "failure")
            logger.info("%s: store back after %s", self.name, failures)
        self._store_failures = 0
        self._last_contact_at = self._clock.now()

    def _note_failure(self, error: StoreUnavailable) -> None:
        self._store_failures += 1
        self._last_store_error = str(error)
        logger.warning("%s: store unavailable, trying again: %r", self.name, error)

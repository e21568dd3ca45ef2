"""The way from the processes of a simulation to its store."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import Context as Variables
from datetime import datetime, timedelta
from typing import Any, TypeVar

from typing_extensions import override

from bluestreak_core import BluestreakError, Claim, Store
from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import WakeUp, finish_despite_cancel
from bluestreak_core.model import NewMessage, NoMessage, Step, WorkerRecord
from bluestreak_core.store.wrapper import UNCOUNTED
from bluestreak_core.testing import Process, StoreWrapper
from bluestreak_core.testing.virtual.process import ProcessState
from tests.simulation import fleet_invariant as invariant
from tests.simulation.record import Record
from tests.simulation.scenario import LEASE

T = TypeVar("T")


class Network(StoreWrapper):
    """The way from one process to the store.

    What has been sent arrives, some time later, even if its sender is dead by then or stands still;
    then it may have been held up for longer than a lease.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        record: Record,
        chance: random.Random,
        heard: Mapping[str, WakeUp],
    ) -> None:
        super().__init__(store)
        self.sent: dict[str, WakeUp] = defaultdict(WakeUp)
        """Notified whenever a call of this name has been sent."""
        self.calls = WakeUp()
        """Notified whenever a call has been sent."""
        self._heard = heard
        self._own_clock = clock
        self._record = record
        self._chance = chance
        self._latency = record.scenario.latency

    @property
    @override
    def clock(self) -> Clock:
        return self._own_clock

    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        """Hints follow the store's clock; they are late for a process whose own clock is behind."""
        await super().wait_for_work(timeout)
        await asyncio.sleep(max(0.0, (self._store.clock.now() - self.clock.now()).total_seconds()))

    @override
    async def wait_for_message(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        """This hint takes its time, too."""
        has_come = await super().wait_for_message(workflow_id, mail, timeout)
        await asyncio.sleep(self._chance.uniform(0, self._latency))
        return has_come

    @override
    async def register_worker(self, record: WorkerRecord) -> None:
        """Wait for ever: no run depends on it, and its pauses would change what a seed does."""
        await asyncio.get_running_loop().create_future()

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        invariant.lost_runs_record_nothing(self._record, claim, step_id)
        return await super().save_step(claim, step_id, output, now)

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        invariant.lost_runs_record_nothing(self._record, claim, step_id)
        return await super().transact(claim, step_id, fn, now)

    @override
    async def send(self, message: NewMessage) -> bool:
        """Put a message into its mailbox, and then have it counted."""
        is_new = await super().send(message)
        await super().send(message)
        return is_new

    @override
    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        """Put messages into their mailboxes, and then have them counted."""
        put = await super().send_many(messages)
        counted = await super().send_many(messages)
        return [
            first if isinstance(second, bool) else second
            for first, second in zip(put, counted, strict=True)
        ]

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        """Read the count of messages, and then look for one."""
        invariant.lost_runs_record_nothing(self._record, claim, step_id)
        workflow = await self.find_workflow(claim.workflow_id)
        found = await super().receive(claim, step_id, names, now, give_up=give_up)
        if isinstance(found, Step):
            return found
        return NoMessage(mail=0 if workflow is None else workflow.mail)

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name in UNCOUNTED:
            return await call()
        for heard in (self.calls, self.sent[name], self._heard[name]):
            heard.notify()
        delivery = self._deliver(Process.of(), call)
        loop = asyncio.get_running_loop()
        return await finish_despite_cancel(loop.create_task(delivery, context=Variables()))

    async def _deliver(self, sender: Process | None, call: Callable[[], Awaitable[T]]) -> T:
        if self._latency:
            await asyncio.sleep(self._chance.uniform(0, self._latency))
        if sender is not None and sender.state is not ProcessState.RUNNING:
            await asyncio.sleep(self._chance.choice((0, LEASE * 1.2, LEASE * 2)))
        answer = await call()
        if self._latency:
            await asyncio.sleep(self._chance.uniform(0, self._latency))
        return answer

"""The workers of a simulated fleet."""

from __future__ import annotations

import asyncio
from typing import Any, assert_never

from bluestreak_core import Bluestreak
from bluestreak_core.testing import Process
from tests.run_watch import RunWatch
from tests.simulation import fleet_invariant as invariant
from tests.simulation.handler import Handler
from tests.simulation.network import Network
from tests.simulation.scenario import DEADLINES, LEASE, TIME_TO_STOP, Action, Deed, handler_id
from tests.simulation.setting import Setting


class Worker:
    """A worker of the fleet: one process after the other."""

    def __init__(self, setting: Setting, handler: Handler, number: int) -> None:
        self.engine: Bluestreak | None = None
        self.network: Network | None = None
        self._setting = setting
        self._handler = handler
        self._number = number
        self._generation = 0
        self._process: Process | None = None
        self._poll: asyncio.Task[None] | None = None
        self._away = 0

    def begin(self) -> None:
        """Start a process, unless one runs or its time is still to come."""
        if self._away or self.engine is not None:
            return
        self._generation += 1
        self._process = self._setting.process(f"worker {self._number}.{self._generation}")
        self.network = self._setting.network(self._setting.clock_of(self._number))
        self.engine = self._new_engine(self.network)
        self._poll = self._process.spawn(self._work(self.engine))

    def _new_engine(self, network: Network) -> Bluestreak:
        scenario = self._setting.scenario
        engine = Bluestreak(
            network,
            timeout_interval=LEASE,
            poll_interval=scenario.poll_interval,
            park_after=scenario.park_after,
            max_concurrency=scenario.slots,
            max_crashes=None,
            expire_ended_after=scenario.expire_after,
            hooks=[RunWatch()],
        )
        pauses = self._setting.record.backoff
        rules: dict[str, Any] = {} if pauses is None else {"wait_retry_interval": pauses}
        for deadline in (None, *DEADLINES):
            engine.register_handler(handler_id(deadline), self._handler, deadline=deadline, **rules)
        return engine

    async def _work(self, engine: Bluestreak) -> None:
        await engine.init()
        await engine.poll()

    async def undergo(self, action: Action) -> None:
        """Let something be done to it, and be back later."""
        process, engine, poll = self._process, self.engine, self._poll
        if process is None or engine is None or poll is None:
            return
        self._away += 1
        match action.deed:
            case Deed.KILL:
                self.engine = None
                process.kill()
                await asyncio.sleep(action.seconds)
            case Deed.HALT:
                process.halt()
                await asyncio.sleep(action.seconds)
                process.resume()
            case Deed.STOP | Deed.STOP_TWICE:
                self.engine = None
                engine.stop()
                if action.deed is Deed.STOP_TWICE:
                    engine.stop()
                await self._stopped(poll, engine)
            case _:
                assert_never(action.deed)
        self._away -= 1
        self.begin()

    async def end(self) -> None:
        """Stop it for good."""
        self._away += 1
        engine, poll, self.engine = self.engine, self._poll, None
        if engine is not None and poll is not None:
            runs = engine.health().runs
            invariant.slots_are_released(self._setting.record, str(self), runs)
            engine.stop()
            await self._stopped(poll, engine)

    async def _stopped(self, poll: asyncio.Task[None], engine: Bluestreak) -> None:
        asked_at = self._setting.loop.time()
        await asyncio.wait({poll})
        took = self._setting.loop.time() - asked_at
        is_late = took > TIME_TO_STOP and not self._setting.fault_rate
        invariant.workers_stop_well(
            self._setting.record,
            str(self),
            error=poll.exception(),
            runs=engine.health().runs,
            late=took if is_late else None,
        )

    def __str__(self) -> str:
        return f"worker {self._number}"

"""One simulation: a fleet on a store in memory, in virtual time, as a scenario has it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context as Variables
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, assert_never

from typing_extensions import override

from bluestreak_core import Bluestreak, Context, Status, Store, StoreUnavailable
from bluestreak_core.cancellation import see_through
from bluestreak_core.clock import Clock, first_of
from bluestreak_core.signal import Signal
from bluestreak_core.testing import (
    FaultyStore,
    Process,
    StoreAround,
    VirtualClock,
    VirtualLoop,
)
from bluestreak_core.testing.around import UNCOUNTED
from bluestreak_core.testing.process import ProcessState
from bluestreak_core.testing.virtual_time import NothingLeftToHappen, TooManyTurns
from bluestreak_memory import MemoryStore
from tests.simulation.observer import Observer
from tests.simulation.scenario import CHAOS, LEASE, Action, Deed, Kind, Operation, Scenario, Start

T = TypeVar("T")

TIME_TO_END = 1500.0
"""Seconds after the chaos by which everything must have come to its end."""

TURNS = 50_000
_AMID_WITHIN = 30.0
_ROUNDING = 0.002
_TIME_TO_STOP = 40.0
"""The time to drain, twice that of a step that swallows its cancellation, and some."""

_TIME_TO_LEAVE = 100.0
"""Seconds in which runs that have lost their claims must have left their slots."""

_PUNCTUAL = timedelta(seconds=2)
_CALM_AFTER = CHAOS + 4 * LEASE


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was violated in a simulation, if anything, and what has happened in it."""

    scenario: Scenario
    violations: list[str]
    timeline: list[str]


def simulate(scenario: Scenario) -> Verdict:
    """Run a scenario to its end, and check what must hold."""
    with _quiet(scenario.chance):
        world = _World(scenario)
        try:
            world.run()
        finally:
            world.close()
    observer = world.observer
    return Verdict(scenario=scenario, violations=observer.violations, timeline=observer.timeline)


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Without logs, and with all chance from the seed, that of the engine's backoff too."""
    state = random.getstate()
    random.seed(seed)
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        random.setstate(state)


class _Network(StoreAround):
    """The way from one process to the store.

    What has been sent arrives, some time later, even if its sender is dead by then or stands still;
    then it may have been held up for longer than a lease.
    """

    def __init__(self, store: Store, clock: Clock, latency: float, chance: random.Random) -> None:
        super().__init__(store)
        self.sent: dict[str, Signal] = defaultdict(Signal)
        """Tells by the name of a call that one has been sent."""
        self._own_clock = clock
        self._latency = latency
        self._chance = chance

    @property
    @override
    def clock(self) -> Clock:
        return self._own_clock

    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        """Hints are given by the store's clock; a process whose own is behind is told that late."""
        await super().wait_for_work(timeout)
        await asyncio.sleep(max(0.0, (self._store.clock.now() - self.clock.now()).total_seconds()))

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name in UNCOUNTED:
            return await call()
        self.sent[name].notify()
        delivery = self._deliver(Process.of(), call)
        loop = asyncio.get_running_loop()
        return await see_through(loop.create_task(delivery, context=Variables()))

    async def _deliver(self, sender: Process | None, call: Callable[[], Awaitable[T]]) -> T:
        if self._latency:
            await asyncio.sleep(self._chance.uniform(0, self._latency))
        if sender is not None and sender.state is not ProcessState.RUNNING:
            await asyncio.sleep(self._chance.choice((0, LEASE * 1.2, LEASE * 2)))
        answer = await call()
        if self._latency:
            await asyncio.sleep(self._chance.uniform(0, self._latency))
        return answer


class _Worker:
    """A worker of the fleet: one process after the other."""

    def __init__(self, world: _World, number: int) -> None:
        self.engine: Bluestreak | None = None
        self.network: _Network | None = None
        self._world = world
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
        self._process = self._world.process(f"worker {self._number}.{self._generation}")
        self.network = self._world.network(self._world.clock_of(self._number))
        self.engine = self._world.engine(self.network)
        self._poll = self._process.spawn(self._work(self.engine))

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
        """Stop it for good, and check that nothing is left of it."""
        self._away += 1
        engine, poll, self.engine = self.engine, self._poll, None
        if engine is not None and poll is not None:
            if engine.health().runs:
                self._world.observer.violated(f"worker {self._number} has leaked a slot")
            engine.stop()
            await self._stopped(poll, engine)

    async def _stopped(self, poll: asyncio.Task[None], engine: Bluestreak) -> None:
        """It stops in time, without an error, and nothing is left of it."""
        loop, observer = asyncio.get_running_loop(), self._world.observer
        asked_at = loop.time()
        await asyncio.wait({poll})
        if (error := poll.exception()) is not None:
            observer.violated(f"poll raised {error!r}")
        if engine.health().runs:
            observer.violated("poll returned though something ran")
        if loop.time() > asked_at + _TIME_TO_STOP and not self._world.is_faulty:
            observer.violated(f"worker {self._number} took {loop.time() - asked_at} s to stop")


class _World:
    """Everything in a simulation."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._loop = VirtualLoop()
        self._loop.allow(TURNS)
        self._clock = VirtualClock(self._loop)
        self._chance = random.Random(scenario.chance)
        self.observer = Observer(MemoryStore(clock=self._clock))
        self._faulty = FaultyStore(
            self.observer, seed=scenario.chance, rate=scenario.fault_rate, delay=LEASE * 1.5
        )
        self._processes: list[Process] = []
        self._workers = [_Worker(self, number) for number in range(len(scenario.skews))]
        self._plans = {start.workflow_id: start.operations for start in scenario.starts}
        self._calls: Counter[tuple[str, str]] = Counter()
        self._accepted: set[str] = set()

    def run(self) -> None:
        """Let all of it happen."""
        try:
            self._loop.run_until_complete(self._happen())
        except (NothingLeftToHappen, TooManyTurns) as stuck:
            self.observer.violated(f"it came to no end: {type(stuck).__name__}")

    def close(self) -> None:
        """Leave no task behind."""
        self._loop.allow(None)
        for process in self._processes:
            self._loop.run_until_complete(process.bury())
        self._loop.close()

    # The fleet -----------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        """A new process."""
        self._processes.append(Process(name, self._loop))
        return self._processes[-1]

    def clock_of(self, worker: int) -> Clock:
        """What a worker takes for the time."""
        return VirtualClock(self._loop, ahead=timedelta(seconds=self._scenario.skews[worker]))

    def network(self, clock: Clock) -> _Network:
        """A new process's way to the store."""
        return _Network(self._faulty, clock, self._scenario.latency, self._chance)

    def engine(self, network: _Network) -> Bluestreak:
        """The engine of a worker's new process."""
        scenario = self._scenario
        engine = Bluestreak(
            network,
            timeout_interval=LEASE,
            poll_interval=scenario.poll_interval,
            park_after=scenario.park_after,
            max_concurrency=scenario.slots,
            max_crashes=None,
        )
        engine.register_handler("plan", self._handle)
        return engine

    @property
    def is_faulty(self) -> bool:
        """Whether calls of the store may fail or take long."""
        return self._faulty.rate > 0

    async def _happen(self) -> None:
        scenario = self._scenario
        for worker in self._workers:
            worker.begin()
        clients = [self._client(start) for start in scenario.starts for _ in range(start.copies)]
        deeds = [self._act(action) for action in scenario.actions]
        everything = asyncio.gather(*clients, *deeds, self._heal())
        try:
            async with asyncio.timeout(CHAOS + TIME_TO_END):
                await everything
        except TimeoutError:
            self.observer.violated("not everything came to its end")
        await asyncio.sleep(_TIME_TO_LEAVE)
        for worker in self._workers:
            await worker.end()
        await self._audit()

    async def _act(self, action: Action) -> None:
        await asyncio.sleep(action.at)
        worker = self._workers[action.worker]
        if action.amid is not None and worker.network is not None:
            sent = worker.network.sent[action.amid].wait()
            await first_of(sent, asyncio.sleep(_AMID_WITHIN))
        self.observer.note(f"{action.deed} worker {action.worker}")
        await worker.undergo(action)

    async def _heal(self) -> None:
        await asyncio.sleep(CHAOS)
        self.observer.note("healed")
        self._faulty.rate = 0.0

    async def _client(self, start: Start) -> None:
        """Start a workflow, until it is known to exist, and wait for its end."""
        engine = Bluestreak(self.network(self._clock))
        await engine.init()
        await asyncio.sleep(start.at)
        while True:
            with suppress(StoreUnavailable):
                await engine.start(start.workflow_id, "plan", start.workflow_id)
                break
            await asyncio.sleep(0.1)
        self._accepted.add(start.workflow_id)
        while True:
            with suppress(StoreUnavailable):
                result = await engine.wait(start.workflow_id, retries=100, pause_interval=60)
                break
            await asyncio.sleep(0.1)
        self._check_reader(start.workflow_id, result)

    # What workflows do ---------------------------------------------------------------------------

    async def _handle(self, ctx: Context, workflow_id: str) -> list[Any]:
        return [await self._do(ctx, operation) for operation in self._plans[workflow_id]]

    async def _do(self, ctx: Context, operation: Operation) -> Any:
        match operation.kind:
            case Kind.GATHER:
                return await asyncio.gather(*(self._do(ctx, one) for one in operation.branches))
            case Kind.NAP:
                await ctx.sleep(operation.id, operation.seconds)
                self._check_nap(ctx.workflow_id, operation.id)
                return operation.id
            case Kind.THREAD:
                output = await ctx.step(operation.id, self._called, ctx, operation.id)
            case _:
                output = await ctx.step(operation.id, self._work, ctx, operation)
        self._check_output(ctx.workflow_id, operation.id, output)
        return output

    def _called(self, ctx: Context, step_id: str) -> str:
        """Count a call of a step; its output tells this call from all others."""
        workflow_id = ctx.workflow_id
        if not any(self._scenario.skews):
            self.observer.check_owner(ctx._journal.lease.claim, f"called step {step_id}")
        self._calls[workflow_id, step_id] += 1
        return f"{workflow_id}/{step_id}#{self._calls[workflow_id, step_id]}"

    async def _work(self, ctx: Context, operation: Operation) -> str:
        output = self._called(ctx, operation.id)
        call = self._calls[ctx.workflow_id, operation.id]
        if operation.kind is Kind.FLAKY and call <= operation.failures:
            raise ConnectionError(f"{output} fails")
        if operation.kind is Kind.STUBBORN:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(operation.seconds)
        elif operation.kind is not Kind.STUCK or call == 1:
            await asyncio.sleep(operation.seconds)
        return output

    # What must hold ------------------------------------------------------------------------------

    def _check_output(self, workflow_id: str, step_id: str, output: Any) -> None:
        recorded = self.observer.outputs.get((workflow_id, f"step {step_id}"))
        if output != recorded:
            self.observer.violated(f"{workflow_id} got {output} for step {step_id}: {recorded}")

    def _check_nap(self, workflow_id: str, nap_id: str) -> None:
        skews = self._scenario.skews
        slack = timedelta(seconds=max(skews) - min(skews) + max(map(abs, skews)) + _ROUNDING)
        if self._clock.now() + slack < self.observer.outputs[workflow_id, f"nap {nap_id}"]:
            self.observer.violated(f"{workflow_id} woke from nap {nap_id} early")

    def _check_reader(self, workflow_id: str, result: Any) -> None:
        expected = [self._expected(workflow_id, one) for one in self._plans[workflow_id]]
        if result != expected:
            self.observer.violated(f"{workflow_id} returned {result}, recorded is {expected}")

    def _expected(self, workflow_id: str, operation: Operation) -> Any:
        if operation.kind is Kind.GATHER:
            return [self._expected(workflow_id, branch) for branch in operation.branches]
        if operation.kind is Kind.NAP:
            return operation.id
        return self.observer.outputs.get((workflow_id, f"step {operation.id}"))

    async def _audit(self) -> None:
        for workflow_id in sorted(self._accepted):
            workflow = await self.observer.find_workflow(workflow_id)
            if workflow is None or workflow.status is not Status.FINISHED:
                status = workflow.status if workflow else "gone"
                self.observer.violated(f"{workflow_id} was accepted, and is {status}")
        if self._scenario.is_calm:
            self._check_calls()
        if not any(self._scenario.skews) and self._scenario.slots >= len(self._plans):
            self._check_punctuality()

    def _check_calls(self) -> None:
        """Where nothing goes wrong, each step is called once, and again after a failure."""
        for (workflow_id, step_id), count in self._calls.items():
            failures = sum(operation.failures for operation in _flat(self._plans[workflow_id]))
            if count > 1 + failures:
                self.observer.violated(f"{workflow_id} called step {step_id} {count} times")

    def _check_punctuality(self) -> None:
        """When all is well again, what falls due is claimed at once."""
        for at, late, workflow_id in self.observer.lateness:
            is_calm = (at - late - self._clock.start).total_seconds() > _CALM_AFTER
            if late > _PUNCTUAL and (is_calm or self._scenario.is_calm):
                self.observer.violated(f"{workflow_id} was claimed {late} after it was due")


def _flat(operations: Iterable[Operation]) -> Iterator[Operation]:
    for operation in operations:
        yield operation
        yield from _flat(operation.branches)

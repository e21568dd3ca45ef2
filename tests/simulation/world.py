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
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar, assert_never

from typing_extensions import override

from bluestreak_core import (
    Abort,
    Backoff,
    Bluestreak,
    Claim,
    Context,
    Retry,
    Status,
    StepFailed,
    StepNotRecorded,
    Store,
    StoreUnavailable,
    TransitionRefused,
    Workflow,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowConflict,
    WorkflowNotFound,
    machine,
)
from bluestreak_core import Start as NewStart
from bluestreak_core.cancellation import see_through
from bluestreak_core.clock import Clock, first_of
from bluestreak_core.lease import Lease
from bluestreak_core.machine import Event
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
from bluestreak_memory import MemorySession, MemoryStore
from tests.simulation.observer import Observer
from tests.simulation.scenario import (
    CHAOS,
    DEADLINES,
    LEASE,
    Action,
    Deed,
    Fork,
    Kind,
    Operation,
    Order,
    Scenario,
    Start,
    Way,
    handler_id,
)

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
_CALM_AFTER = CHAOS + _AMID_WITHIN + _TIME_TO_STOP + LEASE

_TOLD_WITHIN = 1.0
"""Seconds after which a worker knows that a claim was taken, if the store answers at once."""

_MESSAGES = 7
"""How many may be under way one after the other until then, from the claim on."""

_TIME_TO_EXPIRE = timedelta(minutes=5)
"""By how much later than it might a worker deletes what has ended."""

_TIME_TO_LOOK = timedelta(seconds=60)
"""How long a workflow has to stay cancelled so that its worker, which lives, surely sees it so."""


_GROWTH = 3.0
_ROLLED_BACK = "rolled back"
"""The reason of cancellations that must not come about."""


class _RollBack(Exception):
    """Has a transaction rolled back."""


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

    def __init__(self, world: _World, store: Store, clock: Clock) -> None:
        super().__init__(store)
        self.sent: dict[str, Signal] = defaultdict(Signal)
        """Tells by the name of a call that one has been sent."""
        self._world = world
        self._own_clock = clock
        self._latency = world.scenario.latency
        self._chance = world.chance

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
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        self._world.check_sender(claim, step_id)
        return await super().save_step(claim, step_id, output, now)

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        self._world.check_sender(claim, step_id)
        return await super().transact(claim, step_id, fn, now)

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
        self.scenario = scenario
        self._loop = VirtualLoop()
        self._loop.allow(TURNS)
        self._clock = VirtualClock(self._loop)
        self.chance = random.Random(scenario.chance)
        self._memory = MemoryStore(clock=self._clock)
        self.observer = Observer(self._memory)
        self.observer.kept_for = timedelta(seconds=scenario.expire_after or 0)
        self.observer.backoff = self._backoff if scenario.is_healthy else None
        self.observer.deadline_at = self._deadline_at
        self._faulty = FaultyStore(
            self.observer, seed=scenario.chance, rate=scenario.fault_rate, delay=LEASE * 1.5
        )
        self._processes: list[Process] = []
        self._workers = [_Worker(self, number) for number in range(len(scenario.skews))]
        self._plans = {
            one: start.operations for start in scenario.starts for one in start.workflow_ids
        }
        for fork in scenario.forks:
            self._plans[fork.new_id] = self._plans.get(fork.workflow_id, ())
        self._calls: Counter[tuple[str, str]] = Counter()
        self._ledger: dict[tuple[str, str], int] = {}
        """How often what each transaction does has been done, and has not been taken back."""
        self._placed: dict[str, bool] = {}
        """What was written beside each start in a transaction."""
        self._accepted: set[str] = set()
        self._released = asyncio.Event()
        self._leases: dict[tuple[str, str], Lease] = {}
        self._asked_for: dict[tuple[str, str], list[str]] = defaultdict(list)
        """The clean-ups that each run has asked for."""
        self._cleaned: dict[tuple[str, str], list[str]] = defaultdict(list)
        """Those that were called in each run."""

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
        return VirtualClock(self._loop, ahead=timedelta(seconds=self.scenario.skews[worker]))

    def network(self, clock: Clock) -> _Network:
        """A new process's way to the store."""
        return _Network(self, self._faulty, clock)

    def engine(self, network: _Network) -> Bluestreak:
        """The engine of a worker's new process."""
        scenario = self.scenario
        engine = Bluestreak(
            network,
            timeout_interval=LEASE,
            poll_interval=scenario.poll_interval,
            park_after=scenario.park_after,
            max_concurrency=scenario.slots,
            max_crashes=None,
            expire_ended_after=scenario.expire_after,
        )
        pauses = self._backoff
        rules: dict[str, Any] = {} if pauses is None else {"wait_retry_interval": pauses}
        for deadline in (None, *DEADLINES):
            engine.register_handler(handler_id(deadline), self._handle, deadline=deadline, **rules)
        return engine

    @property
    def _backoff(self) -> Backoff | None:
        initial = self.scenario.backoff
        if initial is None:
            return None
        return Backoff(initial=initial, factor=_GROWTH, max_delay=10 * initial, jitter=0)

    @property
    def is_faulty(self) -> bool:
        """Whether calls of the store may fail or take long."""
        return self._faulty.rate > 0

    async def _happen(self) -> None:
        scenario = self.scenario
        for worker in self._workers:
            worker.begin()
        clients = [self._client(start) for start in scenario.starts for _ in range(start.copies)]
        deeds = [self._act(action) for action in scenario.actions]
        orders = [self._give(order) for order in scenario.orders]
        forks = [self._fork(fork) for fork in scenario.forks]
        everything = asyncio.gather(
            *clients, *deeds, *orders, *forks, self._heal(), self._release()
        )
        try:
            async with asyncio.timeout(CHAOS + TIME_TO_END):
                await everything
        except TimeoutError:
            self.observer.violated("not everything came to its end")
        await asyncio.sleep(_TIME_TO_LEAVE)
        for worker in self._workers:
            await worker.end()
        await self._audit()
        await self._prune()

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

    async def _give(self, order: Order) -> None:
        """Let a client do something from outside, and care no further."""
        engine = Bluestreak(self.network(self._clock))
        await engine.init()
        await asyncio.sleep(order.at)
        with suppress(StoreUnavailable, TransitionRefused, WorkflowNotFound):
            if order.commits is None:
                await self._order(engine, order.event, order.workflow_id)
            else:
                await self._cancel(engine, order)

    async def _cancel(self, engine: Bluestreak, order: Order) -> None:
        """Cancel a workflow in a transaction, which is committed or not."""
        reason = "ordered" if order.commits else _ROLLED_BACK
        with suppress(_RollBack):
            async with self._memory.transaction() as session:
                await engine.cancel(order.workflow_id, reason, session=session)
                if not order.commits:
                    raise _RollBack

    async def _order(self, engine: Bluestreak, event: Event, workflow_id: str) -> None:
        match event:
            case Event.CANCEL:
                await engine.cancel(workflow_id, "ordered")
            case Event.PAUSE:
                await engine.pause(workflow_id)
            case Event.RESUME:
                await engine.resume(workflow_id)
            case _:
                await engine.retry(workflow_id)

    async def _release(self) -> None:
        """When no order can be on its way any more, let what is held up come to its end."""
        engine = Bluestreak(self.network(self._clock))
        await engine.init()
        await asyncio.sleep(_CALM_AFTER)
        last = [Event.RESUME, Event.RETRY] if self.scenario.retries else [Event.RESUME]
        for workflow_id in sorted(self.observer.created):
            for event in last:
                with suppress(TransitionRefused, WorkflowNotFound):
                    await self._order(engine, event, workflow_id)
        self._released.set()

    async def _client(self, start: Start) -> None:
        """Start a workflow, until it is known to exist, and wait for its end."""
        engine = Bluestreak(self.network(self._clock))
        await engine.init()
        await asyncio.sleep(start.at)
        while True:
            with suppress(StoreUnavailable):
                await self._start(engine, start)
                break
            await asyncio.sleep(0.1)
        self._accepted.update(start.workflow_ids)
        if start.is_strict:
            await self._start_another(engine, start)
        await asyncio.gather(*(self._wait(engine, one) for one in start.workflow_ids))

    async def _start(self, engine: Bluestreak, start: Start) -> None:
        workflow_id, handler, delay = start.workflow_id, start.handler_id, start.delay
        match start.way:
            case Way.DELAY:
                strict = start.is_strict
                await engine.start(workflow_id, handler, workflow_id, delay=delay, strict=strict)
            case Way.AT:
                at = self._clock.start + timedelta(seconds=start.at + delay)
                strict = start.is_strict
                await engine.start(workflow_id, handler, workflow_id, at=at, strict=strict)
            case Way.MANY:
                ids = (*start.workflow_ids, workflow_id)
                new = await engine.start_many(
                    NewStart(one, handler, one, delay=delay) for one in ids
                )
                if new[-1]:
                    self.observer.violated(f"{workflow_id} was new twice in one start_many")
            case Way.ROLLED_BACK:
                await self._place(engine, start, commits=False)
                await self._place(engine, start, commits=True)
            case Way.SESSION:
                await self._place(engine, start, commits=True)
            case _:
                assert_never(start.way)

    async def _place(self, engine: Bluestreak, start: Start, *, commits: bool) -> None:
        """Start a workflow in one transaction with what belongs to it, or do neither."""
        workflow_id, handler = start.workflow_id, start.handler_id
        is_first = start.copies == 1 and workflow_id not in self.observer.created
        with suppress(_RollBack):
            async with self._memory.transaction() as session:
                strict, delay = start.is_strict, start.delay
                if await engine.start(
                    workflow_id, handler, workflow_id, delay=delay, strict=strict, session=session
                ):
                    session.set(self._placed, workflow_id, value=True)
                if not commits:
                    raise _RollBack
        is_there = workflow_id in self.observer.created
        if is_first and is_there is not commits:
            self.observer.violated(f"{workflow_id} is there: {is_there}, and committed: {commits}")
        if (workflow_id in self._placed) is not is_there:
            self.observer.violated(
                f"{workflow_id} is there: {is_there}, but not what belongs to it"
            )

    async def _start_another(self, engine: Bluestreak, start: Start) -> None:
        """Of an id that is taken by something else, a strict start tells, and changes nothing."""
        workflow_id, start_it = start.workflow_id, partial(engine.start, start.workflow_id)
        if workflow_id in self.observer.expired:
            return
        with suppress(StoreUnavailable, WorkflowConflict):
            if start.way in (Way.SESSION, Way.ROLLED_BACK):
                async with self._memory.transaction() as session:
                    await start_it(start.handler_id, "another", strict=True, session=session)
            else:
                await start_it(start.handler_id, "another", strict=True)
            self.observer.violated(f"{workflow_id} was started with another input")

    async def _fork(self, fork: Fork) -> None:
        """Fork a workflow, until that is known to be done or refused, and wait for its end."""
        engine = Bluestreak(self.network(self._clock))
        await engine.init()
        await asyncio.sleep(fork.at)
        while True:
            try:
                await engine.fork(fork.workflow_id, fork.new_id, fork.before)
                break
            except StoreUnavailable:
                await asyncio.sleep(0.1)
            except (WorkflowNotFound, StepNotRecorded):
                return
        await self._wait(engine, fork.new_id)

    async def _wait(self, engine: Bluestreak, workflow_id: str) -> None:
        """Wait for the end of what was accepted, unless it is cancelled or given up for good."""
        self._accepted.add(workflow_id)
        while True:
            try:
                result = await engine.wait(workflow_id, retries=100, pause_interval=60)
            except StoreUnavailable:
                await asyncio.sleep(0.1)
            except (WorkflowCancelled, WorkflowAborted):
                if self._released.is_set():
                    return
                await self._released.wait()
            except WorkflowNotFound:
                if workflow_id not in self.observer.expired:
                    self.observer.violated(f"{workflow_id} was accepted, and is not found")
                return
            else:
                self._check_reader(workflow_id, result)
                return

    # What workflows do ---------------------------------------------------------------------------

    async def _handle(self, ctx: Context, workflow_id: str) -> list[Any]:
        lease = ctx._journal.lease
        self._leases[lease.claim.key] = lease
        self._check_in_time(lease.claim)
        return [await self._do(ctx, operation) for operation in self._plans[workflow_id]]

    async def _do(self, ctx: Context, operation: Operation) -> Any:
        match operation.kind:
            case Kind.GATHER:
                return await asyncio.gather(*(self._do(ctx, one) for one in operation.branches))
            case Kind.NAP:
                await ctx.sleep(operation.id, operation.seconds)
                self._check_nap(ctx.workflow_id, operation.id)
                return operation.id
            case Kind.CLEAN_UP:
                ctx.on_cancel(operation.id, self._clean, ctx, operation)
                self._asked_for[ctx._journal.lease.claim.key].append(operation.id)
                return operation.id
            case Kind.RETRIED | Kind.GIVEN_UP | Kind.TIMED:
                return await self._try(ctx, operation)
            case Kind.REFUSED | Kind.UNEXPECTED:
                return await self._refused(ctx, operation)
            case Kind.ABORT:
                patiently = Retry(max_attempts=None, initial=operation.seconds)
                await ctx.step(operation.id, self._abort, ctx, operation, retry=patiently)
            case Kind.TRANSACTION:
                output = await ctx.transaction(operation.id, self._book, ctx, operation)
            case Kind.THREAD:
                output = await ctx.step(operation.id, self._called, ctx, operation.id)
            case _:
                output = await ctx.step(operation.id, self._work, ctx, operation)
        self._check_output(ctx.workflow_id, operation.id, output)
        return output

    async def _try(self, ctx: Context, operation: Operation) -> str:
        retry = Retry(max_attempts=operation.failures + 1, initial=operation.seconds)
        limit = operation.seconds if operation.kind is Kind.TIMED else None
        try:
            output = await ctx.step(
                operation.id, self._attempt, ctx, operation, retry=retry, timeout=limit
            )
        except StepFailed as failed:
            return _given_up(operation, failed.attempts)
        self._check_output(ctx.workflow_id, operation.id, output)
        return output

    async def _refused(self, ctx: Context, operation: Operation) -> str:
        is_refused = operation.kind is Kind.REFUSED
        retry = Retry(
            max_attempts=None,
            initial=operation.seconds,
            retry_on=Exception if is_refused else ConnectionError,
            give_up_on=PermissionError if is_refused else (),
        )
        try:
            await ctx.step(operation.id, self._attempt, ctx, operation, retry=retry)
        except StepFailed as failed:
            return f"{operation.id} given up for {failed.error_type}"
        return f"{operation.id} was not given up"

    async def _abort(self, ctx: Context, operation: Operation) -> None:
        raise Abort(f"{self._called(ctx, operation.id)} aborts")

    async def _attempt(self, ctx: Context, operation: Operation) -> str:
        if not any(self.scenario.skews):
            self.observer.check_attempt(ctx._journal.lease.claim, operation.id)
        output = self._called(ctx, operation.id)
        call = self._calls[ctx.workflow_id, operation.id]
        if operation.kind is Kind.TIMED and call <= operation.failures:
            await asyncio.sleep(_TIME_TO_STOP)
            self.observer.violated(f"{output} was not cut")
        elif operation.kind is Kind.GIVEN_UP or call <= operation.failures:
            raise ConnectionError(f"{output} fails")
        if operation.kind in (Kind.REFUSED, Kind.UNEXPECTED):
            raise PermissionError(f"{output} is refused")
        return output

    async def _book(self, session: MemorySession, ctx: Context, operation: Operation) -> str:
        output = self._called(ctx, operation.id)
        key = (ctx.workflow_id, operation.id)
        await asyncio.sleep(operation.seconds / 2)
        session.set(self._ledger, key, self._ledger.get(key, 0) + 1)
        await asyncio.sleep(operation.seconds / 2)
        return output

    def _called(self, ctx: Context, step_id: str) -> str:
        """Count a call of a step; its output tells this call from all others."""
        workflow_id = ctx.workflow_id
        if not any(self.scenario.skews):
            self.observer.check_owner(ctx._journal.lease.claim, f"called step {step_id}")
        self._check_told(ctx)
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
            try:
                await asyncio.sleep(operation.seconds)
            except asyncio.CancelledError:
                self._check_told(ctx)
                raise
        return output

    async def _clean(self, ctx: Context, operation: Operation) -> str:
        journal = ctx._journal
        claim, step_id = journal.lease.claim, operation.id
        self._check_clean_up(claim, step_id, already=step_id in journal.history.steps)
        self._cleaned[claim.key].append(step_id)
        self._calls[claim.workflow_id, step_id] += 1
        await asyncio.sleep(operation.seconds)
        return f"{claim.workflow_id}/{step_id}#{self._calls[claim.workflow_id, step_id]}"

    # What must hold ------------------------------------------------------------------------------

    def check_sender(self, claim: Claim, step_id: str) -> None:
        """A run that knows that its claim is lost records nothing more but its clean-ups."""
        lease = self._leases.get(claim.key)
        is_known = lease is not None and lease._lost is not None
        if is_known and step_id not in self._asked_for[claim.key]:
            self.observer.violated(f"{claim.workflow_id}: step {step_id} was sent after the loss")

    def _check_told(self, ctx: Context) -> None:
        """Where nothing goes wrong, a worker soon knows that a claim was taken from outside."""
        claim = ctx._journal.lease.claim
        taken_at = self.observer.taken.get(claim.key)
        within = timedelta(seconds=_TOLD_WITHIN + _MESSAGES * self.scenario.latency)
        if taken_at is None or not self.scenario.is_healthy:
            return
        if (late := self._clock.now() - taken_at) > within:
            self.observer.violated(
                f"{claim.workflow_id}: claim {claim.number} was told {late} late"
            )

    def _check_clean_up(self, claim: Claim, step_id: str, *, already: bool) -> None:
        """It is called where the workflow was cancelled under this claim, in reverse, once."""
        name = f"{claim.workflow_id}: clean-up {step_id}"
        if (claim.workflow_id, claim.number) not in self.observer.cancelled:
            self.observer.violated(
                f"{name} was called though nobody has cancelled claim {claim.number}"
            )
        if already or step_id in self._cleaned[claim.key]:
            self.observer.violated(f"{name} was called again")
        asked_for = self._asked_for[claim.key]
        after = self._cleaned[claim.key][-1:]
        if after and asked_for.index(after[0]) < asked_for.index(step_id):
            self.observer.violated(f"{name} was called after {after[0]}")

    def _check_cleaned(self) -> None:
        """Where workers live on, with their leases, what was asked for is done and recorded."""
        for key, taken_at in self.observer.taken.items():
            workflow_id, _ = key
            lease = self._leases.get(key)
            if lease is None or lease._deadline < (taken_at - self._clock.start).total_seconds():
                continue
            orders = self.observer.orders[workflow_id]
            soon = [event for at, event in orders if taken_at <= at <= taken_at + _TIME_TO_LOOK]
            if soon != [Event.CANCEL]:
                continue
            for step_id in self._asked_for[key]:
                if (workflow_id, f"step {step_id}") not in self.observer.outputs:
                    self.observer.violated(f"{workflow_id}: clean-up {step_id} was not done")

    def _check_output(self, workflow_id: str, step_id: str, output: Any) -> None:
        recorded = self.observer.outputs.get((workflow_id, f"step {step_id}"))
        if output != recorded:
            self.observer.violated(f"{workflow_id} got {output} for step {step_id}: {recorded}")

    def _check_nap(self, workflow_id: str, nap_id: str) -> None:
        skews = self.scenario.skews
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
        if operation.kind in (Kind.NAP, Kind.CLEAN_UP):
            return operation.id
        if operation.kind is Kind.GIVEN_UP:
            return _given_up(operation, operation.failures + 1)
        if operation.kind in (Kind.REFUSED, Kind.UNEXPECTED):
            return f"{operation.id} given up for PermissionError"
        if operation.kind is Kind.ABORT:
            return "nothing, since it aborts"
        return self.observer.outputs.get((workflow_id, f"step {operation.id}"))

    async def _audit(self) -> None:
        for workflow_id in sorted(self._accepted):
            workflow = await self.observer.find_workflow(workflow_id)
            status = workflow.status if workflow else "gone"
            orders = [event for _, event in self.observer.orders[workflow_id]]
            is_wanted = status is Status.CANCELLED and orders[-1:] == [Event.CANCEL]
            is_expired = workflow is None and workflow_id in self.observer.expired
            is_late = workflow is not None and self._is_given_up_late(workflow)
            is_aborted = workflow is not None and self._has_aborted(workflow)
            is_well = is_wanted or is_expired or is_late or is_aborted
            if status is not Status.FINISHED and not is_well:
                self.observer.violated(f"{workflow_id} was accepted, and is {status}")
            if workflow is not None and workflow.reason == _ROLLED_BACK:
                self.observer.violated(f"{workflow_id} was cancelled, and that was rolled back")
            if workflow is not None and self.scenario.is_healthy:
                self._check_ended_in_time(workflow)
        self._check_ledger()
        if not self.scenario.actions:
            self._check_cleaned()
        if self.scenario.is_healthy:
            self._check_calls()
        if not any(self.scenario.skews) and self.scenario.slots >= len(self._plans):
            self._check_punctuality()

    def _deadline_at(self, workflow: Workflow) -> datetime | None:
        deadlines = {handler_id(one): timedelta(seconds=one) for one in DEADLINES}
        return machine.deadline_at(workflow, deadlines.get(workflow.handler_id))

    def _check_in_time(self, claim: Claim) -> None:
        """No handler begins when its time is over."""
        deadline_at = self._deadline_at(claim.workflow)
        is_over = deadline_at is not None and self._clock.now() > deadline_at
        if is_over and self.scenario.is_healthy:
            self.observer.violated(f"{claim.workflow_id} ran though its deadline was {deadline_at}")

    def _is_given_up_late(self, workflow: Workflow) -> bool:
        """Whether it is aborted because of its deadline, and not before that."""
        deadline_at, ended_at = self._deadline_at(workflow), workflow.finished_at
        if workflow.status is not Status.ABORTED or deadline_at is None or ended_at is None:
            return False
        is_so = workflow.error is not None and workflow.error.type.endswith("DeadlineExceeded")
        is_early = ended_at + timedelta(seconds=_ROUNDING) < deadline_at
        return is_so and (not is_early or any(self.scenario.skews))

    def _has_aborted(self, workflow: Workflow) -> bool:
        """Whether it is aborted as its plan has it."""
        is_planned = any(one.kind is Kind.ABORT for one in self._plans[workflow.workflow_id])
        error = workflow.error if workflow.status is Status.ABORTED else None
        return is_planned and error is not None and error.type.endswith("Abort")

    def _check_ended_in_time(self, workflow: Workflow) -> None:
        """What has a deadline ends by that, one way or the other, and expires if it is to."""
        workflow_id, ended_at = workflow.workflow_id, workflow.finished_at
        if ended_at is None:
            return
        deadline_at = self._deadline_at(workflow)
        has_slot = self.scenario.slots >= len(self._plans)
        is_left_alone = has_slot and not self.observer.orders[workflow_id]
        if is_left_alone and deadline_at is not None and ended_at > deadline_at + _PUNCTUAL:
            self.observer.violated(f"{workflow_id} ended {ended_at}, its deadline: {deadline_at}")
        if self.scenario.expire_after is not None:
            due_at = ended_at + timedelta(seconds=self.scenario.expire_after) + _TIME_TO_EXPIRE
            if self._clock.now() > due_at:
                self.observer.violated(f"{workflow_id} ended {ended_at}, and is still there")

    async def _prune(self) -> None:
        """Of what has ended nothing is left, however often a call fails, and all else is."""
        before = {one: await self.observer.find_workflow(one) for one in self.observer.created}
        self._faulty.rate = self.scenario.fault_rate
        self.observer.kept_for = timedelta(0)
        engine = Bluestreak(self.network(self._clock))
        await engine.init()
        while True:
            with suppress(StoreUnavailable):
                await engine.prune(ended_before=self._clock.now())
                break
        for workflow_id, workflow in before.items():
            left = await self.observer.find_workflow(workflow_id)
            if workflow is not None and left != (None if workflow.status.ended else workflow):
                self.observer.violated(f"{workflow_id} was {workflow.status}, and is left: {left}")
        for workflow_id, what in self.observer.outputs:
            kind, _, record_id = what.partition(" ")
            find = self.observer.find_nap if kind == "nap" else self.observer.find_step
            is_gone = await self.observer.find_workflow(workflow_id) is None
            if is_gone and await find(workflow_id, record_id) is not None:
                self.observer.violated(f"{workflow_id} was pruned, but not its {what}")

    def _check_ledger(self) -> None:
        """What a transaction does is done once if its step is recorded, and else not at all."""
        for workflow_id in sorted(self._accepted):
            for operation in _flat(self._plans[workflow_id]):
                if operation.kind is not Kind.TRANSACTION:
                    continue
                record = (workflow_id, f"step {operation.id}")
                is_recorded = record in self.observer.outputs.keys() - self.observer.copied
                done = self._ledger.get((workflow_id, operation.id), 0)
                if done != is_recorded:
                    self.observer.violated(
                        f"{workflow_id} did {operation.id} {done} times, recorded: {is_recorded}"
                    )

    def _check_calls(self) -> None:
        """Where nothing goes wrong, each step of a workflow that is left alone is called once, and
        again after a failure.
        """
        for (workflow_id, step_id), count in self._calls.items():
            failures = sum(operation.failures for operation in _flat(self._plans[workflow_id]))
            if count > 1 + failures and not self.observer.orders[workflow_id]:
                self.observer.violated(f"{workflow_id} called step {step_id} {count} times")

    def _check_punctuality(self) -> None:
        """When all is well again, what falls due is claimed at once."""
        for at, late, workflow_id in self.observer.lateness:
            is_calm = (at - late - self._clock.start).total_seconds() > _CALM_AFTER
            if late > _PUNCTUAL and (is_calm or self.scenario.is_calm):
                self.observer.violated(f"{workflow_id} was claimed {late} after it was due")


def _given_up(operation: Operation, attempts: int) -> str:
    return f"{operation.id} given up after {attempts} attempts"


def _flat(operations: Iterable[Operation]) -> Iterator[Operation]:
    for operation in operations:
        yield operation
        yield from _flat(operation.branches)

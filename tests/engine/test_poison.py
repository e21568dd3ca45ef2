"""Workflows that do their worst: to their process, to their worker, and to its stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from bluestreak_core import (
    AlreadyPolling,
    Bluestreak,
    Claim,
    Context,
    Failure,
    Retry,
    Status,
    StepFailed,
    Store,
    StoreUnavailable,
    UsageError,
    Workflow,
    WorkflowAborted,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_memory import MemoryStore
from tests.arrange import eventually, pass_time
from tests.engine.arrange import Fleet

pytestmark = pytest.mark.usefixtures("unmeasured")

T = TypeVar("T")

SECOND = timedelta(seconds=1)


# Killing the process -----------------------------------------------------------------------------


class Mortal(StoreWrapper):
    """A store as one process sees it. From a dead process nothing arrives any more."""

    dead = False

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        for _ in range(20 if name == "park" else 5):  # as if the store were far away
            await asyncio.sleep(0)
        if self.dead:
            raise StoreUnavailable("this process is dead")
        return await call()


class Ends(StoreWrapper):
    """Counts the workflows that have ended."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.ended: set[str] = set()

    @override
    async def finish(self, claim: Claim, result: object, now: datetime) -> None:
        await super().finish(claim, result, now)
        self.ended.add(claim.workflow_id)

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await super().fail(claim, failure, now)
        self.ended.add(claim.workflow_id)


async def _live(store: Store, clock: ManualClock, all_ended: Callable[[], bool]) -> bool:
    """Work in a new process until all have ended, or until it is killed; whether it was killed."""
    mortal = Mortal(store)
    bluestreak = Bluestreak(mortal, drain_timeout=0)

    @bluestreak.handler("deadly")
    async def deadly(ctx: Context, input: None) -> None:
        mortal.dead = True

    @bluestreak.handler("healthy")
    async def healthy(ctx: Context, input: None) -> None:
        await ctx.step("s", asyncio.sleep, 0)

    await bluestreak.init()
    poll = asyncio.create_task(bluestreak.poll())
    await pass_time(clock, lambda: mortal.dead or all_ended())
    bluestreak.stop()
    await pass_time(clock, poll.done)
    return mortal.dead


@pytest.mark.slow
@pytest.mark.asyncio
async def test_who_dies_beside_a_deadly_workflow_each_time_is_not_given_up_with_it(
    clock: ManualClock,
) -> None:
    store = Ends(MemoryStore(clock=clock))
    async with Bluestreak(store) as bluestreak:
        workflow_ids = ["deadly", *[f"healthy {number}" for number in range(99)]]
        for workflow_id in workflow_ids:
            await bluestreak.start(workflow_id, workflow_id.split()[0])
        deaths = 0
        while await _live(store, clock, lambda: len(store.ended) == len(workflow_ids)):
            deaths += 1
    workflows = await _found(store, workflow_ids)
    aborted = [workflow.workflow_id for workflow in workflows if workflow.status is Status.ABORTED]
    assert (aborted, deaths) == (["deadly"], 11)


async def _crashed(store: Store, clock: ManualClock, workflows: int, crashes: int) -> None:
    """Workflows whose workers have died so often."""
    async with Bluestreak(store) as bluestreak:
        for number in range(workflows):
            await bluestreak.start(f"w{number}", "h")
    for _ in range(crashes + 1):
        await store.claim(
            ClaimRequest(worker="mortal", now=clock.now(), lease=SECOND, limit=workflows)
        )
        clock.advance(SECOND)


@pytest.mark.asyncio
@pytest.mark.parametrize(("max_crashes", "crashes", "at_once"), [(10, 5, 3), (10, 6, 1), (1, 1, 1)])
async def test_workflows_that_have_used_up_more_than_half_of_max_crashes_begin_one_at_a_time(
    clock: ManualClock, max_crashes: int, crashes: int, at_once: int
) -> None:
    store = RecordingStore(MemoryStore(clock=clock))
    await _crashed(store, clock, 3, crashes - 1)
    begun: list[str] = []
    bluestreak = Bluestreak(store, max_crashes=max_crashes, drain_timeout=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        begun.append(ctx.workflow_id)
        await asyncio.Event().wait()

    await bluestreak.init()
    poll = asyncio.create_task(bluestreak.poll())
    await store.until_begun("wait_for_work")
    assert (len(begun), bluestreak.health().runs) == (at_once, at_once)
    put_off = await _found(store, [f"w{n}" for n in range(3) if f"w{n}" not in begun])
    for workflow in put_off:
        assert (workflow.status, workflow.crashes) == (Status.IDLE, crashes)
        assert clock.now() <= workflow.timeout_at <= clock.now() + 10 * SECOND
    bluestreak.stop()
    await poll


@pytest.mark.asyncio
@pytest.mark.parametrize("record", ["step", "nap", "attempt", "transaction"])
async def test_the_next_suspect_begins_when_the_one_before_has_made_progress(
    clock: ManualClock, record: str
) -> None:
    store = MemoryStore(clock=clock)
    await _crashed(store, clock, 3, 5)
    gate, running = asyncio.Event(), 0
    bluestreak = Bluestreak(store, drain_timeout=0, park_after=3600)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        nonlocal running
        running += 1
        await gate.wait()
        match record:
            case "step":
                await ctx.step("s", asyncio.sleep, 0)
            case "nap":
                await ctx.sleep("s", 1)
            case "attempt":
                await ctx.step("s", fail, retry=Retry(initial=3000, max_delay=3000))
            case "transaction":
                await ctx.transaction("s", write)
        await asyncio.Event().wait()

    def fail() -> None:
        raise LookupError

    async def write(session: object) -> None:
        pass

    await bluestreak.init()
    poll = asyncio.create_task(bluestreak.poll())
    later = clock.now() + 60 * SECOND
    await pass_time(clock, lambda: clock.now() > later)
    assert running == 1
    gate.set()
    later += 60 * SECOND
    await pass_time(clock, lambda: running == 3 or clock.now() > later)
    assert running == 3
    bluestreak.stop()
    await poll


async def _found(store: Store, workflow_ids: Sequence[str]) -> list[Workflow]:
    found = [await store.find_workflow(workflow_id) for workflow_id in workflow_ids]
    return [workflow for workflow in found if workflow is not None]


def test_a_handler_that_interrupts_its_process_has_crashed_and_the_others_are_handed_back() -> None:
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    bluestreak = Bluestreak(store, max_crashes=1, drain_timeout=0)

    @bluestreak.handler("deadly")
    async def deadly(ctx: Context, input: None) -> None:
        raise KeyboardInterrupt

    @bluestreak.handler("healthy")
    async def healthy(ctx: Context, input: None) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with bluestreak:
            await bluestreak.start("deadly", "deadly")
            await bluestreak.start("healthy", "healthy")
            await bluestreak.poll()

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main())
        killer, bystander = asyncio.run(_found(store, ["deadly", "healthy"]))
        assert (killer.status, bystander.status) == (Status.RUNNING, Status.IDLE)
        clock.advance(10 * SECOND)
    with pytest.raises(WorkflowAborted, match="2 leases in a row expired"):
        asyncio.run(_ended(bluestreak, "deadly"))
    assert bystander.crashes == 0


def test_a_compensation_that_interrupts_its_process_is_the_last_thing_that_is_done_in_it() -> None:
    clock, told = ManualClock(), list[str]()
    bluestreak = Bluestreak(MemoryStore(clock=clock), timeout_interval=3600)

    async def interrupt() -> None:
        raise KeyboardInterrupt

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("undo", told.append, "undone")
        await ctx.compensate("interrupt", interrupt)
        await bluestreak.cancel("w")
        await asyncio.Event().wait()

    async def main() -> None:
        async with bluestreak:
            await bluestreak.start("w", "h")
            poll = asyncio.create_task(bluestreak.poll())
            await pass_time(clock, lambda: told != [])
            bluestreak.stop()
            await poll

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert told == []


async def _ended(bluestreak: Bluestreak, workflow_id: str) -> Any:
    """Poll until a workflow has ended; its result."""
    await bluestreak.init()
    poll = asyncio.create_task(bluestreak.poll())
    try:
        return await bluestreak.wait(workflow_id)
    finally:
        bluestreak.stop()
        await poll


# Raising the strangest things --------------------------------------------------------------------


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")

    def __repr__(self) -> str:
        raise LookupError("no text either")


class _Exiting(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class _NoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307 - what is tested


class _Text(str):
    __slots__ = ()

    @override
    def encode(self, *_: object) -> bytes:
        raise LookupError("no bytes")


class _OddText(Exception):
    def __str__(self) -> str:
        return _Text("odd")


class _Unpicklable(Exception):
    def __reduce__(self) -> str:
        raise TypeError("cannot be pickled")


class _Nameless(type):
    @override
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__module__", "__name__"):
            raise LookupError("no name")
        return super().__getattribute__(name)


class _Unnamed(Exception, metaclass=_Nameless):
    pass


def _cycle() -> Exception:
    error, cause = ValueError("error"), ValueError("cause")
    error.__cause__, cause.__cause__ = cause, error
    return error


def _recursion(depth: int = 0) -> Exception:
    try:
        raise _recursion(depth + 1)
    except RecursionError as error:
        return error


class _Masked(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise LookupError("no class")


class _Unequal(Exception):
    __hash__ = None  # type: ignore[assignment]

    @override
    def __eq__(self, _: object) -> bool:
        raise LookupError("no equal")

    def __bool__(self) -> bool:
        raise LookupError("neither true nor false")


class _Suspicious(type):
    @override
    def __instancecheck__(cls, _: object) -> bool:
        raise LookupError("no instance")

    __subclasscheck__ = __instancecheck__


class _Doubtful(Exception, metaclass=_Suspicious):
    pass


class _NoMistake(UsageError):
    @property
    def is_final(self) -> bool:  # type: ignore[override]
        raise LookupError("nobody knows")


class _NotGivenUp(StepFailed):
    @property
    def workflow_id(self) -> str:
        raise LookupError("nobody knows")

    @workflow_id.setter
    def workflow_id(self, _: str) -> None: ...


class _ClosedGroup(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise LookupError("not to be looked into")


def _nested(levels: int) -> Exception:
    error: Exception = ValueError("innermost")
    for _ in range(levels):
        error = ExceptionGroup("", [error])
    return error


class _Base(BaseException):
    __str__ = _Unprintable.__str__


POISON: dict[str, Callable[[], BaseException]] = {
    "cannot be printed": _Unprintable,
    "exits when printed": _Exiting,
    "is printed as no text": _NoText,
    "is printed as a text of its own kind": _OddText,
    "cannot be pickled": _Unpicklable,
    "has no name": _Unnamed,
    "was made at run time": type("Made", (Exception,), {"__module__": None}),
    "has a huge message": lambda: ValueError("x" * 20_000_000),
    "has no UTF-8 form": lambda: ValueError("\ud800"),
    "holds a NUL": lambda: ValueError("\0"),
    "has a very long traceback": _recursion,
    "causes itself": _cycle,
    "is a group with a cancellation in it": lambda: BaseExceptionGroup(
        "all", [ExceptionGroup("some", [ValueError("one")]), asyncio.CancelledError("two")]
    ),
    "is no Exception and cannot be printed": _Base,
    "is an exit": lambda: SystemExit(1),
    "says that it is of no class": _Masked,
    "cannot be compared": _Unequal,
    "is of a class that knows no instance": _Doubtful,
    "may be a mistake": _NoMistake,
    "may be a step that was given up": lambda: _NotGivenUp("w", "s", 1, "t", "m", ""),
    "is a group that cannot be looked into": lambda: _ClosedGroup("", [ValueError()]),
    "is a group of a thousand levels": lambda: _nested(1000),
    "is a group of ten thousand": lambda: ExceptionGroup("", [ValueError()] * 10_000),
    "ends a generator": GeneratorExit,
    "ends an iteration": StopIteration,
    "ends an async iteration": StopAsyncIteration,
    "is a cancellation": asyncio.CancelledError,
}


async def _raise_in(place: str, ctx: Context, fail: Callable[[], None]) -> None:
    async def fail_async() -> None:
        fail()

    match place:
        case "handler":
            fail()
        case "async step":
            await ctx.step("s", fail_async)
        case "sync step":
            await ctx.step("s", fail)
        case "lambda":
            await ctx.step("s", lambda: fail_async())  # noqa: PLW0108 - makes a thread call it
        case "attempt":
            rules = Retry(max_attempts=2, initial=0, retry_on=_Doubtful, give_up_on=_Masked)
            await ctx.step("s", fail_async, retry=rules)
        case "branch":
            await asyncio.gather(ctx.step("s1", fail_async), ctx.step("s2", fail_async))


@pytest.mark.asyncio
@pytest.mark.parametrize("name", POISON)
async def test_an_error_fails_its_workflow_and_nothing_else_though_it(
    fleet: Fleet, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    bluestreak = await fleet.engine(
        max_failures=0, error_callback=lambda workflow_id, _: heard.append(workflow_id)
    )

    def fail() -> None:
        error = POISON[name]()
        raise error

    @bluestreak.handler("poison")
    async def poison(ctx: Context, place: str) -> None:
        await _raise_in(place, ctx, fail)

    @bluestreak.handler("healthy")
    async def healthy(ctx: Context, input: None) -> str:
        return "fine"

    places = ["handler", "async step", "sync step", "lambda", "attempt", "branch"]
    async with fleet.polling(bluestreak):
        for place in places:
            await bluestreak.start(place, "poison", place)
        for place in places:
            with pytest.raises(WorkflowAborted):
                await bluestreak.wait(place)
        await bluestreak.start("healthy", "healthy")
        assert await bluestreak.wait("healthy") == "fine"
    assert sorted(heard) == sorted(places)
    assert caplog.text.count("failed, aborted") == len(places)
    assert len(caplog.text) < 30_000 * len(places)  # a line, and a traceback of at most 16 kB


@pytest.mark.asyncio
async def test_an_error_callback_may_raise_what_would_end_the_process(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave(workflow_id: str, error: BaseException) -> None:
        raise SystemExit(3)

    bluestreak = await fleet.engine(max_failures=0, error_callback=leave)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        raise ValueError

    async with fleet.polling(bluestreak):
        for workflow_id in ("w1", "w2"):
            await bluestreak.start(workflow_id, "h")
            with pytest.raises(WorkflowAborted):
                await bluestreak.wait(workflow_id)
        await eventually(lambda: caplog.text.count("error_callback raised") == 2)


@pytest.mark.asyncio
async def test_a_result_that_is_still_to_be_awaited_aborts_and_says_what_it_is(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.engine()
    forgotten: list[Any] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> Any:
        forgotten.append(asyncio.sleep(1))
        return forgotten[-1]

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="result of workflow 'w': coroutine cannot be"):
            await bluestreak.wait("w")
    forgotten[0].close()


# Not letting go ----------------------------------------------------------------------------------


class Stubborn:
    """Goes on after a cancellation until the test ends it."""

    def __init__(self) -> None:
        self.cancellations = 0
        self.inside = asyncio.Event()
        self.end = asyncio.Event()

    async def go_on(self) -> str:
        self.inside.set()
        while not self.end.is_set():
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                self.cancellations += 1
        return "done"


async def _stop(bluestreak: Bluestreak, clock: ManualClock, until: Callable[[], bool]) -> None:
    """Stop twice, and let a second pass at a time."""
    bluestreak.stop()
    bluestreak.stop()
    while not until():
        await clock.until_sleeping(SECOND)
        clock.advance(SECOND)
        await asyncio.sleep(0)


@pytest.mark.asyncio
@pytest.mark.parametrize("place", ["handler", "finally", "step", "branch left behind"])
async def test_what_swallows_each_cancellation_is_cancelled_each_second_until_it_ends(
    fleet: Fleet, clock: ManualClock, place: str
) -> None:
    stubborn = Stubborn()
    bluestreak = await fleet.engine(drain_timeout=0, timeout_interval=3600)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        match place:
            case "handler":
                await stubborn.go_on()
            case "finally":
                try:
                    stubborn.inside.set()
                    await asyncio.Event().wait()
                finally:
                    await stubborn.go_on()
            case "step":
                await ctx.step("s", stubborn.go_on)
            case "branch left behind":
                task = asyncio.create_task(ctx.step("s", stubborn.go_on))
                await stubborn.inside.wait()
                del task

    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await stubborn.inside.wait()
    await _stop(bluestreak, clock, lambda: stubborn.cancellations >= 5)
    assert not poll.done()
    stubborn.end.set()
    await poll
    (workflow,) = await _found(fleet.store, ["w"])
    assert workflow.status is Status.IDLE
    is_step = place in ("step", "branch left behind")
    assert (await fleet.store.find_step("w", "s") is not None) is is_step


@pytest.mark.asyncio
async def test_a_run_that_ignores_that_its_claim_is_lost_writes_nothing_and_frees_its_slot(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    stubborn = Stubborn()
    bluestreak = await fleet.engine(timeout_interval=9, poll_interval=3600)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await stubborn.go_on()

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await stubborn.inside.wait()
        await clock.until_sleeping(3 * SECOND)
        (thief,) = await store.claim(
            ClaimRequest(worker="thief", now=clock.now() + 9 * SECOND, lease=99 * SECOND, limit=1)
        )
        clock.advance(3 * SECOND)
        await eventually(lambda: stubborn.cancellations == 1)
        assert bluestreak.health().runs == 1
        stubborn.end.set()
        await eventually(lambda: bluestreak.health().runs == 0)
        assert await _found(store, ["w"]) == [thief.workflow]


# Reaching for the engine -------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_handler_may_start_another_workflow_and_wait_for_it(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("parent")
    async def parent(ctx: Context, input: None) -> Any:
        await bluestreak.start("child", "child")
        return [await bluestreak.wait("child")]

    @bluestreak.handler("child")
    async def child(ctx: Context, input: None) -> str:
        return "grown"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "parent")
        assert await bluestreak.wait("w") == ["grown"]


@pytest.mark.asyncio
async def test_a_handler_that_waits_for_its_own_end_fails_when_its_patience_does(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await bluestreak.wait(ctx.workflow_id, retries=3, pause_interval=0)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="WaitTimeout: workflow 'w' was still 'running'"):
            await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_a_handler_that_awaits_its_own_task_has_failed(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        me = asyncio.current_task()
        assert me is not None
        await me

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="RuntimeError: Task cannot await on itself"):
            await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_a_handler_may_stop_its_worker_and_still_finishes(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        bluestreak.stop()
        with pytest.raises(AlreadyPolling):
            await bluestreak.poll()
        return await ctx.step("s", lambda: "the last one")

    await bluestreak.start("w", "h")
    await bluestreak.poll()
    assert await bluestreak.wait("w") == "the last one"


@pytest.mark.asyncio
async def test_a_handler_that_closes_its_engine_is_handed_back_after_the_drain(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine(drain_timeout=7)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await bluestreak.close()

    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await clock.until_sleeping(7 * SECOND)
    clock.advance(7 * SECOND)
    await poll
    (workflow,) = await _found(fleet.store, ["w"])
    assert workflow.status is Status.IDLE


@pytest.mark.asyncio
async def test_a_handler_that_cancels_every_task_ends_its_worker_which_hands_back(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        for task in asyncio.all_tasks() - {this}:
            task.cancel()
        await asyncio.Event().wait()

    this = asyncio.current_task()
    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    with pytest.raises(asyncio.CancelledError):
        await poll
    (workflow,) = await _found(fleet.store, ["w"])
    assert workflow.status is Status.IDLE


@pytest.mark.asyncio
async def test_sync_steps_need_no_executor_that_a_handler_could_close() -> None:
    async with Bluestreak(MemoryStore()) as bluestreak:

        @bluestreak.handler("h")
        async def handle(ctx: Context, input: None) -> int:
            await asyncio.get_running_loop().shutdown_default_executor()
            return await ctx.step("s", lambda: 7)

        await bluestreak.start("w", "h")
        assert await _ended(bluestreak, "w") == 7

"""A worker keeps its leases while its event loop is blocked, and tells what blocks it.

The clock stands still unless a test moves it, also for the thread. What blocks the loop here waits
for that thread, so each test blocks it for as long as it takes, and no longer.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    Claim,
    Context,
    Renewer,
    Status,
    StepTimeout,
    StoreRefused,
    StoreUnavailable,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_memory import MemoryStore
from tests.arrange import eventually
from tests.engine.arrange import Fleet

pytestmark = pytest.mark.asyncio

T = TypeVar("T")

LEASE = timedelta(seconds=0.6)
PATIENCE = 10.0  # seconds


class FakeRenewer(Renewer):
    """Renews in a MemoryStore, and lets the blocked loop wait for its calls."""

    def __init__(self, store: MemoryStore) -> None:
        self.asked: list[set[str]] = []
        """The workflows of each call."""
        self.threads: set[threading.Thread] = set()
        self.failing: list[Exception] = []
        """What the next calls raise."""
        self.is_closed = False
        self._store = store
        self._calls = threading.Semaphore(0)

    @override
    def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        self.asked.append({claim.workflow_id for claim in claims})
        self.threads.add(threading.current_thread())
        try:
            if self.failing:
                raise self.failing.pop(0)
            return at_once(self._store.renew(claims, now, lease))
        finally:
            self._calls.release()

    @override
    def close(self) -> None:
        self.is_closed = True

    def until_called(self, times: int = 1) -> None:
        """Block this thread until there have been so many more calls."""
        for _ in range(times):
            assert self._calls.acquire(timeout=PATIENCE), "no thread has renewed anything"

    def is_called_within(self, span: timedelta) -> bool:
        """Block this thread for so long, or until there is another call."""
        return self._calls.acquire(timeout=span.total_seconds())


class ThreadedStore(RecordingStore):
    """A MemoryStore whose leases can be renewed from a thread."""

    def __init__(self, clock: ManualClock) -> None:
        memory = MemoryStore(clock=clock)
        super().__init__(memory)
        self.fake = FakeRenewer(memory)
        self.held_up: asyncio.Event | None = None
        """What the event loop's own renewals wait for before they are carried out."""

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        async def renew() -> list[Claim]:
            if self.held_up is not None:
                await self.held_up.wait()
            return await self._store.renew(claims, now, lease)

        return await self.around("renew", renew)

    @override
    def renewer(self) -> Renewer:
        return self.fake

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        """In a task of its own, as a store may do it."""
        return await asyncio.create_task(super().transact(claim, step_id, fn, now))


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """What a call of MemoryStore returns, without an event loop."""
    try:
        call.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("MemoryStore has waited for something")


class Warnings(logging.Handler):
    """What the watchdog has logged; the code that blocks the event loop waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._news = threading.Condition()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        with self._news:
            self._lines.append(record.getMessage())
            self._news.notify_all()

    @property
    def text(self) -> str:
        return "\n".join(self._lines)

    def block_until(self, pattern: str) -> None:
        """Block this thread until a line matches."""
        with self._news:
            matches = self._news.wait_for(lambda: re.search(pattern, self.text), PATIENCE)
        assert matches, f"no {pattern!r} in {self.text!r}"


@pytest.fixture
def store(clock: ManualClock) -> ThreadedStore:
    return ThreadedStore(clock)


@pytest_asyncio.fixture
async def warned() -> AsyncIterator[Warnings]:
    handler = Warnings()
    logger = logging.getLogger("bluestreak_core.worker.watchdog")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def _engine(fleet: Fleet, lease: timedelta = LEASE, **options: Any) -> Bluestreak:
    return await fleet.engine(timeout_interval=lease, poll_interval=3600, **options)


async def _run_blocked(fleet: Fleet, block: Callable[[], object], workflows: int = 1) -> Bluestreak:
    """Run workflows to their ends; a step of the one that is called last blocks the loop."""
    bluestreak = await _engine(fleet)
    gate = asyncio.Event()

    async def blocking() -> None:
        block()
        gate.set()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: bool) -> str:
        await ctx.step("s", blocking if input else gate.wait)
        return "done"

    async with fleet.polling(bluestreak):
        for number in range(1, workflows):
            await bluestreak.start(f"w{number}", "h", input=False)
        await eventually(lambda: bluestreak.health().runs == workflows - 1)
        await bluestreak.start(f"w{workflows}", "h", input=True)
        await eventually(gate.is_set)
        await eventually(lambda: bluestreak.health().runs == 0)
    return bluestreak


# Leases ------------------------------------------------------------------------------------------


async def test_a_loop_that_is_blocked_for_three_leases_keeps_its_claims(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore
) -> None:
    def block() -> None:
        for _ in range(6):
            clock.advance(LEASE / 2)
            store.fake.until_called()
            taken = at_once(
                store.claim(ClaimRequest(worker="other", now=clock.now(), lease=LEASE, limit=10))
            )
            assert list(taken) == []
        assert not store.fake.is_called_within(LEASE / 2)  # nothing is overdue now

    bluestreak = await _run_blocked(fleet, block, workflows=3)
    for workflow_id in ("w1", "w2", "w3"):
        workflow = await bluestreak.find_workflow(workflow_id)
        assert workflow is not None
        assert (workflow.status, workflow.claims, workflow.crashes) == (Status.FINISHED, 1, 0)
    assert store.fake.asked == [{"w1", "w2", "w3"}] * 6
    assert threading.current_thread() not in store.fake.threads


async def test_what_another_worker_has_taken_is_not_kept(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore, caplog: pytest.LogCaptureFixture
) -> None:
    def block() -> None:
        clock.advance(LEASE * 0.4)
        thief = store.claim(
            ClaimRequest(worker="thief", now=clock.now() + LEASE, lease=9 * LEASE, limit=1)
        )
        assert [claim.workflow_id for claim in at_once(thief)] == ["w1"]
        for share in (0.4, 0.3):
            store.fake.until_called()
            clock.advance(LEASE * share)

    bluestreak = await _run_blocked(fleet, block, workflows=2)
    assert store.fake.asked == [{"w1", "w2"}, {"w2"}]
    taken, kept = await bluestreak.find_workflow("w1"), await bluestreak.find_workflow("w2")
    assert taken is not None
    assert kept is not None
    assert (taken.status, taken.worker, kept.status) == (Status.RUNNING, "thief", Status.FINISHED)
    assert "claim 1 outlived its lease; its run wrote nothing more" in caplog.text


async def test_a_renewal_that_the_blocked_loop_held_up_does_not_undo_those_of_the_thread(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore
) -> None:
    store.held_up = asyncio.Event()
    bluestreak = await _engine(fleet)

    async def block() -> None:
        await clock.until_sleeping(LEASE / 3)
        clock.advance(LEASE / 3)
        await store.until_begun("renew")
        for _ in range(2):
            clock.advance(LEASE / 2)
            store.fake.until_called()
        assert store.held_up is not None
        store.held_up.set()
        await store.until_returned("renew")

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", block)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await eventually(lambda: bluestreak.health().runs == 1)
        await eventually(lambda: bluestreak.health().runs == 0)
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.status, workflow.claims) == (Status.FINISHED, 1)


async def test_a_lease_that_has_run_out_is_not_renewed(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore
) -> None:
    bluestreak = await _engine(fleet)
    old, has_blocked = asyncio.Event(), asyncio.Event()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: str) -> None:
        await ctx.step("s", {"old": wait, "new": block}[input])

    async def wait() -> None:
        old.set()
        await has_blocked.wait()

    async def block() -> None:
        clock.advance(LEASE / 2)  # as if by SIGSTOP: the old lease has run out, the new one has not
        store.fake.until_called()
        has_blocked.set()

    async with fleet.polling(bluestreak):
        await bluestreak.start("old", "h", "old")
        await old.wait()
        store.failing["renew"] = StoreUnavailable("the event loop's own renewal")
        await eventually(lambda: store.begun["wait_for_work"] > store.returned["wait_for_work"])
        clock.advance(LEASE / 2)
        await bluestreak.start("new", "h", "new")
        await has_blocked.wait()
        await eventually(lambda: bluestreak.health().runs == 0)
    assert store.fake.asked == [{"new"}]


async def test_a_lease_is_left_alone_for_as_long_as_its_transaction_may_get_through(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore
) -> None:
    bluestreak = await _engine(fleet)

    async def block(session: object) -> None:
        clock.advance(LEASE / 2)
        assert not store.fake.is_called_within(LEASE)
        clock.advance(LEASE * 0.4)
        store.fake.until_called()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        with suppress(StepTimeout):
            await ctx.transaction("book", block)
        return "done"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "done"


async def test_a_store_that_cannot_be_reached_is_tried_again(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore, warned: Warnings
) -> None:
    store.fake.failing = [StoreUnavailable("no route"), StoreUnavailable("no answer")]

    def block() -> None:
        clock.advance(LEASE / 2)
        store.fake.until_called(3)
        clock.advance(LEASE / 2)
        store.fake.until_called()

    bluestreak = await _run_blocked(fleet, block)
    workflow = await bluestreak.find_workflow("w1")
    assert workflow is not None
    assert (workflow.status, workflow.claims) == (Status.FINISHED, 1)
    for reason in ("no route", "no answer"):
        assert (
            f"could not be renewed from a thread, trying again: StoreUnavailable('{reason}')"
            in warned.text
        )


async def test_a_store_that_refuses_is_left_alone_until_the_loop_turns(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore, warned: Warnings
) -> None:
    store.fake.failing = [StoreRefused("not allowed")]
    bluestreak = await _engine(fleet)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        clock.advance(LEASE / 2)
        warned.block_until("not renewed while the event loop is blocked: StoreRefused")
        store.fake.until_called()
        assert not store.fake.is_called_within(LEASE / 2)
        await store.until_returned("renew")
        clock.advance(LEASE / 2)
        store.fake.until_called()

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")


async def test_a_renewer_that_fails_does_not_end_the_worker(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore, warned: Warnings
) -> None:
    store.fake.failing = [ZeroDivisionError("a mistake")]

    def block() -> None:
        clock.advance(LEASE / 2)
        warned.block_until("the watchdog of the event loop has stopped")

    bluestreak = await _run_blocked(fleet, block)
    workflow = await bluestreak.find_workflow("w1")
    assert workflow is not None
    assert workflow.status is Status.FINISHED
    assert store.fake.is_closed


# Nothing for nothing -----------------------------------------------------------------------------


def _watchdogs() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("bluestreak watchdog")]


async def test_a_loop_that_answers_renews_its_leases_itself(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, beats = asyncio.get_running_loop(), 0
    send = loop.call_soon_threadsafe

    def count(*args: Any, **kwargs: Any) -> asyncio.Handle:
        nonlocal beats
        beats += 1
        return send(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    third = timedelta(seconds=1)
    bluestreak = await _engine(fleet, 3 * third)
    gate = asyncio.Event()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", gate.wait)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        for renewals in range(1, 10):
            await clock.until_sleeping(third)
            clock.advance(third)
            await store.until_returned("renew", renewals)
        await eventually(lambda: beats > 3)
        gate.set()
        await bluestreak.wait("w")
    assert store.fake.asked == []


async def test_a_store_that_cannot_renew_from_a_thread_has_none(
    fleet: Fleet, clock: ManualClock
) -> None:
    for store in (MemoryStore(clock=clock), RecordingStore(MemoryStore(clock=clock))):
        bluestreak = await fleet.engine(store)
        async with fleet.polling(bluestreak):
            await eventually(lambda: bluestreak.health().last_contact_at is not None)  # noqa: B023
            assert _watchdogs() == []


async def test_a_store_around_a_store_passes_the_power_on(store: ThreadedStore) -> None:
    assert RecordingStore(store).renewer() is store.fake


async def test_a_worker_that_ends_takes_its_thread_along(
    fleet: Fleet, store: ThreadedStore
) -> None:
    async with fleet.polling(await _engine(fleet)):
        await eventually(lambda: _watchdogs() != [])
    assert _watchdogs() == []
    assert store.fake.is_closed


async def test_a_worker_that_fails_takes_its_thread_along(
    fleet: Fleet, store: ThreadedStore
) -> None:
    bluestreak = await _engine(fleet)
    store.failing["claim"] = ZeroDivisionError("a mistake")
    with pytest.raises(ZeroDivisionError):
        await bluestreak.poll()
    assert _watchdogs() == []
    assert store.fake.is_closed


async def test_a_worker_that_is_cancelled_takes_its_thread_along(
    fleet: Fleet, store: ThreadedStore
) -> None:
    bluestreak = await _engine(fleet)
    polling = asyncio.create_task(bluestreak.poll())
    await store.until_returned("claim")
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    assert _watchdogs() == []
    assert store.fake.is_closed


# Warnings ----------------------------------------------------------------------------------------


async def test_both_warnings_name_the_step_and_the_workflow_and_for_how_long(
    fleet: Fleet, clock: ManualClock, store: ThreadedStore, warned: Warnings
) -> None:
    def block() -> None:
        clock.advance(LEASE / 2)
        store.fake.until_called()
        clock.advance(LEASE / 2)
        store.fake.until_called()

    await _run_blocked(fleet, block)
    noticed, ended = warned.text.splitlines()
    culprit = (
        r"\d+\.\d s by step 's' of workflow 'w1', in .*blocking at .*test_blocked_loop\.py:\d+"
    )
    assert re.search(f": the event loop has been blocked for {culprit}", noticed)
    assert re.search(f": the event loop was blocked for {culprit}.*leases 2 times$", ended)


async def _until_it_is_over(
    fleet: Fleet, warned: Warnings, handle: Callable[[Context, Any], Coroutine[Any, Any, Any]]
) -> None:
    """Run a handler that blocks the loop until it is named."""
    bluestreak = await _engine(fleet)
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")


async def test_a_handler_that_blocks_outside_of_its_steps_is_named(
    fleet: Fleet, warned: Warnings
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        warned.block_until(" s by workflow 'w', outside its steps, in .*handle at ")

    await _until_it_is_over(fleet, warned, handle)


async def test_the_branch_that_blocks_is_named_and_not_another_one(
    fleet: Fleet, warned: Warnings
) -> None:
    gate = asyncio.Event()

    async def block() -> None:
        warned.block_until(" s by step 'b' of workflow 'w', in .*block at ")
        gate.set()

    async def handle(ctx: Context, input: None) -> None:
        await asyncio.gather(
            ctx.step("a", gate.wait), ctx.step("b", block), ctx.step("c", gate.wait)
        )

    await _until_it_is_over(fleet, warned, handle)


async def test_a_transaction_is_named_whatever_task_its_function_runs_in(
    fleet: Fleet, warned: Warnings
) -> None:
    async def block(session: object) -> None:
        warned.block_until(" s by transaction 'book' of workflow 'w', in .*block at ")

    async def handle(ctx: Context, input: None) -> None:
        await ctx.transaction("book", block)

    await _until_it_is_over(fleet, warned, handle)


async def test_a_branch_between_its_steps_is_named_by_its_workflow(
    fleet: Fleet, warned: Warnings
) -> None:
    async def branch(ctx: Context) -> None:
        await ctx.step("a", asyncio.sleep, 0)
        warned.block_until(" s by workflow 'w', outside its steps, in .*branch at ")

    async def handle(ctx: Context, input: None) -> None:
        await asyncio.gather(branch(ctx), ctx.step("b", asyncio.sleep, 0))

    await _until_it_is_over(fleet, warned, handle)


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_error_callback_that_blocks_is_named_by_its_workflow(
    fleet: Fleet, warned: Warnings, is_async: bool
) -> None:
    told = asyncio.Event()

    def block(workflow_id: str, error: BaseException) -> None:
        warned.block_until(" s by workflow 'w', outside its steps, in .*block")
        told.set()

    async def block_async(workflow_id: str, error: BaseException) -> None:
        block(workflow_id, error)

    bluestreak = await _engine(
        fleet, max_failures=0, error_callback=block_async if is_async else block
    )

    @bluestreak.handler("h")
    async def fail(ctx: Context, input: None) -> None:
        raise ValueError

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await told.wait()


async def test_an_application_that_blocks_its_loop_itself_is_not_blamed_on_a_workflow(
    fleet: Fleet, warned: Warnings
) -> None:
    async def block() -> None:
        warned.block_until(" s by task 'reports', which runs no handler, in .*block at ")

    async with fleet.polling(await _engine(fleet)):
        await asyncio.create_task(block(), name="reports")


async def test_a_callback_that_blocks_is_not_blamed_on_a_workflow(
    fleet: Fleet, warned: Warnings
) -> None:
    called = asyncio.Event()

    def block() -> None:
        warned.block_until(" s by a callback of no workflow, in .*block at ")
        called.set()

    async with fleet.polling(await _engine(fleet)):
        asyncio.get_running_loop().call_soon(block)
        await called.wait()


async def test_code_that_blocks_in_a_library_is_named_with_its_caller(
    fleet: Fleet, warned: Warnings
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        warned.block_until(r", in .*handle at .*:\d+, which is in .*wait at .*threading\.py:\d+")

    await _until_it_is_over(fleet, warned, handle)

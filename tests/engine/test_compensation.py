"""Workflows that undo what they have done when they are aborted or cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Abort,
    Bluestreak,
    Context,
    CorruptDocument,
    DeadlineExceeded,
    Done,
    DuplicateStep,
    EventKind,
    Retry,
    Status,
    StepFailed,
    TransitionRefused,
    WorkflowAborted,
    WorkflowCancelled,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import Environment, ManualClock, RecordingStore
from bluestreak_memory import MemoryStore
from tests.arrange import pass_time
from tests.engine.arrange import DAY, Bare, Fleet, listed, on_memory, transaction, workflow_of

SECOND = timedelta(seconds=1)

Cause = Callable[[Context], Awaitable[Any]]


class Shop:
    """An order that reserves stock, charges a card, and waits for what becomes of it."""

    def __init__(self, then: Cause) -> None:
        self.done: list[str] = []
        self.then = then

    async def do(self, what: str) -> str:
        self.done.append(what)
        return what

    async def handle(self, ctx: Context, input: None) -> None:
        stock = await ctx.step("reserve", self.do, "reserved")
        await ctx.compensate("release", self.do, f"released what was {stock}")
        charge = await ctx.step("charge", self.do, "charged")
        await ctx.compensate("refund", self.do, f"refunded what was {charge}")
        await self.then(ctx)

    @property
    def undone(self) -> list[str]:
        """What was done after the two steps, which were called once."""
        assert self.done[:2] == ["reserved", "charged"]
        return self.done[2:]


UNDONE = ["refunded what was charged", "released what was reserved"]


async def wait_for_payment(ctx: Context) -> None:
    await ctx.receive("payment", "paid")


async def give_up(ctx: Context) -> None:
    raise Abort("sold out")


async def fail(ctx: Context) -> None:
    raise ValueError("out of paper")


async def fail_a_step(ctx: Context) -> None:
    await ctx.step("ship", fail, ctx, retry=Retry(max_attempts=1))


@asynccontextmanager
async def parked(fleet: Fleet, shop: Shop, **options: Any) -> AsyncIterator[Bluestreak]:
    """A client of a workflow that has left memory; its worker has gone."""
    bluestreak = await fleet.parking(shop.handle, **options)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(fleet.clock, lambda: len(shop.done) == 2)
        await pass_time(fleet.clock, lambda: bluestreak.health().runs == 0)
    yield await fleet.engine()


async def _ended(fleet: Fleet, shop: Shop) -> Status:
    """How the workflow ends once another worker runs."""
    bluestreak = await fleet.parking(shop.handle)
    async with fleet.polling(bluestreak):
        with pytest.raises((WorkflowAborted, WorkflowCancelled)):
            await bluestreak.wait("w")
    return (await workflow_of(bluestreak)).status


@pytest.mark.asyncio
async def test_an_order_that_waits_parked_is_cancelled_from_another_process(fleet: Fleet) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        assert await client.cancel("w", "changed my mind")
        stopping = await workflow_of(client)
        assert (stopping.status, stopping.reason) == (Status.STOPPING, "changed my mind")
        assert not await client.cancel("w")
        assert shop.undone == []
        assert await _ended(fleet, shop) is Status.CANCELLED
        assert shop.undone == UNDONE
        with pytest.raises(WorkflowCancelled, match="changed my mind"):
            await client.wait("w")
        for step_id, output in (("refund", UNDONE[0]), ("release", UNDONE[1])):
            step = await client.find_step("w", step_id)
            assert step is not None
            assert step.output == output


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("then", "error"),
    [(give_up, Abort), (fail, ValueError), (fail_a_step, StepFailed)],
)
async def test_an_order_that_is_aborted_is_undone(
    fleet: Fleet, then: Cause, error: type[Exception]
) -> None:
    shop = Shop(then)
    bluestreak = await fleet.handling(shop.handle, max_failures=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=error.__name__):
            await bluestreak.wait("w")
    assert shop.undone == UNDONE
    workflow = await workflow_of(bluestreak)
    assert (workflow.status, workflow.failures) == (Status.ABORTED, 1)


@pytest.mark.asyncio
async def test_an_order_whose_deadline_passes_while_it_is_parked_is_undone(
    fleet: Fleet, clock: ManualClock
) -> None:
    shop = Shop(wait_for_payment)
    bluestreak = await fleet.engine(park_after=0, timeout_interval=DAY, poll_interval=DAY)
    bluestreak.register_handler("h", shop.handle, deadline=DAY)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(clock, lambda: len(shop.done) == 2)
        await pass_time(clock, lambda: bluestreak.health().runs == 0)
        clock.advance(DAY)
        with pytest.raises(WorkflowAborted, match=DeadlineExceeded.__name__):
            await bluestreak.wait("w")
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_a_paused_order_is_cancelled_and_undone(fleet: Fleet) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.pause("w")
        await client.cancel("w")
        assert await _ended(fleet, shop) is Status.CANCELLED
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_a_failed_order_is_cancelled_and_undone(fleet: Fleet) -> None:
    shop = Shop(fail)
    async with parked(fleet, shop, wait_retry_interval=DAY) as client:
        assert (await workflow_of(client)).status is Status.FAILED
        await client.cancel("w")
        assert await _ended(fleet, shop) is Status.CANCELLED
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_a_running_order_is_cancelled_and_undone(fleet: Fleet, clock: ManualClock) -> None:
    inside = asyncio.Event()

    async def hang() -> None:
        inside.set()
        await asyncio.Event().wait()

    shop = Shop(lambda ctx: ctx.step("hang", hang))
    bluestreak = await fleet.handling(shop.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
        await bluestreak.cancel("w")
        await pass_time(clock, lambda: len(shop.done) == 4)
        with pytest.raises(WorkflowCancelled):
            await bluestreak.wait("w")
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_an_order_is_cancelled_in_a_transaction_and_undone(
    fleet: Fleet, store: RecordingStore
) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        async with transaction(store) as session:
            assert await client.cancel("w", session=session)
        assert await _ended(fleet, shop) is Status.CANCELLED
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_nothing_is_undone_after_a_good_end(fleet: Fleet) -> None:
    shop = Shop(lambda ctx: ctx.step("ship", shop.do, "shipped"))
    bluestreak = await fleet.handling(shop.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    assert shop.undone == ["shipped"]


@pytest.mark.asyncio
async def test_what_has_compensated_is_not_retried(fleet: Fleet) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.cancel("w")
        for change, name in ((client.pause, "pause"), (client.retry, "retry")):
            with pytest.raises(TransitionRefused, match=f"'{name}' is refused while 'stopping'"):
                await change("w")
        await _ended(fleet, shop)
        with pytest.raises(TransitionRefused, match="while 'compensated': its steps are undone"):
            await client.retry("w")


# The replay --------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_replay_calls_no_step_and_writes_nothing(
    fleet: Fleet, store: RecordingStore
) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.cancel("w")
        store.begun.clear()
        await _ended(fleet, shop)
    assert shop.undone == UNDONE
    recorded = {call: store.begun[call] for call in ("save_step", "receive", "save_attempt")}
    assert recorded == {"save_step": 2, "receive": 0, "save_attempt": 0}
    assert store.begun["promise"] == store.begun["park_until_message"] == 0


@pytest.mark.asyncio
@on_memory
async def test_a_replay_stops_in_a_nap_that_had_not_ended(fleet: Fleet, clock: ManualClock) -> None:
    late: list[str] = []

    async def sleep_and_register(ctx: Context) -> None:
        await ctx.sleep("nap", DAY)
        await ctx.compensate("late", late.append, "late")

    shop = Shop(sleep_and_register)
    async with parked(fleet, shop) as client:
        await client.cancel("w")
        clock.advance(2 * DAY)  # nobody compensates until the nap is over
        await _ended(fleet, shop)
    assert (shop.undone, late) == (UNDONE, [])


@pytest.mark.asyncio
@on_memory
async def test_a_replay_passes_branches_that_are_recorded(fleet: Fleet) -> None:
    async def branch(ctx: Context, name: str) -> None:
        await ctx.step(name, shop.do, name)
        await ctx.compensate(f"undo {name}", shop.do, f"undo {name}")

    async def branches(ctx: Context) -> None:
        await asyncio.gather(branch(ctx, "a"), branch(ctx, "b"))
        await ctx.receive("payment", "paid")

    shop = Shop(branches)
    bluestreak = await fleet.parking(shop.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(fleet.clock, lambda: len(shop.done) == 4)
        await bluestreak.cancel("w")
        await pass_time(fleet.clock, lambda: len(shop.done) == 8)
        with pytest.raises(WorkflowCancelled):
            await bluestreak.wait("w")
    assert sorted(shop.undone[2:4]) == ["undo a", "undo b"]
    assert shop.undone[4:] == UNDONE


WAITS: dict[str, Cause] = {
    "callback": lambda ctx: ctx.callback("answer", hand_over),
    "poll": lambda ctx: ctx.poll("polled", still_nothing, every=DAY, timeout=2 * DAY),
    "race": lambda ctx: ctx.race(
        "first", paid=lambda: wait_for_payment(ctx), expired=lambda: ctx.sleep("expiry", DAY)
    ),
    "parallel": lambda ctx: ctx.parallel("both", {"pay": wait_for_payment, "again": wait_a_day}),
    "map": lambda ctx: ctx.map("each", fail_with, [1, 2], retry=Retry(initial=DAY), tolerate=1),
    "sleep": lambda ctx: ctx.sleep("nap", DAY),
    "transaction": lambda ctx: ctx.transaction("book", hang),
    "step with a time limit": lambda ctx: ctx.step(
        "work", hang, timeout=1, retry=Retry(initial=DAY)
    ),
    "step called at most once": lambda ctx: ctx.step("work", hang, at_most_once=True),
}


async def hand_over(token: str) -> None: ...


async def still_nothing(state: None) -> None: ...


async def wait_a_day(ctx: Context) -> None:
    await ctx.sleep("day", DAY)


async def fail_with(item: int) -> None:
    raise ConnectionError(item)


async def hang(session: object = None) -> None:
    await asyncio.Event().wait()


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("kind", WAITS)
async def test_an_order_is_undone_wherever_it_waits(
    fleet: Fleet, store: RecordingStore, clock: ManualClock, kind: str
) -> None:
    shop = Shop(WAITS[kind])
    bluestreak = await fleet.handling(shop.handle, park_after=1)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(clock, lambda: len(shop.done) == 2)
        later = clock.now() + 10 * SECOND
        await pass_time(clock, lambda: clock.now() > later)
        records = await store.records("w")
        await bluestreak.cancel("w")
        await pass_time(clock, lambda: len(shop.done) == 4)
        with pytest.raises(WorkflowCancelled):
            await bluestreak.wait("w")
    assert shop.undone == UNDONE
    after = await store.records("w")
    assert [step.step_id for step in after.steps[len(records.steps) :]] == ["refund", "release"]
    assert (after.naps, after.attempts) == (records.naps, records.attempts)


@pytest.mark.asyncio
@on_memory
async def test_a_replay_does_not_wait_for_ever_outside_of_steps(
    fleet: Fleet, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    inside = asyncio.Event()

    async def wait_elsewhere(ctx: Context) -> None:
        inside.set()
        await asyncio.Event().wait()

    shop = Shop(wait_elsewhere)
    bluestreak = await fleet.handling(shop.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
        await bluestreak.cancel("w")
        await pass_time(clock, lambda: len(shop.done) == 4)
        with pytest.raises(WorkflowCancelled):
            await bluestreak.wait("w")
    assert shop.undone == UNDONE


@pytest.mark.asyncio
@on_memory
async def test_a_replay_that_stops_before_what_is_recorded_says_so(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def go_on_after_an_error(ctx: Context) -> None:
        try:
            await ctx.step("first", fail, ctx)
        except ValueError:
            await ctx.step("second", str)
        await wait_for_payment(ctx)

    shop = Shop(go_on_after_an_error)
    async with parked(fleet, shop) as client:
        await client.cancel("w")
        await _ended(fleet, shop)
    assert shop.undone == UNDONE
    said = "its handler went no further than step 'first', and did not ask for 1 recorded step"
    assert said in caplog.text


async def look_twice(state: int | None) -> Done[str] | int:
    return 1 if state is None else Done("found")


@pytest.mark.parametrize("answered", [True, False])
def test_a_replay_passes_the_records_of_callbacks_and_polls_in_silence(
    answered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tokens: list[str] = []

    async def wait(ctx: Context) -> None:
        await ctx.poll("look", look_twice, every=1)
        await ctx.callback("ask", tokens.append)
        await wait_for_payment(ctx)

    shop = Shop(wait)
    with Environment() as env:
        env.register_handler("h", shop.handle)
        env.start("w", "h")
        env.advance(60)
        if answered:
            env.resolve(tokens[0], "yes")
            env.advance(60)
        env.call(env.bluestreak.cancel("w"))
        assert env.wait("w").status is Status.CANCELLED
    assert shop.undone == UNDONE
    assert "its handler went no further" not in caplog.text


class SuspendedClock(ManualClock):
    """The clock of a machine that is suspended once, in which timers stand still."""

    suspended = timedelta(0)

    def suspend(self, span: timedelta) -> None:
        self.suspended = self.suspended or span

    @override
    def monotonic(self) -> float:
        return super().monotonic() + self.suspended.total_seconds()


@pytest.mark.asyncio
async def test_a_replay_whose_lease_runs_out_says_nothing_of_what_it_did_not_reach(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = SuspendedClock()
    fleet = Fleet(RecordingStore(MemoryStore(clock=clock)), clock)

    async def go_on(ctx: Context) -> None:
        if (await workflow_of(client)).status is Status.COMPENSATING:
            clock.suspend(timedelta(minutes=1))
        await ctx.step("first", str)
        await ctx.step("second", str)
        await wait_for_payment(ctx)

    client = await fleet.engine()
    shop = Shop(go_on)
    async with parked(fleet, shop):
        await client.cancel("w")
        bluestreak = await fleet.parking(shop.handle, timeout_interval=1, poll_interval=1)
        async with fleet.polling(bluestreak):
            await pass_time(clock, lambda: len(shop.done) == 4)
            with pytest.raises(WorkflowCancelled):
                await bluestreak.wait("w")
    assert (shop.undone, clock.suspended) == (UNDONE, timedelta(minutes=1))
    assert (await workflow_of(client)).claim_log[-1].after_crash
    assert "went no further" not in caplog.text


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("calls", [["cancel"], ["pause", "cancel"], ["pause", "hear", "cancel"]])
async def test_nothing_is_undone_beside_a_step_in_flight(
    fleet: Fleet, clock: ManualClock, calls: list[str]
) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def stubborn() -> None:
        inside.set()
        while not go_on.is_set():
            with suppress(asyncio.CancelledError):
                await go_on.wait()
        done.append("reserved")

    async def release() -> None:
        done.append("released")

    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("release", release)
        await ctx.step("reserve", stubborn)

    first, second = await fleet.handling(handle), await fleet.handling(handle)
    async with fleet.polling(first), fleet.polling(second):
        await first.start("w", "h")
        await inside.wait()
        for call in [*calls, "hear"]:
            if call == "hear":
                for _ in range(200):
                    await asyncio.sleep(0)
                    clock.advance(SECOND)
            else:
                await getattr(second, call)("w")
        stopping, early = await workflow_of(second), list(done)
        go_on.set()
        await pass_time(clock, lambda: len(done) == 2)
        with pytest.raises(WorkflowCancelled):
            await second.wait("w")
    assert (stopping.status, early) == (Status.STOPPING, [])
    assert done == ["reserved", "released"]


@pytest.mark.asyncio
async def test_a_workflow_whose_paused_run_is_over_is_undone_as_soon_as_it_is_cancelled(
    fleet: Fleet, clock: ManualClock
) -> None:
    inside = asyncio.Event()

    async def hang_inside() -> None:
        inside.set()
        await asyncio.Event().wait()

    shop = Shop(lambda ctx: ctx.step("hang", hang_inside))
    bluestreak = await fleet.handling(shop.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
        await bluestreak.pause("w")
        assert (await workflow_of(bluestreak)).leased_until is not None
        await pass_time(clock, lambda: bluestreak.health().runs == 0)
        assert (await workflow_of(bluestreak)).leased_until is None
        await bluestreak.cancel("w")
        with pytest.raises(WorkflowCancelled):
            await bluestreak.wait("w")
    assert shop.undone == UNDONE


# Carrying out ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_compensation_is_tried_again_after_a_pause_in_which_it_leaves_memory(
    fleet: Fleet, clock: ManualClock
) -> None:
    calls: list[None] = []

    async def refund() -> str:
        calls.append(None)
        if len(calls) < 3:
            raise ConnectionError("no answer")
        return "refunded"

    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("refund", refund, retry=Retry(initial=3600, jitter=0))
        raise Abort("sold out")

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        for attempts in (1, 2):
            await pass_time(clock, lambda: len(calls) == attempts)  # noqa: B023 - called at once
            await pass_time(clock, lambda: bluestreak.health().runs == 0)
            workflow = await workflow_of(bluestreak)
            assert (workflow.status, workflow.outcome) == (Status.STOPPING, Status.ABORTED)
            assert workflow.timeout_at - clock.now() > timedelta(minutes=50)
            clock.advance(timedelta(hours=2))
        with pytest.raises(WorkflowAborted, match="sold out"):
            await bluestreak.wait("w")
    assert len(calls) == 3
    step = await bluestreak.find_step("w", "refund")
    assert step is not None
    assert step.output == "refunded"


@pytest.mark.asyncio
async def test_a_compensation_that_is_given_up_is_reported_and_the_others_run(
    fleet: Fleet, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def give_up_at_once() -> None:
        raise Abort("the card is closed")

    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("release", done.append, "released")
        await ctx.compensate("refund", give_up_at_once)
        await ctx.compensate("tell", fail, ctx, retry=Retry(max_attempts=2, initial=0))
        await ctx.compensate("odd", object)
        raise Abort("sold out")

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="sold out"):
            await bluestreak.wait("w")
    assert done == ["released"]
    failed = {step.step_id: step.attempts for step in (await workflow_of(bluestreak)).failed_steps}
    assert failed == {"refund": 1, "tell": 2}
    given_up = "compensation 'tell' is given up after 2 attempts: ValueError: out of paper"
    assert given_up in caplog.text
    assert "compensation 'odd' is recorded without its output" in caplog.text
    step = await bluestreak.find_step("w", "odd")
    assert step is not None
    assert step.output is None


@pytest.mark.asyncio
async def test_a_compensation_is_cut_by_its_time_limit(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate(
            "refund", asyncio.Event().wait, timeout=0.001, retry=Retry(max_attempts=1)
        )
        raise Abort("sold out")

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="sold out"):
            await bluestreak.wait("w")
    (failed,) = (await workflow_of(bluestreak)).failed_steps
    assert failed.error.type.endswith("StepTimeout")


@pytest.mark.asyncio
async def test_another_worker_goes_on_where_one_has_died(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.cancel("w")
        request = ClaimRequest(worker="dead", now=clock.now(), lease=10 * SECOND, limit=1)
        (claim,) = await store.claim(request)
        await store.save_step(claim, "refund", "by the dead worker", clock.now())
        clock.advance(10 * SECOND)
        assert await _ended(fleet, shop) is Status.CANCELLED
        assert shop.undone == UNDONE[1:]
        assert (await workflow_of(client)).crashes == 0


@pytest.mark.asyncio
@on_memory
async def test_a_stopping_worker_releases_what_it_compensates(
    fleet: Fleet, clock: ManualClock
) -> None:
    inside, done = asyncio.Event(), list[str]()

    async def hang() -> None:
        inside.set()
        await asyncio.Event().wait()

    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("never reached", done.append, "reached")
        await ctx.compensate("hang", hang)
        raise Abort("sold out")

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
    workflow = await workflow_of(bluestreak)
    assert (workflow.status, workflow.timeout_at) == (Status.STOPPING, clock.now())
    assert done == []


@pytest.mark.asyncio
@on_memory
async def test_compensations_that_take_down_workers_are_given_up(
    fleet: Fleet, store: RecordingStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.cancel("w", "why")
        for _ in range(3):
            request = ClaimRequest(worker="dead", now=clock.now(), lease=SECOND, limit=1)
            assert len(await store.claim(request)) == 1
            clock.advance(SECOND)
        bluestreak = await fleet.parking(shop.handle, max_crashes=2)
        async with fleet.polling(bluestreak):
            with pytest.raises(WorkflowCancelled, match="why"):
                await bluestreak.wait("w")
    assert shop.undone == []
    assert "workflow 'w' has ended with incomplete compensations" in caplog.text
    assert "3 leases in a row" in caplog.text


@pytest.mark.asyncio
@on_memory
async def test_an_input_that_no_run_can_read_ends_the_workflow_without_its_compensations(
    fleet: Fleet, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.cancel("w")
    store.failing["history"] = CorruptDocument("steps", "w", "output", "is odd")
    assert await _ended(fleet, shop) is Status.CANCELLED
    assert shop.undone == []
    assert "workflow 'w' has ended with incomplete compensations" in caplog.text


@pytest.mark.asyncio
async def test_a_store_that_cannot_compensate_is_refused_at_the_call(
    fleet: Fleet, store: RecordingStore
) -> None:
    shop = Shop(wait_for_payment)
    bluestreak = await fleet.engine(Bare(store), max_failures=0)
    bluestreak.register_handler("h", shop.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=r"ctx\.compensate\(\).*Bare cannot compensate"):
            await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_a_compensation_shares_its_ids_with_the_steps(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", str)
        await ctx.compensate("s", str)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=DuplicateStep.__name__):
            await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_a_cancellation_before_the_promise_undoes_nothing(
    fleet: Fleet, store: RecordingStore
) -> None:
    shop = Shop(wait_for_payment)
    bluestreak = await fleet.handling(shop.handle)

    async def cancel_first(ctx: Context, input: None) -> None:
        await bluestreak.cancel("w")
        await ctx.compensate("undo", shop.do, "undone")

    bluestreak.register_handler("early", cancel_first)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "early")
        with pytest.raises(WorkflowCancelled):
            await bluestreak.wait("w")
        await pass_time(fleet.clock, lambda: bluestreak.health().runs == 0)
    assert (await workflow_of(bluestreak)).status is Status.CANCELLED
    assert shop.done == []


# Looking -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_workflow_that_stops_is_listed_counted_and_described(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.cancel("w", "changed my mind")
        assert await listed(client.list(status="stopping")) == ["w"]
        assert (await client.count(by="status"))["stopping"] == 1
        described = str(await client.describe("w"))
        assert "'h': stopping, to be cancelled ('changed my mind'), due 20" in described
        request = ClaimRequest(worker="worker", now=clock.now(), lease=SECOND, limit=1)
        await store.claim(request)
        assert await listed(client.list(status="compensating")) == ["w"]
        described = str(await client.describe("w"))
        assert "compensating on 'worker', to be cancelled ('changed my mind'), lease" in described
        clock.advance(SECOND)
        await _ended(fleet, shop)
        timeline = await client.describe("w")
        kinds = [(event.kind, event.name) for event in timeline.events if event.kind != "claimed"]
        after = kinds[[kind for kind, _ in kinds].index(EventKind.STOPPED) :]
        steps = [(EventKind.STEP, "refund"), (EventKind.STEP, "release")]
        assert after == [(EventKind.STOPPED, None), *steps, (EventKind.CANCELLED, None)]


@pytest.mark.asyncio
@on_memory
async def test_a_fork_from_before_what_was_undone_compensates_by_itself(fleet: Fleet) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.cancel("w")
        await _ended(fleet, shop)
        await client.fork("w", "f", before="charge")
        bluestreak = await fleet.parking(shop.handle)
        async with fleet.polling(bluestreak):
            await pass_time(fleet.clock, lambda: len(shop.undone) == 3)
            await pass_time(fleet.clock, lambda: bluestreak.health().runs == 0)
            assert (await workflow_of(client, "f")).compensates
            await client.cancel("f")
            with pytest.raises(WorkflowCancelled):
                await bluestreak.wait("f")
    assert shop.undone == [*UNDONE, "charged", *UNDONE]

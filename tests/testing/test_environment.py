"""Workflows in virtual time, without asyncio in the test."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from bluestreak_core import Context, HandlerNotFound, Status, UsageError, WorkflowNotFound
from bluestreak_core.errors import InvalidArgument, InvalidDuration, WaitTimeout, WorkflowAborted
from bluestreak_core.testing import Environment, Fault, FaultyStore, Stuck
from bluestreak_core.testing.clock import START
from bluestreak_memory import MemoryStore

MONTH = timedelta(days=30)


@pytest.fixture
def env() -> Iterator[Environment]:
    with Environment() as environment:
        yield environment


async def order(ctx: Context, input: str) -> list[str]:
    paid = await ctx.step("pay", str.upper, input)
    await ctx.sleep("month", MONTH)
    return [paid, await ctx.step("remind", asyncio.sleep, 3, "reminded")]


def test_a_workflow_of_a_month_is_run_at_once(env: Environment) -> None:
    outcome = env.run(order, "ada")
    assert outcome.result == ["ADA", "reminded"]
    assert outcome.status is Status.FINISHED
    assert outcome.steps == {"pay": "ADA", "remind": "reminded"}
    assert outcome.naps == {"month": START + MONTH}
    assert outcome.calls == ["pay", "remind"]
    assert outcome.workflow.claims == 2
    assert env.now == START + MONTH + timedelta(seconds=3)


def test_a_months_nap_costs_a_few_turns_of_the_loop(env: Environment) -> None:
    env.run(order, "ada")
    assert env.turns < 500


def test_time_passes_as_far_as_it_is_told(env: Environment) -> None:
    env.register_handler("order", order)
    assert env.start("o-1", "order", "ada")
    assert env.outcome("o-1").calls == []
    env.advance(MONTH - timedelta(seconds=1))
    assert env.outcome("o-1").calls == ["pay"]
    assert env.outcome("o-1").status is Status.IDLE
    env.advance(1)
    assert env.outcome("o-1").calls == ["pay", "remind"]
    env.advance(3)
    assert env.outcome("o-1").status is Status.FINISHED


def test_each_call_of_a_step_is_noted_with_its_time(env: Environment) -> None:
    env.run(order, "ada", workflow_id="o-1")
    assert [(call.workflow_id, call.step_id, call.args) for call in env.calls] == [
        ("o-1", "pay", ("ada",)),
        ("o-1", "remind", (3, "reminded")),
    ]
    assert env.calls[1].called_at - env.calls[0].called_at == MONTH


def test_retries_are_at_their_times_and_their_errors_are_kept(env: Environment) -> None:
    errors = iter([ValueError("first"), ValueError("second")])

    async def flaky(ctx: Context, input: None) -> str:
        for error in errors:
            await ctx.step("try", _raise, error)
        return "in the end"

    outcome = env.run(flaky)
    assert outcome.result == "in the end"
    assert [str(error) for error in outcome.errors] == ["first", "second"]
    assert outcome.calls == ["try", "try"]
    assert env.now == START + timedelta(seconds=2)


def _raise(error: Exception) -> None:
    raise error


def test_a_workflow_that_always_fails_is_aborted_with_its_error(env: Environment) -> None:
    async def broken(ctx: Context, input: None) -> None:
        raise LookupError("no such order")

    outcome = env.run(broken)
    assert outcome.status is Status.ABORTED
    assert outcome.workflow.failures == 11
    with pytest.raises(WorkflowAborted, match="LookupError: no such order") as raised:
        outcome.result  # noqa: B018 - which raises
    assert raised.value.__cause__ is outcome.errors[-1]


def test_a_workflow_that_goes_on_has_no_result(env: Environment) -> None:
    env.register_handler("order", order)
    env.start("o-1", "order", "ada")
    env.advance(1)
    with pytest.raises(WaitTimeout, match="'o-1' was still 'idle'"):
        env.outcome("o-1").result  # noqa: B018


def test_a_timeout_in_a_step_is_in_virtual_time(env: Environment) -> None:
    async def slow() -> None:
        async with asyncio.timeout(3600):
            await asyncio.Event().wait()

    async def handler(ctx: Context, input: None) -> str:
        try:
            await ctx.step("slow", slow)
        except TimeoutError:
            return "timed out"
        return "never"

    assert env.run(handler).result == "timed out"
    assert env.now == START + timedelta(hours=1)


def test_a_step_in_a_thread_takes_no_virtual_time(env: Environment) -> None:
    async def handler(ctx: Context, input: None) -> float:
        return await ctx.step("sum", sum, range(1000))

    assert env.run(handler).result == 499500
    assert env.now == START


def test_a_worker_that_crashes_in_a_step_is_replaced_after_its_lease(env: Environment) -> None:
    async def charge() -> str:
        if len(env.calls) == 1:
            env.crash()
            await asyncio.sleep(0)
            pytest.fail("a dead worker went on")
        return "charged"

    async def handler(ctx: Context, input: None) -> str:
        return await ctx.step("charge", charge)

    outcome = env.run(handler)
    assert outcome.result == "charged"
    assert outcome.calls == ["charge", "charge"]
    assert [entry.after_crash for entry in outcome.workflow.claim_log] == [False, True]
    assert env.now == START + timedelta(seconds=10)


def test_a_crash_in_a_thread_loses_what_it_returns(env: Environment) -> None:
    def charge() -> str:
        if len(env.calls) == 1:
            env.crash()
            return "lost"
        return "charged"

    async def handler(ctx: Context, input: None) -> str:
        return await ctx.step("charge", charge)

    assert env.run(handler).result == "charged"


def test_a_crash_between_two_calls_is_survived(env: Environment) -> None:
    env.register_handler("order", order)
    env.start("o-1", "order", "ada")
    env.advance(MONTH + timedelta(seconds=1))  # in the middle of "remind"
    env.crash()
    assert env.wait("o-1").calls == ["pay", "remind", "remind"]


def test_the_runs_of_the_worker_are_counted(env: Environment) -> None:
    async def nap(ctx: Context, input: float) -> None:
        await ctx.sleep("nap", input)

    env.register_handler("nap", nap)
    env.start("short", "nap", 3)
    env.start("parked", "nap", 3600)
    assert env.runs == 0
    env.advance(1)
    assert env.runs == 1
    env.crash()
    assert env.runs == 0


def test_a_restart_hands_over_without_waiting_for_the_lease(env: Environment) -> None:
    env.register_handler("order", order)
    env.start("o-1", "order", "ada")
    env.advance(1)
    env.restart()
    outcome = env.wait("o-1")
    assert outcome.calls == ["pay", "remind"]
    assert len({entry.worker for entry in outcome.workflow.claim_log}) == 2
    assert env.now == START + MONTH + timedelta(seconds=3)


def test_a_workflow_that_gets_nowhere_is_reported_with_the_place() -> None:
    async def waits_for_ever(ctx: Context, input: None) -> None:
        await ctx.step("ever", asyncio.Event().wait)

    place = r"has not happened\n  waiting in .*waits_for_ever at .*\.py:"
    with Environment(turns=1000) as env, pytest.raises(Stuck, match=place):
        env.run(waits_for_ever)


def test_a_handler_that_nobody_has_ends_the_test(env: Environment) -> None:
    with pytest.raises(HandlerNotFound, match="needs handler 'nobodys'"):
        env.run("nobodys")


def test_a_handler_is_run_by_rules_of_its_own(env: Environment) -> None:
    async def waits(ctx: Context, input: None) -> None:
        await ctx.sleep("month", MONTH)

    outcome = env.run(waits, policy={"deadline": 60})
    assert outcome.status is Status.ABORTED
    assert env.now == START + timedelta(seconds=60)
    assert env.run(waits, workflow_id="o-2").status is Status.ABORTED  # which it has kept
    assert env.run("waits", workflow_id="o-3", policy={"deadline": 60}).status is Status.ABORTED


def test_rules_that_cannot_be_meant_are_refused_and_nothing_is_started(env: Environment) -> None:
    async def waits(ctx: Context, input: None) -> None: ...

    for bad in ({"deadlin": 60}, "deadline", [("deadline", 60)]):
        with pytest.raises(InvalidArgument, match=r"policy .*: expected a dict of max_failures, "):
            env.run(waits, policy=bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidDuration, match="deadline -1"):
        env.run(waits, policy={"deadline": -1})
    env.register_handler("waits", waits)
    for known in (waits, "waits"):
        with pytest.raises(InvalidArgument, match="'waits' is not registered with these rules"):
            env.run(known, policy={"deadline": 60})
    assert env.call(env.bluestreak.list()) == []


def test_what_an_iterator_yields_is_called_into_a_list(env: Environment) -> None:
    for number in range(3):
        env.run(order, "ada", workflow_id=f"o-{number}")
    summaries = env.call(env.bluestreak.list(order="id", limit=2))
    assert [summary.workflow_id for summary in summaries] == ["o-0", "o-1"]


def test_an_iterator_that_raises_does_so_from_the_call(env: Environment) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError

    with pytest.raises(LookupError):
        env.call(broken())


def test_a_start_that_is_no_instant_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"start .*: expected an aware datetime"):
        Environment(start=datetime(2030, 1, 1))  # noqa: DTZ001 - which is what is refused
    with pytest.raises(InvalidArgument, match=r"start .*: expected a datetime"):
        Environment(start=2030)  # type: ignore[arg-type]
    with Environment(start=datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=1)))) as env:
        assert env.now == datetime(2029, 12, 31, 23, tzinfo=UTC)


def test_a_workflow_is_started_once(env: Environment) -> None:
    env.run(order, "ada")
    with pytest.raises(InvalidArgument, match="workflow_id 'workflow': has been started before"):
        env.run(order, "ada")


def test_a_workflow_that_does_not_exist_is_not_waited_for(env: Environment) -> None:
    with pytest.raises(WorkflowNotFound, match="'nowhere'"):
        env.wait("nowhere")


def test_a_handlers_own_name_is_its_id_once(env: Environment) -> None:
    env.run(order, "ada", workflow_id="o-1")
    assert env.run(order, "bob", workflow_id="o-2").workflow.handler_id == "order"


class Shop:
    async def sell(self, ctx: Context, input: int) -> int:
        return input * 7


def test_a_bound_method_is_registered_once(env: Environment) -> None:
    shop = Shop()
    assert env.run(shop.sell, 1, workflow_id="o-1").result == 7
    assert env.run(shop.sell, 2, workflow_id="o-2").result == 14


def test_a_handler_can_be_registered_while_workers_run(env: Environment) -> None:
    env.advance(1)

    @env.handler("late")
    async def late(ctx: Context, input: int) -> int:
        return input + 1

    assert env.run("late", 1).result == 2


@pytest.mark.parametrize("timeout", [None, 10**9])
def test_a_place_where_a_function_waits_is_named(timeout: int | None) -> None:
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", wait_for_ever, timeout=timeout)

    with Environment(turns=5000) as env, pytest.raises(Stuck, match="wait_for_ever at "):
        env.run(handle)


@pytest.mark.asyncio
async def test_an_async_test_is_advised_to_be_a_plain_function() -> None:
    with pytest.raises(UsageError, match="make the test a plain function"):
        Environment()


def test_settings_are_the_engines_and_its_callback_is_called() -> None:
    failed: list[str] = []
    with Environment(
        max_failures=0, error_callback=lambda workflow_id, error: failed.append(workflow_id)
    ) as env:

        async def broken(ctx: Context, input: None) -> None:
            raise LookupError

        assert env.run(broken).workflow.failures == 1
    assert failed == ["workflow"]


def test_a_faulty_store_is_what_its_workers_see() -> None:
    stores: list[FaultyStore] = []

    def faulty(store: Any) -> FaultyStore:
        stores.append(FaultyStore(store, faults={2: Fault.LOSE, 4: Fault.FAIL}))
        return stores[0]

    with Environment(store=lambda clock: MemoryStore(clock=clock), worker_store=faulty) as env:
        assert env.run(order, "ada").calls == ["pay", "remind"]
    assert [injected.fault for injected in stores[0].injected] == [Fault.LOSE, Fault.FAIL]


def test_two_environments_do_the_same_at_the_same_times() -> None:
    async def branches(ctx: Context, input: None) -> list[float]:
        async def branch(name: str, seconds: float) -> float:
            await ctx.sleep(f"nap {name}", seconds)
            return await ctx.step(name, asyncio.sleep, seconds, seconds)

        return list(await asyncio.gather(*(branch(str(n), n * 0.7) for n in range(20))))

    def calls() -> list[Any]:
        with Environment() as env:
            env.run(branches)
            return env.calls

    assert calls() == calls()


WITHOUT_REAL_TIME = """
import selectors, time
from datetime import timedelta
from bluestreak_core.testing import Environment

def sleep(seconds):
    raise AssertionError("something sleeps")

def look(selector, timeout=None):
    assert timeout == 0, "something waits"
    return select(selector, timeout)

async def order(ctx, input):
    await ctx.sleep("month", timedelta(days=30))
    return await ctx.step("pay", str.upper, input)

time.sleep = sleep
select, selectors.DefaultSelector.select = selectors.DefaultSelector.select, look
with Environment() as env:
    print(env.run(order, "ada").result)
"""


def test_real_time_is_not_waited_for() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_REAL_TIME], capture_output=True, text=True, check=False
    )
    assert ran.stdout == "ADA\n", ran.stderr


def test_a_closed_environment_is_closed_again_in_vain() -> None:
    env = Environment()
    env.close()
    env.close()


def test_an_environment_shows_its_worker_and_what_it_runs() -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("charge", asyncio.sleep, 3600)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(60)
        (worker,) = env.call(env.bluestreak.workers())
        assert [run.step_id for run in worker.in_flight] == ["charge"]
        env.wait("w")
        env.advance(timedelta(days=365))
        (worker,) = env.call(env.bluestreak.workers())
        assert env.turns < 50_000

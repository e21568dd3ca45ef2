"""What is counted and measured."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from typing_extensions import override

from bluestreak_core import Context, Retry, Store, StoreUnavailable
from bluestreak_core.store import StoreWrapper
from bluestreak_core.testing import Environment
from bluestreak_memory import MemoryStore
from tests.otel.arrange import Telemetry, facts, greet, refuse

Make = Callable[..., Environment]
T = TypeVar("T")


def test_a_workflow_is_counted_from_its_creation_to_its_end(
    environment: Make, telemetry: Telemetry
) -> None:
    environment().run(greet, "Ada")
    handler = facts(handler="greet")
    assert telemetry.points("bluestreak.workflow.created") == {handler: 1}
    assert telemetry.points("bluestreak.workflow.claims") == {
        facts(handler="greet", after_crash=False): 1
    }
    assert telemetry.points("bluestreak.workflow.ended") == {
        facts(handler="greet", status="finished"): 1
    }
    assert telemetry.points("bluestreak.run.duration") == {
        facts(handler="greet", outcome="finished"): 1
    }
    assert telemetry.points("bluestreak.step.duration") == {facts(handler="greet", call="step"): 1}


def test_a_repeated_start_is_not_counted(environment: Make, telemetry: Telemetry) -> None:
    env = environment()
    env.register_handler("greet", greet)
    env.start("w", "greet", "Ada")
    env.start("w", "greet", "Ada")
    assert telemetry.points("bluestreak.workflow.created") == {facts(handler="greet"): 1}


def test_failures_and_retries_are_counted(environment: Make, telemetry: Telemetry) -> None:
    async def pay(ctx: Context, input: None) -> None:
        await ctx.step("pay", refuse, retry=Retry(max_attempts=3, initial=1))

    environment().run(pay)
    assert telemetry.points("bluestreak.step.retries") == {facts(handler="pay"): 2}
    assert telemetry.points("bluestreak.step.duration") == {
        facts(handler="pay", call="step", error_type="ValueError"): 3
    }


def test_failed_tries_of_a_workflow_are_counted(environment: Make, telemetry: Telemetry) -> None:
    async def fail(ctx: Context, input: None) -> None:
        refuse()

    environment(max_failures=2).run(fail)
    assert telemetry.points("bluestreak.workflow.ended") == {
        facts(handler="fail", status="failed"): 2,
        facts(handler="fail", status="aborted"): 1,
    }
    assert telemetry.points("bluestreak.run.duration") == {
        facts(handler="fail", outcome="failed"): 3
    }


def test_lateness_is_from_the_due_time_to_the_claim(
    environment: Make, telemetry: Telemetry
) -> None:
    async def slow(ctx: Context, input: None) -> None:
        await ctx.step("sleep", asyncio.sleep, 30)

    env = environment(max_concurrency=1)
    env.register_handler("slow", slow)
    env.start("first", "slow")
    env.start("second", "slow", delay=10)
    env.wait("first")
    env.wait("second")
    punctual = facts(handler="slow", after_crash=False)
    assert telemetry.points("bluestreak.workflow.lateness") == {punctual: 2}
    assert telemetry.total("bluestreak.workflow.lateness") == 30 - 10


def test_each_claim_can_be_late(environment: Make, telemetry: Telemetry) -> None:
    async def nap(ctx: Context, input: None) -> None:
        await ctx.sleep("nap", 60)

    async def slow(ctx: Context, input: None) -> None:
        await ctx.step("sleep", asyncio.sleep, 100)

    env = environment(max_concurrency=1)
    env.register_handler("nap", nap)
    env.register_handler("slow", slow)
    env.start("nap", "nap")
    env.advance(1)
    env.start("slow", "slow")
    env.wait("nap")
    name = "bluestreak.workflow.lateness"
    assert telemetry.points(name)[facts(handler="nap", after_crash=False)] == 2
    assert telemetry.total(name) == 100 + 1 - 60


def test_a_receive_with_a_timeout_is_no_retry(environment: Make, telemetry: Telemetry) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.receive("answer", "message", timeout=3600)

    environment().run(handle)
    assert telemetry.points("bluestreak.step.retries") == {}


def test_a_run_that_loses_its_claim_is_counted(environment: Make, telemetry: Telemetry) -> None:
    async def hang(ctx: Context, input: None) -> None:
        await ctx.step("hang", asyncio.Event().wait)

    env = environment(max_crashes=None)
    env.register_handler("hang", hang)
    env.start("w", "hang")
    env.advance(1)
    env.call(env.bluestreak.cancel("w"))
    env.advance(1)
    assert telemetry.points("bluestreak.claim.losses") == {facts(handler="hang"): 1}
    assert telemetry.points("bluestreak.run.duration") == {facts(handler="hang", outcome="lost"): 1}


def test_a_take_over_is_counted_as_a_claim_after_a_crash(
    environment: Make, telemetry: Telemetry
) -> None:
    async def nap(ctx: Context, input: None) -> None:
        await ctx.sleep("nap", 3)

    env = environment()
    env.register_handler("nap", nap)
    env.start("w", "nap")
    env.advance(1)
    env.crash()
    env.wait("w")
    assert telemetry.points("bluestreak.workflow.claims") == {
        facts(handler="nap", after_crash=False): 1,
        facts(handler="nap", after_crash=True): 1,
    }


class Unavailable(StoreWrapper):
    """Fails the first call of one name."""

    def __init__(self, store: Store, failing: str) -> None:
        super().__init__(store)
        self._failing = [failing]

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name in self._failing:
            self._failing.clear()
            raise StoreUnavailable("the primary steps down")
        return await call()


def test_errors_of_the_store_are_counted_by_call(telemetry: Telemetry) -> None:
    with Environment(
        store=lambda clock: telemetry.store(
            Unavailable(MemoryStore(clock=clock), "save_step"), store_calls=True
        ),
        hooks=[telemetry.hook],
    ) as env:
        env.run(greet, "Ada")
    failed = {"operation": "save_step", "error_type": "bluestreak_core.errors.StoreUnavailable"}
    assert telemetry.points("bluestreak.store.errors") == {facts(**failed): 1}
    assert telemetry.points("bluestreak.store.duration")[facts(operation="save_step")] == 2

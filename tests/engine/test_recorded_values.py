"""What handlers would otherwise record by hand: the time, random values, the end of a sleep."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from bluestreak_core import (
    Context,
    DuplicateStep,
    InvalidArgument,
    StepTimeout,
    WorkflowAborted,
)
from bluestreak_core.testing import ManualClock
from tests.engine.arrange import Fleet

pytestmark = pytest.mark.asyncio

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


async def test_the_time_and_random_values_are_those_of_the_first_run(
    fleet: Fleet, clock: ManualClock
) -> None:
    seen: list[tuple[Any, ...]] = []

    async def handle(ctx: Context, input: None) -> None:
        values = (await ctx.now("began"), await ctx.uuid("order"), await ctx.random("draw"))
        seen.append(values)
        if len(seen) == 1:
            clock.advance(SECOND)
            raise ConnectionError

    bluestreak = await fleet.engine(wait_retry_interval=0)
    bluestreak.register_handler("h", handle)
    began = clock.now()
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    first, second = seen
    assert first == second
    assert first[0] == began
    assert isinstance(first[1], UUID)
    assert 0 <= first[2] < 1
    described = await bluestreak.describe("w")
    assert {step.step_id: step.output for step in described.steps} == dict(
        zip(("began", "order", "draw"), first, strict=True)
    )


async def test_two_draws_differ(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        return [
            await ctx.uuid("u1") != await ctx.uuid("u2"),
            await ctx.random("r1") != await ctx.random("r2"),
        ]

    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == [True, True]


@pytest.mark.parametrize("verb", ["now", "uuid", "random"])
async def test_a_recorded_value_shares_its_id_with_the_steps(fleet: Fleet, verb: str) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("id", int)
        await getattr(ctx, verb)("id")

    bluestreak = await fleet.engine(max_failures=0)
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=DuplicateStep.__name__):
            await bluestreak.wait("w")


# Sleeping until an instant -----------------------------------------------------------------------


async def test_a_handler_sleeps_until_an_instant_and_is_parked_meanwhile(
    fleet: Fleet, clock: ManualClock
) -> None:
    wanted = clock.now() + HOUR

    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep_until("opening", wanted)

    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park")
        parked = await bluestreak.find_workflow("w")
        assert parked is not None
        assert parked.timeout_at == wanted
        clock.advance(HOUR)
        await bluestreak.wait("w")


async def test_the_instant_that_was_recorded_first_holds(fleet: Fleet, clock: ManualClock) -> None:
    wanted = [clock.now() + HOUR, clock.now() + 2 * HOUR]

    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep_until("opening", wanted.pop(0) if len(wanted) > 1 else wanted[0])

    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park")
        clock.advance(HOUR)
        await bluestreak.wait("w")


async def test_an_instant_in_the_past_is_recorded_and_ends_at_once(
    fleet: Fleet, clock: ManualClock
) -> None:
    past = clock.now() - HOUR

    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep_until("opening", past)

    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    nap = await bluestreak.find_nap("w", "opening")
    assert nap is not None
    assert nap.wake_up_at == past


@pytest.mark.parametrize("instant", [datetime(2030, 1, 1), 5, None])  # noqa: DTZ001 - is refused
async def test_what_is_no_instant_is_refused(fleet: Fleet, instant: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep_until("opening", instant)

    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="end of nap 'opening'") as aborted:
            await bluestreak.wait("w")
    assert aborted.value.error_type.endswith(InvalidArgument.__name__)


# Facts and limits --------------------------------------------------------------------------------


async def test_a_handler_knows_its_attempt_and_its_deadline(
    fleet: Fleet, clock: ManualClock
) -> None:
    seen = []

    async def handle(ctx: Context, input: None) -> None:
        seen.append(ctx.info)
        if len(seen) == 1:
            raise ConnectionError

    bluestreak = await fleet.engine(wait_retry_interval=0)
    bluestreak.register_handler("h", handle, deadline=HOUR)
    created = clock.now()
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    first, second = seen
    assert (first.handler_id, first.created_at, first.started_at) == ("h", created, created)
    assert (first.claims, first.failures, first.attempt) == (1, 0, 1)
    assert (second.claims, second.failures, second.attempt) == (2, 1, 2)
    assert first.deadline_at == created + HOUR


async def test_a_handler_without_a_deadline_has_none(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> bool:
        return ctx.info.deadline_at is None

    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") is True


@pytest.mark.parametrize("whose", ["handler", "engine"])
async def test_a_step_without_a_timeout_has_that_of_its_handler(fleet: Fleet, whose: str) -> None:
    async def handle(ctx: Context, input: None) -> float:
        await ctx.step("has its own", asyncio.sleep, 0, timeout=HOUR)
        try:
            await ctx.step("hangs", asyncio.Event().wait)
        except StepTimeout as timeout:
            return timeout.seconds
        return 0

    settings: dict[str, Any] = {"step_timeout": 0.01}
    bluestreak = await fleet.engine(**(settings if whose == "engine" else {"step_timeout": HOUR}))
    bluestreak.register_handler("h", handle, **(settings if whose == "handler" else {}))
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == 0.01


@pytest.mark.parametrize("bad", [0, -1, "5", timedelta(0)])
async def test_a_bad_default_for_the_timeout_of_steps_is_refused(fleet: Fleet, bad: Any) -> None:
    with pytest.raises(ValueError, match="step_timeout"):
        await fleet.engine(step_timeout=bad)

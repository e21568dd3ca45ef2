"""A wait's end is recorded once, and the workflow takes no memory until then."""

from __future__ import annotations

from datetime import timedelta

from bluestreak_core import Context, Status
from bluestreak_core.testing import Environment
from bluestreak_core.testing.clock import START


def test_a_wait_ends_the_run_and_another_one_goes_on_behind_it(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> str:
        await ctx.sleep("nap", 2)
        return "awake"

    env.register_handler("handle", handle)
    env.start("workflow", "handle")
    env.advance(1)
    assert (env.outcome("workflow").status, env.runs) == (Status.IDLE, 0)
    outcome = env.wait("workflow")
    assert outcome.result == "awake"
    assert outcome.workflow.claims == 2
    assert env.now == START + timedelta(seconds=2)


def test_a_wait_is_recorded_under_the_id_that_the_handler_gave(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("for the courier", 2)

    outcome = env.run(handle)
    assert outcome.naps == {"for the courier": START + timedelta(seconds=2)}
    assert outcome.steps == {}


def test_one_wait_after_another_ends_a_run_each(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> dict[str, int]:
        for number in (1, 2):
            await ctx.sleep(f"nap {number}", 2)
        return {"waits": 2}

    outcome = env.run(handle)
    assert outcome.result == {"waits": 2}
    assert outcome.workflow.claims == 3
    first, second = (outcome.naps[f"nap {number}"] for number in (1, 2))
    assert (first - START, second - first) == (timedelta(seconds=2),) * 2


def test_a_wait_of_a_minute_is_one_of_sixty_seconds(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("as a span", timedelta(minutes=1))
        await ctx.sleep("in seconds", 60)

    naps = env.run(handle).naps
    assert naps["as a span"] == START + timedelta(seconds=60)
    assert naps["in seconds"] == START + timedelta(seconds=120)


def test_a_wait_of_an_hour_is_parked_until_then(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("hour", timedelta(hours=1))

    env.register_handler("handle", handle)
    env.start("workflow", "handle")
    env.advance(3599)
    outcome = env.outcome("workflow")
    assert (outcome.status, env.runs) == (Status.IDLE, 0)
    assert outcome.naps == {"hour": START + timedelta(seconds=3600)}
    assert outcome.workflow.timeout_at == outcome.naps["hour"]
    env.advance(1)
    assert env.outcome("workflow").status is Status.FINISHED

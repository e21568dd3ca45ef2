"""The fixtures that pytest has where Bluestreak is installed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from bluestreak_core import Context, Status, UsageError
from bluestreak_core.testing import Environment


@pytest.fixture
def bluestreak_settings() -> dict[str, Any]:
    return {"max_failures": 2}


def test_the_environment_is_a_fixture_with_settings_of_its_own(
    bluestreak_environment: Environment,
) -> None:
    async def broken(ctx: Context, input: None) -> None:
        raise LookupError

    outcome = bluestreak_environment.run(broken)
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 3)


async def _handle(ctx: Context, input: None) -> None: ...


CALLS: dict[str, Callable[[Environment], object]] = {
    "run": lambda env: env.run(_handle),
    "start": lambda env: env.start("w", "h"),
    "wait": lambda env: env.wait("w"),
    "advance": lambda env: env.advance(1),
    "call": lambda env: env.call(env.bluestreak.find_workflow("w")),
    "call of a list": lambda env: env.call(env.bluestreak.list()),
    "restart": Environment.restart,
    "crash": Environment.crash,
    "outcome": lambda env: env.outcome("w"),
    "close": Environment.close,
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", CALLS)
async def test_in_an_async_test_each_call_says_to_make_it_a_plain_function(
    bluestreak_environment: Environment, name: str
) -> None:
    with pytest.raises(UsageError, match="make the test a plain function"):
        CALLS[name](bluestreak_environment)
    gc.collect()


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"close"}))
def test_each_call_after_the_end_says_that_the_environment_is_closed(
    bluestreak_environment: Environment, name: str
) -> None:
    bluestreak_environment.close()
    with pytest.raises(UsageError, match="is closed"):
        CALLS[name](bluestreak_environment)
    gc.collect()

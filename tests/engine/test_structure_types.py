"""What branches return has the type that their functions are annotated to return, in each run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from bluestreak_core import Context, Done, InvalidValue, Status
from bluestreak_core.testing import Environment
from bluestreak_pydantic import PydanticCodec
from tests.engine.arrange import DAY


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Parcel:
    number: int
    size: Size


SMALL = Parcel(1, Size.SMALL)


def twice(use: Any) -> Any:
    """A handler that runs twice from the top, and checks that both runs see the same."""

    async def handle(ctx: Context, input: None) -> str:
        seen.append(await use(ctx))
        await ctx.sleep("replay", DAY)
        assert seen[0] == seen[1]
        return repr(seen[1])

    seen: list[Any] = []
    return handle


def run(use: Any, expected: Any) -> Any:
    with Environment(codec=PydanticCodec()) as env:
        outcome = env.run(twice(use))
    assert outcome.result == repr(expected)
    return outcome


async def pack(number: int) -> Parcel:
    return Parcel(number, Size.SMALL)


def test_results_of_a_map() -> None:
    outcome = run(lambda ctx: ctx.map("pack", pack, [1]), [SMALL])
    assert outcome.steps == {"pack/0": {"number": 1, "size": "small"}}


def test_outcomes_of_a_map() -> None:
    async def use(ctx: Context) -> Any:
        return (await ctx.map("pack", pack, [1], tolerate=1)).results()

    run(use, [SMALL])


def test_results_of_branches() -> None:
    async def branch(ctx: Context) -> Parcel:
        return await ctx.step("pack", pack, 1)

    run(lambda ctx: ctx.parallel("p", {"a": branch}), {"a": SMALL})


def test_the_value_of_a_winner() -> None:
    async def use(ctx: Context) -> Any:
        return tuple(await ctx.race("race", a=lambda: ctx.step("pack", pack, 1)))

    run(use, ("a", SMALL))


def test_the_state_and_the_result_of_a_poll() -> None:
    async def check(state: Size | None) -> Done[Parcel] | Size:
        states.append(state)
        if state is Size.SMALL:
            return Done(SMALL)
        return Size.SMALL

    states: list[Size | None] = []
    outcome = run(lambda ctx: ctx.poll("p", check, every=60), SMALL)
    assert states == [None, Size.SMALL]
    assert outcome.steps == {"p/1": "small", "p": {"number": 1, "size": "small"}}


def test_a_check_without_an_annotation_is_plain() -> None:
    def check(state: Any):  # type: ignore[no-untyped-def]
        return Done([1]) if state else [2]

    run(lambda ctx: ctx.poll("p", check, every=60), [1])


def test_a_check_that_only_ends() -> None:
    async def check(state: None) -> Done[Parcel]:
        return Done(SMALL)

    run(lambda ctx: ctx.poll("p", check, every=60), SMALL)


@pytest.mark.parametrize("returned", ["state", Done("result")])
def test_what_does_not_fit_aborts_the_workflow(returned: Any) -> None:
    async def check(state: Size | None) -> Done[Parcel] | Size:
        return returned  # type: ignore[no-any-return]

    async def handle(ctx: Context, input: None) -> None:
        await ctx.poll("p", check, every=60)

    with Environment(codec=PydanticCodec()) as env:
        outcome = env.run(handle)
    assert (outcome.status, outcome.steps) == (Status.ABORTED, {})
    assert isinstance(outcome.errors[0], InvalidValue)

"""Workflows with children, compensations, generations and callbacks, which audits of their own see.

They run beside the others, under ids that begin with that of their story.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bluestreak_core import Abort, Context
from tests.chaos.workload import Steps

GENERATIONS = 5
CHILDREN = 2
DEPTH = 2
DEEDS = (1, 2, 3)
NAP = 0.4  # seconds; what a cancellation comes into
ASK = "ask"


class Kind(StrEnum):
    """What a story is about; also the id of its handler."""

    FAMILY = "family"
    SAGA = "saga"
    DYNASTY = "dynasty"
    QUESTION = "question"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A workflow to be started. `aborts` is for a saga, which does so after its last deed."""

    workflow_id: str
    kind: Kind
    is_cancelled: bool = False
    aborts: bool = False

    @property
    def input(self) -> Any:
        match self.kind:
            case Kind.FAMILY:
                return DEPTH
            case Kind.SAGA:
                return self.aborts
            case Kind.DYNASTY | Kind.QUESTION:
                return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of answering a callback: `given` was to be the answer, and `holds` is it."""

    workflow_id: str
    given: str
    holds: Any
    is_first: bool
    asked_again: bool


def story(number: int, choice: random.Random) -> Story:
    """The story of a number, of any kind."""
    kind = choice.choice(list(Kind))
    may_be_cancelled = kind in (Kind.FAMILY, Kind.SAGA)
    fate = choice.random()
    return Story(
        workflow_id=f"s{number}",
        kind=kind,
        is_cancelled=may_be_cancelled and fate < 0.5,
        aborts=kind is Kind.SAGA and fate > 0.7,
    )


def story_of(workflow_id: str) -> str:
    """The story that a workflow belongs to, as one of its children may."""
    return workflow_id.partition("/")[0]


async def _family(ctx: Context, depth: int, steps: Steps) -> Any:
    """Work, and have children that do so; return the own token and what they returned."""
    token = (await ctx.step("work", steps.call("work", {})))["token"]
    await ctx.sleep("nap", NAP)
    if depth == 0:
        return {"token": token, "children": []}
    children = [ctx.child(f"child-{n}", Kind.FAMILY, depth - 1) for n in range(CHILDREN)]
    return {"token": token, "children": list(await asyncio.gather(*children))}


async def _saga(ctx: Context, aborts: bool, steps: Steps) -> Any:
    for n in DEEDS:
        await ctx.compensate(f"undo {n}", steps.call(f"undo {n}", {}))
        await ctx.step(f"do {n}", steps.call(f"do {n}", {}))
        await ctx.sleep(f"nap {n}", NAP / 2)
    if aborts:
        raise Abort("it was its fate")
    return "done"


async def _dynasty(ctx: Context, generation: int, steps: Steps) -> Any:
    """Record under the same ids in each generation, and note what this one has read."""
    own = steps.call("reign", {"generation": str(generation)})

    async def reign() -> Any:
        return {**await own(), "generation": generation}

    record = await ctx.step("reign", reign)
    await ctx.sleep("nap", NAP / 4)
    saw = {"generation": str(generation), "read": str(record["generation"])}
    await ctx.step("judge", steps.call("judge", saw))
    if generation + 1 < GENERATIONS:
        await ctx.restart(generation + 1)
    return {"generation": generation, "token": record["token"]}


async def _question(ctx: Context, input: int, steps: Steps) -> Any:
    async def hand_over(token: str) -> None:
        await steps.call(ASK, {"token": token})()

    return await ctx.callback(ASK, hand_over)


STORIES: Mapping[Kind, Callable[[Context, Any, Steps], Awaitable[Any]]] = {
    Kind.FAMILY: _family,
    Kind.SAGA: _saga,
    Kind.DYNASTY: _dynasty,
    Kind.QUESTION: _question,
}

"""What the workers do, and what each workflow must leave behind.

Between them the handlers have steps that are async and not, naps that stay in memory and naps that
do not, branches, and a step that fails the first time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bluestreak_core import Context

PARK_AFTER = 0.5  # seconds
SHORT_NAPS = (0.05, 0.3)
LONG_NAPS = (0.7, 2.0)


class Steps(Protocol):
    """Makes the functions that the steps of one run call."""

    def call(self, step_id: str, saw: Mapping[str, str]) -> Callable[[], Awaitable[Any]]:
        """An async function, which returns an output."""
        ...

    def call_in_thread(self, step_id: str, saw: Mapping[str, str]) -> Callable[[], Any]:
        """One that is not."""
        ...

    def stumble(self, step_id: str, saw: Mapping[str, str]) -> Callable[[], Awaitable[Any]]:
        """An async function that raises the first time."""
        ...


class Run:
    """One execution of a handler: what it has seen, and how it goes on."""

    def __init__(self, context: Context, seconds: float, steps: Steps) -> None:
        self.saw: dict[str, str] = {}
        self._context = context
        self._seconds = seconds
        self._steps = steps

    async def step(self, step_id: str) -> None:
        self._see(step_id, await self._context.step(step_id, self._steps.call(step_id, self._now)))

    async def sync_step(self, step_id: str) -> None:
        fn = self._steps.call_in_thread(step_id, self._now)
        self._see(step_id, await self._context.step(step_id, fn))

    async def stumbling_step(self, step_id: str) -> None:
        fn = self._steps.stumble(step_id, self._now)
        self._see(step_id, await self._context.step(step_id, fn))

    async def nap(self, nap_id: str) -> None:
        await self._context.sleep(nap_id, self._seconds)

    @property
    def _now(self) -> dict[str, str]:
        return dict(self.saw)

    def _see(self, step_id: str, output: Any) -> None:
        self.saw[step_id] = output["token"]


async def _chain(run: Run) -> None:
    await run.step("a")
    await run.sync_step("b")
    await run.step("c")


async def _nap(run: Run) -> None:
    await run.step("a")
    await run.nap("nap")
    await run.sync_step("b")


async def _stumble(run: Run) -> None:
    await run.sync_step("a")
    await run.stumbling_step("b")
    await run.step("c")


async def _branch(run: Run) -> None:
    async def later() -> None:
        await run.nap("nap")
        await run.step("z")

    await asyncio.gather(run.step("x"), run.sync_step("y"), later())
    await run.step("join")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A handler, the steps that it takes, and which step follows each nap."""

    handler: Callable[[Run], Awaitable[None]]
    steps: frozenset[str]
    naps: Mapping[str, str]


PLANS: Mapping[str, Plan] = {
    "chain": Plan(handler=_chain, steps=frozenset("abc"), naps={}),
    "nap": Plan(handler=_nap, steps=frozenset("ab"), naps={"nap": "b"}),
    "stumble": Plan(handler=_stumble, steps=frozenset("abc"), naps={}),
    "branch": Plan(handler=_branch, steps=frozenset({"x", "y", "z", "join"}), naps={"nap": "z"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A workflow to be started. `seconds` is the length of its naps."""

    workflow_id: str
    handler_id: str
    seconds: float


def order(number: int, choice: random.Random) -> Order:
    """The workflow of a number, of any kind."""
    bounds = choice.choice((SHORT_NAPS, LONG_NAPS))
    return Order(
        workflow_id=f"w{number}",
        handler_id=choice.choice(sorted(PLANS)),
        seconds=round(choice.uniform(*bounds), 3),
    )

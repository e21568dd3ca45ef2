"""What the workers do, and what each workflow must leave behind.

Between them the handlers have steps that are async and not, naps that stay in memory and naps that
do not, branches, a step that fails the first time, one that gives its workflow up the first time, a
transaction, and waits for messages with and without a time limit.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from bluestreak_core import Context, MessageTimeout

PARK_AFTER = 0.5  # seconds
SHORT_NAPS = (0.05, 0.3)
LONG_NAPS = (0.7, 2.0)

LETTER = "letter"
LETTERS = 3
"""The messages that are sent to a workflow which waits for any."""
NO_LETTER = "none came in time"


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

    def give_up(self, step_id: str, saw: Mapping[str, str]) -> Callable[[], Awaitable[Any]]:
        """An async function that aborts its workflow the first time."""
        ...

    def write(self, step_id: str, saw: Mapping[str, str]) -> Callable[[Any], Awaitable[Any]]:
        """An async function that writes an effect in a transaction."""
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

    async def hopeless_step(self, step_id: str) -> None:
        fn = self._steps.give_up(step_id, self._now)
        self._see(step_id, await self._context.step(step_id, fn))

    async def transaction(self, step_id: str) -> None:
        fn = self._steps.write(step_id, self._now)
        self._see(step_id, await self._context.transaction(step_id, fn))

    async def letter(self, step_id: str, *, timed: bool = False) -> None:
        timeout = self._seconds if timed else None
        try:
            self._see(step_id, await self._context.receive(step_id, LETTER, timeout=timeout))
        except MessageTimeout:
            self.saw[step_id] = NO_LETTER

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


async def _hopeless(run: Run) -> None:
    await run.step("a")
    await run.hopeless_step("b")
    await run.step("c")


async def _transfer(run: Run) -> None:
    await run.step("a")
    await run.transaction("pay")
    await run.step("b")
    await run.transaction("refund")


async def _letters(run: Run) -> None:
    await run.letter("first")
    await run.step("a")
    await run.letter("second", timed=True)
    await run.sync_step("b")
    await run.letter("third")
    await run.step("c")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A handler, the steps that it takes, and which step follows each nap.

    `order` has the ids of steps and naps in their order, if they have one. Some of the steps are
    `transactions`, or `receives` of messages. A handler that `gives_up` aborts the first time.
    """

    handler: Callable[[Run], Awaitable[None]]
    steps: frozenset[str]
    naps: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    transactions: frozenset[str] = frozenset()
    receives: frozenset[str] = frozenset()
    gives_up: bool = False

    @property
    def may_be_forked(self) -> bool:
        """Its fork needs nobody who sends it letters, or retries it."""
        return bool(self.order) and not self.receives and not self.gives_up


PLANS: Mapping[str, Plan] = {
    "chain": Plan(handler=_chain, steps=frozenset("abc"), order=("a", "b", "c")),
    "nap": Plan(handler=_nap, steps=frozenset("ab"), naps={"nap": "b"}, order=("a", "nap", "b")),
    "stumble": Plan(handler=_stumble, steps=frozenset("abc"), order=("a", "b", "c")),
    "branch": Plan(handler=_branch, steps=frozenset({"x", "y", "z", "join"}), naps={"nap": "z"}),
    "hopeless": Plan(
        handler=_hopeless, steps=frozenset("abc"), order=("a", "b", "c"), gives_up=True
    ),
    "transfer": Plan(
        handler=_transfer,
        steps=frozenset({"a", "pay", "b", "refund"}),
        order=("a", "pay", "b", "refund"),
        transactions=frozenset({"pay", "refund"}),
    ),
    "letters": Plan(
        handler=_letters,
        steps=frozenset({"first", "a", "second", "b", "third", "c"}),
        order=("first", "a", "second", "b", "third", "c"),
        receives=frozenset({"first", "second", "third"}),
    ),
}


class Fate(StrEnum):
    """What is done to a workflow from outside while it runs, or, for a fork, when it has ended."""

    LEFT_ALONE = "left alone"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    FORKED = "forked"


_FATES = {Fate.LEFT_ALONE: 6, Fate.CANCELLED: 1, Fate.PAUSED: 1, Fate.FORKED: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A workflow to be started. `seconds` is the length of its naps and its timed waits.

    A fork has a `source`, whose records it has up to the step `before`, or all of them.
    """

    workflow_id: str
    handler_id: str
    seconds: float
    fate: Fate = Fate.LEFT_ALONE
    source: str | None = None
    before: str | None = None

    @property
    def plan(self) -> Plan:
        return PLANS[self.handler_id]

    @property
    def copied(self) -> frozenset[str]:
        """The steps and naps that a fork has from the beginning."""
        if self.source is None:
            return frozenset()
        order = self.plan.order
        return frozenset(order if self.before is None else order[: order.index(self.before)])

    def fork(self, before: str | None) -> Order:
        return Order(
            workflow_id=f"{self.workflow_id}-fork",
            handler_id=self.handler_id,
            seconds=self.seconds,
            source=self.workflow_id,
            before=before,
        )


def order(number: int, choice: random.Random) -> Order:
    """The workflow of a number, of any kind."""
    bounds = choice.choice((SHORT_NAPS, LONG_NAPS))
    handler_id = choice.choice(sorted(PLANS))
    (fate,) = choice.choices(list(_FATES), list(_FATES.values()))
    if fate is Fate.FORKED and not PLANS[handler_id].may_be_forked:
        fate = Fate.LEFT_ALONE
    return Order(
        workflow_id=f"w{number}",
        handler_id=handler_id,
        seconds=round(choice.uniform(*bounds), 3),
        fate=fate,
    )

"""Starts workflows while everything around breaks, and follows what becomes of them."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any

from bluestreak_core import Bluestreak, StoreUnavailable
from tests.chaos.errands import Errands
from tests.chaos.evidence import Start
from tests.chaos.outside import Outside, answered
from tests.chaos.workload import Fate, Order, order

_IN_FLIGHT = 200
_GIVING_UP = 0.3
"""The share of starts that are left at that when there was no answer."""
_WAITED_FOR = 0.1
"""The share of workflows that are waited for."""
_TRY_AGAIN = 0.2  # seconds


class Starter:
    """A client of the workers, with an engine of its own."""

    def __init__(self, bluestreak: Bluestreak, seed: int) -> None:
        self.starts: list[Start] = []
        self.results: dict[str, Any] = {}
        """What `wait` has returned, by workflow id."""
        self.complaints: list[str] = []
        """Errors of `start` and `wait` that are none of an outage."""
        self.outside = Outside(bluestreak)
        self._seed = seed
        self._bluestreak = bluestreak
        self._choice = random.Random(f"{seed}/orders")
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self._errands = Errands("client", self.complaints)

    async def start(self, rate: float) -> None:
        """Start so many workflows a second, fewer while there are no answers, until cancelled."""
        number = 0
        while True:
            await self._in_flight.acquire()
            ordered = order(number, self._choice)
            follow = self._follow(
                ordered,
                gives_up=self._choice.random() < _GIVING_UP and not _needs_more(ordered),
                waits=self._choice.random() < _WAITED_FOR and not _ends_otherwise(ordered),
            )
            self._errands.begin(follow)
            number += 1
            await asyncio.sleep(1 / rate)

    async def end(self, patience: float) -> None:
        """Return when each start was answered or given up and each wait is over, or is broken off.

        That is so many seconds later.
        """
        await self._errands.end(patience)

    async def _follow(self, order: Order, *, gives_up: bool, waits: bool) -> None:
        start = Start(order=order, accepted=None)
        try:
            start = await self._start(order, gives_up=gives_up)
        finally:
            self.starts.append(start)
            self._in_flight.release()
        if start.accepted is None:
            return
        async with asyncio.TaskGroup() as tasks:
            choice = random.Random(f"{self._seed}/{order.workflow_id}")
            tasks.create_task(self.outside.act(order, choice))
            if waits:
                tasks.create_task(self._wait(order.workflow_id))

    async def _start(self, order: Order, *, gives_up: bool) -> Start:
        asked_again = False
        while True:
            try:
                accepted = await self._bluestreak.start(
                    order.workflow_id, order.handler_id, order.seconds
                )
            except StoreUnavailable:
                if gives_up:
                    return Start(order=order, accepted=None)
                asked_again = True
                await asyncio.sleep(_TRY_AGAIN)
            else:
                return Start(order=order, accepted=accepted, asked_again=asked_again)

    async def _wait(self, workflow_id: str) -> None:
        self.results[workflow_id], _ = await answered(partial(self._bluestreak.wait, workflow_id))


def _needs_more(order: Order) -> bool:
    """Whether it ends only with what is done to it, which nobody does whose start has no answer."""
    return order.plan.gives_up or bool(order.plan.receives)


def _ends_otherwise(order: Order) -> bool:
    """Whether it may end without a result, at first or at last."""
    return order.plan.gives_up or order.fate is Fate.CANCELLED

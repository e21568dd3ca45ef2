"""Starts workflows while everything around breaks, and waits for some of them."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from bluestreak_core import Bluestreak, StoreUnavailable, WaitTimeout
from tests.chaos.evidence import Start
from tests.chaos.workload import Order, order

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
        self._bluestreak = bluestreak
        self._choice = random.Random(f"{seed}/orders")
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, rate: float) -> None:
        """Start so many workflows a second, fewer while there are no answers, until cancelled."""
        number = 0
        while True:
            await self._in_flight.acquire()
            follow = self._follow(
                order(number, self._choice),
                gives_up=self._choice.random() < _GIVING_UP,
                waits=self._choice.random() < _WAITED_FOR,
            )
            task = asyncio.create_task(follow)
            self._tasks.add(task)
            task.add_done_callback(self._ended)
            number += 1
            await asyncio.sleep(1 / rate)

    async def end(self, patience: float) -> None:
        """Return when each start was answered or given up and each wait is over, or is broken off.

        That is so many seconds later.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.complaints.append(f"the client: {error!r}")

    async def _follow(self, order: Order, *, gives_up: bool, waits: bool) -> None:
        start = Start(order=order, accepted=None)
        try:
            start = await self._start(order, gives_up=gives_up)
        finally:
            self.starts.append(start)
            self._in_flight.release()
        if waits and start.accepted is not None:
            self.results[order.workflow_id] = await self._wait(order.workflow_id)

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

    async def _wait(self, workflow_id: str) -> Any:
        while True:
            try:
                return await self._bluestreak.wait(workflow_id)
            except (StoreUnavailable, WaitTimeout):
                await asyncio.sleep(_TRY_AGAIN)

"""Engines on one store, and what their tests put into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from typing_extensions import get_protocol_members

from bluestreak_core import Bluestreak, Context, Store, WorkflowSummary
from bluestreak_core.testing import ManualClock, RecordingStore


class Fleet:
    """Makes engines on one store, and runs them."""

    def __init__(self, store: RecordingStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock

    @asynccontextmanager
    async def polling(
        self, bluestreak: Bluestreak | None = None, **options: Any
    ) -> AsyncIterator[Bluestreak]:
        """An engine that polls for as long as the block lasts, and is then stopped."""
        bluestreak = bluestreak or await self.engine(**options)
        poll = asyncio.create_task(bluestreak.poll())
        try:
            yield bluestreak
        finally:
            bluestreak.stop()
            bluestreak.stop()
            await poll

    async def engine(self, store: Store | None = None, **options: Any) -> Bluestreak:
        """An initialised engine, which the store's fixture closes."""
        bluestreak = Bluestreak(store or self.store, **options)
        await bluestreak.init()
        return bluestreak


class Gate:
    """A step that reports when it is inside, and waits until it may go on."""

    def __init__(self) -> None:
        self.calls = 0
        self.inside = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = False

    async def step(self) -> str:
        self.calls += 1
        self.inside.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "through"

    async def handle(self, ctx: Context, input: None) -> str:
        return await ctx.step("gate", self.step)


class Bare:
    """A store that shows only what every store has."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name not in get_protocol_members(Store):
            raise AttributeError(name)
        return getattr(self._store, name)


async def listed(summaries: AsyncIterator[WorkflowSummary]) -> list[str]:
    """The ids of a search, in its order."""
    return [summary.workflow_id async for summary in summaries]

"""Engines on one store, and what their tests put into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import get_protocol_members

from bluestreak_core import (
    Bluestreak,
    Client,
    Context,
    Handler,
    Receipt,
    Store,
    Workflow,
    WorkflowAborted,
    WorkflowSummary,
)
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_memory import MemoryStore

DAY = timedelta(days=1)

on_memory = pytest.mark.parametrize("store", ["memory"], indirect=True)
"""For what is decided before a store is asked, or is the same on each of them."""


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

    async def handling(self, handler: Handler, **options: Any) -> Bluestreak:
        """An engine with the handler `h`, whose leases outlast what a test waits for."""
        lasting: dict[str, Any] = {"timeout_interval": DAY, "poll_interval": DAY, "max_failures": 3}
        bluestreak = await self.engine(**lasting | options)
        bluestreak.register_handler("h", handler)
        return bluestreak

    async def parking(self, handler: Handler, **options: Any) -> Bluestreak:
        """An engine whose workflows leave memory as soon as they wait."""
        return await self.handling(handler, park_after=0, **options)

    async def staying(self, handler: Handler, **options: Any) -> Bluestreak:
        """An engine whose workflows stay in memory while they wait."""
        return await self.handling(handler, park_after=DAY, **options)


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


@asynccontextmanager
async def transaction(store: RecordingStore) -> AsyncIterator[Any]:
    """A session of the caller's, whose transaction is committed unless the block raises."""
    inner: Any = store.wrapped
    if isinstance(inner, MemoryStore):
        async with inner.transaction() as session:
            yield session
        return
    client = inner._opening._connection.open().client
    async with client.start_session() as session, await session.start_transaction():
        yield session


# Messages -----------------------------------------------------------------------------------------


async def receive_one(ctx: Context, input: None) -> Any:
    return await ctx.receive("get", "paid")


async def receive_two(ctx: Context, input: None) -> list[Any]:
    return [await ctx.receive("first", "paid"), await ctx.receive("second", "paid")]


async def receive_both(ctx: Context, input: None) -> list[Any]:
    return list(await asyncio.gather(ctx.receive("get a", "a"), ctx.receive("get b", "b")))


async def end_at_once(ctx: Context, input: None) -> None: ...


async def workflow_of(client: Client, workflow_id: str = "w") -> Workflow:
    workflow = await client.find_workflow(workflow_id)
    assert workflow is not None
    return workflow


async def receipt_of(client: Client, step_id: str = "get") -> Receipt | None:
    step = await client.find_step("w", step_id)
    assert step is not None
    return step.receipt


async def unread(store: RecordingStore, workflow_id: str = "w") -> list[str]:
    """The ids of the messages that wait in a mailbox, in order."""
    return [message.message_id for message in await store.find_unread(workflow_id, 10_000)]


async def aborted_by(
    client: Client, error: type[Exception], workflow_id: str = "w", *, failures: int = 1
) -> WorkflowAborted:
    """How an error has aborted a workflow, which was not tried again."""
    with pytest.raises(WorkflowAborted) as aborted:
        await client.wait(workflow_id)
    assert aborted.value.error_type.rpartition(".")[2] == error.__name__
    assert (await workflow_of(client, workflow_id)).failures == failures
    return aborted.value

"""The store fails, or cannot hint, while a workflow waits for a message."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import Context, MessageTimeout, Send, Store, StoreUnavailable
from bluestreak_core.testing import (
    Environment,
    Fault,
    FaultyStore,
    ManualClock,
    RecordingStore,
    StoreWrapper,
)
from bluestreak_memory import MemoryStore
from tests.arrange import pass_time
from tests.engine.arrange import Fleet, receive_one, workflow_of

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_of_the_store_loses_and_repeats_no_message(fault: Fault) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        first = await ctx.receive("first", "paid", timeout=DAY)
        try:
            await ctx.receive("none", "refunded", timeout=HOUR)
        except MessageTimeout:
            return [first, await ctx.receive("second", "paid")]
        raise AssertionError

    def faulty(number: int, store: Store) -> FaultyStore:
        stores.append(FaultyStore(store, faults={number: fault}))
        return stores[-1]

    stores: list[FaultyStore] = []
    # Each call that the run makes, and those that find another state on the next one.
    for number in (2, 3, 4, 7, 10, 12, 13, 15, 24):
        with Environment(worker_store=partial(faulty, number)) as env:
            env.register_handler("h", handle)
            env.start("w", "h")
            env.advance(MINUTE)
            env.call(env.bluestreak.send_many([Send("w", "paid", "a"), Send("w", "paid", "b")]))
            assert env.wait("w").result == ["a", "b"]
    hit = {injected.call for store in stores for injected in store.injected}
    assert hit >= {"receive", "save_attempt", "park_until_message", "history", "finish"}


@pytest.mark.asyncio
async def test_a_wait_goes_on_when_the_store_is_back(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    bluestreak = await fleet.staying(receive_one)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await store.until_begun("wait_for_message")
        store.failing["receive"] = StoreUnavailable("no route")
        await bluestreak.send("w", "paid", 500)
        begun = store.begun["receive"]
        await pass_time(clock, lambda: store.begun["receive"] > begun + 2)
        del store.failing["receive"]
        await pass_time(clock, lambda: store.returned["finish"] == 1)
        assert await bluestreak.wait("w") == 500
    assert (await workflow_of(bluestreak)).claims == 1


class _Deaf(StoreWrapper):
    """Its first answers on whether there may be messages are errors."""

    def __init__(self, store: Store, errors: int) -> None:
        super().__init__(store)
        self.errors_left = errors

    @override
    async def wait_for_message(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        if self.errors_left > 0:
            self.errors_left -= 1
            raise StoreUnavailable("no change stream")
        return await super().wait_for_message(workflow_id, mail, timeout)


@pytest.mark.asyncio
async def test_a_wait_survives_the_errors_of_a_store_that_cannot_hint(clock: ManualClock) -> None:
    fleet = Fleet(RecordingStore(_Deaf(MemoryStore(clock=clock), 3)), clock)
    bluestreak = await fleet.staying(receive_one, max_failures=0)
    begun = fleet.store.begun
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(
            clock, lambda: begun["wait_for_message"] == 4 or fleet.store.returned["fail"] == 1
        )
        await bluestreak.send("w", "paid", 500)
        assert await bluestreak.wait("w") == 500
    assert (await workflow_of(bluestreak)).claims == 1


@pytest.mark.asyncio
async def test_a_store_that_cannot_hint_is_not_asked_again_without_a_pause(
    clock: ManualClock,
) -> None:
    deaf = _Deaf(MemoryStore(clock=clock), 1000)
    fleet = Fleet(RecordingStore(deaf), clock)
    bluestreak = await fleet.staying(receive_one)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
        for _ in range(2000):
            await asyncio.sleep(0)
    assert deaf.errors_left > 900  # since no time has passed

"""Deleting what has ended, when somebody asks and by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    Context,
    InvalidArgument,
    InvalidDuration,
    NewWorkflow,
    NotInitialised,
    Pruned,
    Status,
    StoreRefused,
    StoreUnavailable,
    Unsupported,
)
from bluestreak_core.machine import Transition
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_core.worker.expiry import AT_ONCE, BREATH, SHORTEST_PAUSE
from bluestreak_memory import MemoryStore
from tests.arrange import eventually, pass_time
from tests.engine.arrange import Bare, Fleet, listed
from tests.engine.bad_input import BAD_COUNTS, BAD_DURATIONS, BAD_INSTANTS, BAD_STATUSES

pytestmark = pytest.mark.asyncio

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


async def cancelled(store: RecordingStore, count: int, prefix: str = "w") -> None:
    """So many workflows that ended by now."""
    now = store.clock.now()
    await store.create_many(
        [
            NewWorkflow(
                workflow_id=f"{prefix}{number:03}", handler_id="h", input=None, created_at=now
            )
            for number in range(count)
        ]
    )
    for number in range(count):
        await store.control(f"{prefix}{number:03}", Transition.CANCEL, now)


# prune() -----------------------------------------------------------------------------------------


async def test_what_has_run_is_deleted_with_all_that_it_recorded(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: str) -> str:
        await ctx.sleep("n", 0)
        return await ctx.step("s", lambda: input)

    await bluestreak.start("w", "h", "old")
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == "old"
        assert await bluestreak.prune(ended_before=clock.now()) == Pruned()
        clock.advance(SECOND)
        pruned = await bluestreak.prune(ended_before=clock.now())
        assert pruned == Pruned(workflows=1, steps=1, naps=1)
        assert await bluestreak.find_workflow("w") is None
        assert await bluestreak.find_step("w", "s") is None
        assert await bluestreak.find_nap("w", "n") is None
        assert await bluestreak.start("w", "h", "new")
        assert await bluestreak.wait("w") == "new"


async def test_only_the_given_states_are_deleted_or_all_that_are_ends(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("idle", "h")
    await cancelled(store, 2)
    later = clock.now() + SECOND
    assert await bluestreak.prune(ended_before=later, statuses=["finished"]) == Pruned()
    pruned = await bluestreak.prune(ended_before=later, statuses=(Status.CANCELLED,), limit=1)
    assert pruned == Pruned(workflows=1)
    assert await bluestreak.prune(ended_before=later) == Pruned(workflows=1)
    assert await listed(bluestreak.list()) == ["idle"]


LIMITS = [(None, 3), (0, 0), (1, 1), (499, 1), (500, 1), (501, 2), (1000, 3)]
"""With how many calls of the store five hundred workflows, and a few, are deleted."""


@pytest.mark.parametrize(
    ("store", "limit", "calls"),
    [
        *[("memory", *limit) for limit in LIMITS],
        # One of a server: the engine counts the same on each store.
        pytest.param("mongo", 501, 2, marks=pytest.mark.server),
    ],
    indirect=["store"],
)
async def test_it_is_deleted_in_batches_up_to_the_limit(
    store: RecordingStore, fleet: Fleet, clock: ManualClock, limit: int | None, calls: int
) -> None:
    bluestreak = await fleet.engine()
    await cancelled(store, 505)
    pruned = await bluestreak.prune(ended_before=clock.now() + SECOND, limit=limit)
    assert pruned == Pruned(workflows=505 if limit is None else min(limit, 505))
    assert store.begun["prune"] == calls
    assert (await bluestreak.count())["cancelled"] == 505 - pruned.workflows


async def test_it_goes_on_though_others_have_taken_some_of_a_batch(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    class Contended(StoreWrapper):
        """Of the first batch, somebody else deletes all but one."""

        @override
        async def prune(
            self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
        ) -> Pruned:
            limit = limit if store.begun["prune"] else 1
            return await store.prune(ended_before, statuses, limit, now)

    bluestreak = await fleet.engine(Contended(store))
    await cancelled(store, 3)
    assert await bluestreak.prune(ended_before=clock.now() + SECOND) == Pruned(workflows=3)


BAD: list[tuple[str, Any]] = [
    *[("ended_before", bad) for bad in (None, *BAD_INSTANTS.values())],
    *[("statuses", bad) for bad in (None, *BAD_STATUSES.values())],
    *[("statuses", bad) for bad in ("idle", ["finished", "running"], tuple(Status))],
    *[("limit", bad) for bad in BAD_COUNTS.values()],
]


async def test_a_bad_prune_is_refused_by_its_name_and_deletes_nothing(
    store: RecordingStore, fleet: Fleet, clock: ManualClock, subtests: pytest.Subtests
) -> None:
    bluestreak = await fleet.engine()
    await cancelled(store, 1)
    for number, (name, bad) in enumerate(BAD):
        with subtests.test(f"{name} {number}"):
            with pytest.raises(InvalidArgument, match=f"^{name} "):
                await bluestreak.prune(**{"ended_before": clock.now() + SECOND} | {name: bad})
            assert store.begun["prune"] == 0


async def test_a_prune_needs_an_open_store_that_can_delete(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    with pytest.raises(NotInitialised, match=r"^prune\(\) "):
        await Bluestreak(store).prune(ended_before=clock.now())
    bare: Any = Bare(MemoryStore())
    for given in (bare, StoreWrapper(bare)):
        bluestreak = await fleet.engine(given)
        with pytest.raises(Unsupported, match=r"^prune\(\) is not possible here: Bare cannot del"):
            await bluestreak.prune(ended_before=clock.now())


# expire_ended_after ------------------------------------------------------------------------------


async def _until_looked(store: RecordingStore, clock: ManualClock, count: int = 1) -> None:
    """Let time pass until a worker has looked so many times for what may expire."""
    while store.returned["prune"] < count:
        clock.advance(SECOND)
        await asyncio.sleep(0)


async def test_what_ended_long_ago_expires_while_a_worker_polls(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    await cancelled(store, 2, "old")
    clock.advance(DAY)
    await cancelled(store, 2, "new")
    begin = clock.now()
    async with fleet.polling(expire_ended_after=DAY) as bluestreak:
        await _until_looked(store, clock)
        assert clock.now() - begin >= SHORTEST_PAUSE
        assert await listed(bluestreak.list(order="id")) == ["new000", "new001"]
        clock.advance(DAY)
        await _until_looked(store, clock, count=2)
        assert await listed(bluestreak.list()) == []


async def test_nothing_expires_unless_it_is_asked_for(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    await cancelled(store, 1)
    async with fleet.polling() as bluestreak:
        for _ in range(300):
            clock.advance(SECOND)
            await asyncio.sleep(0)
        assert store.begun["prune"] == 0
        assert await bluestreak.find_workflow("w000") is not None


async def test_it_expires_in_small_batches_and_then_rests(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    await cancelled(store, 2 * AT_ONCE + 1)
    clock.advance(DAY)
    async with fleet.polling(expire_ended_after=SECOND):
        await _until_looked(store, clock, count=4)
        assert (await store.find_workflow("w000")) is None
        at = clock.now()
        await _until_looked(store, clock, count=5)
        assert clock.now() - at >= SHORTEST_PAUSE


async def test_others_have_the_store_for_themselves_between_two_batches(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    await cancelled(store, AT_ONCE + 1)
    clock.advance(DAY)
    async with fleet.polling(expire_ended_after=SECOND):
        await _until_looked(store, clock)
        at = clock.now()
        await pass_time(clock, lambda: store.begun["prune"] > 1)
        assert clock.now() - at >= BREATH


async def test_workers_that_start_together_do_not_look_together(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    began: list[timedelta] = []
    begin = clock.now()
    async with asyncio.TaskGroup() as tasks:
        fleets = [await fleet.engine(expire_ended_after=DAY) for _ in range(10)]
        polls = [tasks.create_task(bluestreak.poll()) for bluestreak in fleets]
        while len(began) < len(polls):
            began += [clock.now() - begin] * (store.begun["prune"] - len(began))
            clock.advance(SECOND / 10)
            await asyncio.sleep(0)
        for bluestreak in fleets:
            bluestreak.stop()
            bluestreak.stop()
    assert len(set(began[:10])) > 5
    assert min(began) >= SHORTEST_PAUSE


async def test_an_unreachable_store_is_tried_again_later(
    store: RecordingStore, fleet: Fleet, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await cancelled(store, 1)
    clock.advance(DAY)
    store.failing["prune"] = StoreUnavailable("gone")
    async with fleet.polling(expire_ended_after=SECOND):
        while not store.begun["prune"]:
            clock.advance(SECOND)
            await asyncio.sleep(0)
        await eventually(
            lambda: "ended workflows could not be deleted, trying again later" in caplog.text
        )
        del store.failing["prune"]
        await _until_looked(store, clock)
    assert await store.find_workflow("w000") is None


async def test_a_store_that_refuses_to_delete_ends_the_poll(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    store.failing["prune"] = StoreRefused("not authorised to remove")
    bluestreak = await fleet.engine(expire_ended_after=DAY)
    poll = asyncio.create_task(bluestreak.poll())
    while not poll.done():
        clock.advance(SECOND)
        await asyncio.sleep(0)
    with pytest.raises(StoreRefused, match="not authorised to remove"):
        await poll


@pytest.mark.parametrize("name", [name for name in BAD_DURATIONS if name != "none"])
async def test_a_bad_time_to_expire_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(InvalidDuration, match=r"^expire_ended_after "):
        Bluestreak(MemoryStore(), expire_ended_after=BAD_DURATIONS[name])


async def test_no_time_at_all_is_no_time_to_expire() -> None:
    with pytest.raises(InvalidDuration, match=r"^expire_ended_after 0: "):
        Bluestreak(MemoryStore(), expire_ended_after=0)


async def test_nothing_can_expire_on_a_store_that_cannot_delete() -> None:
    bare: Any = Bare(MemoryStore())
    with pytest.raises(Unsupported, match=r"^expire_ended_after .*: Bare cannot delete$"):
        Bluestreak(bare, expire_ended_after=DAY)

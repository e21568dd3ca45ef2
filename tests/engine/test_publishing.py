"""Published values are seen while the workflow runs, and each is published once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Abort,
    Bluestreak,
    Claim,
    Client,
    Context,
    Handler,
    InvalidDuration,
    InvalidId,
    NotInitialised,
    Published,
    Status,
    StoreUnavailable,
    UnstorableValue,
    Unsupported,
    UsedInStep,
    UsedInTransaction,
    ValueTooLarge,
    WorkflowAborted,
    WorkflowNotFound,
)
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_memory import MemoryStore
from tests.arrange import eventually, pass_time
from tests.engine.arrange import Bare, Fleet, Gate, aborted_by, on_memory, workflow_of
from tests.engine.bad_input import BAD_DURATIONS, BAD_IDS

MS = timedelta(milliseconds=1)
ROOM = 64 * 1024


async def _published(client: Client) -> dict[str, tuple[int, Any]]:
    workflow = await workflow_of(client)
    return {latest.name: (latest.number, latest.value) for latest in workflow.published}


# While it runs ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_value_is_seen_while_the_workflow_runs(fleet: Fleet, clock: ManualClock) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> None:
        await ctx.publish("progress", {"rows": (1, 2)})
        await ctx.step("gate", gate.step)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        await fleet.store.until_returned("publish")
        assert await bluestreak.published("w", "progress") == {"rows": [1, 2]}
        (latest,) = (await workflow_of(bluestreak)).published
        rows = {"rows": [1, 2]}
        assert latest == Published(name="progress", number=1, value=rows, at=clock.now())
        gate.go_on.set()
        await bluestreak.wait("w")
    assert await bluestreak.published("w", "progress") == {"rows": [1, 2]}


@pytest.mark.asyncio
async def test_the_handler_does_not_wait_for_the_store(clock: ManualClock) -> None:
    class Slow(StoreWrapper):
        @override
        async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
            await gate.step()
            await super().publish(claim, published)

    gate, steps = Gate(), Gate()
    steps.go_on.set()
    fleet = Fleet(RecordingStore(Slow(MemoryStore(clock=clock))), clock)

    async def handle(ctx: Context, input: None) -> None:
        await ctx.publish("progress", 1)
        await ctx.step("gate", steps.step)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        await eventually(lambda: fleet.store.returned["save_step"] == 1)
        assert (await workflow_of(bluestreak)).status is Status.RUNNING
        gate.go_on.set()
        await bluestreak.wait("w")
    assert await _published(bluestreak) == {"progress": (1, 1)}


@pytest.mark.asyncio
async def test_values_are_written_at_most_once_in_a_tenth_of_a_second(
    fleet: Fleet, clock: ManualClock
) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> None:
        for number in range(50):
            await ctx.publish("progress", number)
            await ctx.publish("other", -number)
            await ctx.step(f"{number}", int)
        await ctx.step("gate", gate.step)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        assert fleet.store.begun["publish"] == 1
        clock.advance(99 * MS)
        await _settle()
        assert fleet.store.begun["publish"] == 1
        clock.advance(MS)
        await fleet.store.until_returned("publish", 2)
        assert await _published(bluestreak) == {"progress": (50, 49), "other": (50, -49)}
        gate.go_on.set()
        await bluestreak.wait("w")
    assert fleet.store.begun["publish"] == 2


async def _settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


# The last one always ------------------------------------------------------------------------------


async def _return(ctx: Context) -> None: ...


async def _raise(ctx: Context) -> None:
    raise ValueError("again")


async def _abort(ctx: Context) -> None:
    raise Abort("for good")


async def _sleep(ctx: Context) -> None:
    await ctx.sleep("long", 3600)


async def _receive(ctx: Context) -> None:
    await ctx.receive("get", "paid")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("end", "call", "status"),
    [
        (_return, "finish", Status.FINISHED),
        (_raise, "fail", Status.FAILED),
        (_abort, "fail", Status.ABORTED),
        (_sleep, "park", Status.IDLE),
        (_receive, "park_until_message", Status.IDLE),
    ],
)
async def test_the_last_value_is_written_before_the_claim_ends(
    fleet: Fleet, end: Any, call: str, status: Status
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        for number in range(3):
            await ctx.publish("progress", number)
        await end(ctx)

    bluestreak = await fleet.parking(handle, wait_retry_interval=3600)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned(call)
        assert (await workflow_of(bluestreak)).status is status
        assert await _published(bluestreak) == {"progress": (3, 2)}


@pytest.mark.asyncio
async def test_the_last_value_is_written_by_a_worker_that_stops(fleet: Fleet) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> None:
        for number in range(3):
            await ctx.publish("progress", number)
        await ctx.step("gate", gate.step)

    bluestreak = await fleet.handling(handle, drain_timeout=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
    assert (await workflow_of(bluestreak)).status is Status.IDLE
    assert await _published(bluestreak) == {"progress": (3, 2)}


@pytest.mark.asyncio
@on_memory
async def test_nothing_is_written_once_the_workflow_is_cancelled(
    fleet: Fleet, clock: ManualClock
) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> None:
        await ctx.publish("progress", 1)
        await ctx.step("gate", gate.step)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        await bluestreak.cancel("w")
        await pass_time(clock, lambda: bluestreak.health().runs == 0)
    assert (await workflow_of(bluestreak)).status is Status.CANCELLED
    assert await _published(bluestreak) == {"progress": (1, 1)}


@pytest.mark.asyncio
async def test_a_value_survives_an_outage(clock: ManualClock) -> None:
    class Failing(StoreWrapper):
        calls = 0

        @override
        async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
            await super().publish(claim, published)
            self.calls += 1
            if self.calls < 3:
                raise StoreUnavailable("lost")

    fleet = Fleet(RecordingStore(Failing(MemoryStore(clock=clock))), clock)
    gate = Gate()

    async def handle(ctx: Context, input: None) -> None:
        await ctx.publish("progress", 1)
        await ctx.step("gate", gate.step)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        await pass_time(clock, lambda: fleet.store.returned["publish"] == 1)
        gate.go_on.set()
        await bluestreak.wait("w")
    assert await _published(bluestreak) == {"progress": (1, 1)}


# Replay -------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_replay_publishes_nothing_again(fleet: Fleet, clock: ManualClock) -> None:
    runs: list[None] = []

    async def handle(ctx: Context, input: None) -> None:
        runs.append(None)
        await ctx.publish("first", 1)
        await ctx.publish("progress", f"run {len(runs)}")
        await ctx.sleep("nap", 60)
        await ctx.publish("progress", f"run {len(runs)}")

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park")
        before = (await workflow_of(bluestreak)).published
        assert await _published(bluestreak) == {"first": (1, 1), "progress": (1, "run 1")}
        writes = fleet.store.begun["publish"]
        clock.advance(timedelta(seconds=60))
        await bluestreak.wait("w")
    assert await _published(bluestreak) == {"first": (1, 1), "progress": (2, "run 2")}
    assert (await workflow_of(bluestreak)).published[0] == before[0]
    assert fleet.store.begun["publish"] == writes + 1


@pytest.mark.asyncio
@on_memory
async def test_a_retried_workflow_goes_on_counting(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        for number in range(2):
            await ctx.publish("progress", (number, len(failures)))
        if not failures:
            failures.append(None)
            raise Abort("once")
        await ctx.publish("progress", "done")

    failures: list[None] = []
    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
        assert await _published(bluestreak) == {"progress": (2, [1, 0])}
        await bluestreak.retry("w")
        await bluestreak.wait("w")
    assert await _published(bluestreak) == {"progress": (3, "done")}


@pytest.mark.asyncio
@on_memory
async def test_what_the_handler_does_to_a_value_later_is_not_published(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        rows = [1]
        await ctx.publish("rows", rows)
        rows.append(2)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    assert await bluestreak.published("w", "rows") == [1]


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_value_that_was_never_published_is_the_default(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    assert await bluestreak.published("w", "progress") is None
    assert await bluestreak.published("w", "progress", 0) == 0
    with pytest.raises(WorkflowNotFound):
        await bluestreak.published("v", "progress")


@pytest.mark.asyncio
async def test_a_watcher_sees_each_change_until_the_end(fleet: Fleet, clock: ManualClock) -> None:
    gates = [Gate(), Gate()]

    async def handle(ctx: Context, input: None) -> None:
        await ctx.publish("state", "begun")
        for number, gate in enumerate(gates):
            await ctx.step(f"gate {number}", gate.step)
            await ctx.publish("progress", number)
        await ctx.publish("state", "done")

    async def watch() -> None:
        async for change in bluestreak.watch("w"):
            seen.append((change.name, change.number, change.value))  # noqa: PERF401 - as they come

    seen: list[tuple[str, int, Any]] = []
    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h")
    watcher = asyncio.create_task(watch())
    async with fleet.polling(bluestreak):
        await gates[0].inside.wait()
        await pass_time(clock, lambda: len(seen) == 1)
        gates[0].go_on.set()
        await pass_time(clock, lambda: len(seen) == 2)
        gates[1].go_on.set()
        await pass_time(clock, watcher.done)
    assert seen[:2] == [("state", 1, "begun"), ("progress", 1, 0)]
    assert sorted(seen[2:]) == [("progress", 2, 1), ("state", 2, "done")]


@pytest.mark.asyncio
@on_memory
async def test_a_watcher_of_an_ended_workflow_sees_what_is_left(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.publish("progress", math.nan)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    assert [change.name async for change in bluestreak.watch("w")] == ["progress"]


@pytest.mark.asyncio
async def test_a_watcher_of_no_workflow_is_refused(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(WorkflowNotFound):
        await anext(aiter(bluestreak.watch("w")))


@pytest.mark.asyncio
@on_memory
async def test_a_description_shows_what_is_published(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.publish("progress", {"rows": 7})

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    assert "published 'progress': {'rows': 7}, " in str(await bluestreak.describe("w"))


# Mistakes -----------------------------------------------------------------------------------------


async def _within_step(ctx: Context, input: None) -> None:
    await ctx.step("s", lambda: ctx.publish("progress", 1))


async def _within_transaction(ctx: Context, input: None) -> None:
    async def write(session: Any) -> None:
        await ctx.publish("progress", 1)

    await ctx.transaction("t", write)


async def _unstorable(ctx: Context, input: None) -> None:
    await ctx.publish("progress", object())


async def _too_large(ctx: Context, input: None) -> None:
    await ctx.publish("progress", "x" * ROOM)


async def _too_many(ctx: Context, input: None) -> None:
    await ctx.publish("a", "x" * (ROOM // 2))
    await ctx.publish("a", "y" * (ROOM // 2))
    await ctx.publish("b", "z" * (ROOM // 2))


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (_within_step, UsedInStep),
        (_within_transaction, UsedInTransaction),
        (_unstorable, UnstorableValue),
        (_too_large, ValueTooLarge),
        (_too_many, ValueTooLarge),
    ],
)
async def test_a_publish_that_cannot_be_meant_aborts(
    fleet: Fleet, handler: Handler, error: type[Exception]
) -> None:
    bluestreak = await fleet.handling(handler)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, error)
    published = await _published(bluestreak)
    assert published.keys() <= {"a"}
    if error in (UnstorableValue, ValueTooLarge):
        assert "published value" in aborted.error_message


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("name", BAD_IDS.values(), ids=BAD_IDS)
async def test_a_bad_name_is_refused(fleet: Fleet, name: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.publish(name, 1)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await aborted_by(bluestreak, InvalidId)
    assert await _published(bluestreak) == {}
    with pytest.raises(InvalidId):
        await bluestreak.published("w", name)
    with pytest.raises(InvalidId):
        bluestreak.watch(name)


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("pause", [*BAD_DURATIONS.values(), 0])
async def test_a_bad_pause_is_refused(fleet: Fleet, pause: Any) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(InvalidDuration):
        bluestreak.watch("w", pause=pause)


@pytest.mark.asyncio
async def test_a_store_that_cannot_publish_is_named() -> None:
    bare: Any = Bare(MemoryStore())
    bluestreak = Bluestreak(bare, poll_interval=0.01)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.publish("progress", 1)

    with pytest.raises(NotInitialised):
        bluestreak.watch("w")
    async with bluestreak:
        await bluestreak.start("w", "h")
        poll = asyncio.create_task(bluestreak.poll())
        with pytest.raises(WorkflowAborted, match="Bare cannot publish"):
            await bluestreak.wait("w")
        with pytest.raises(Unsupported, match=r"published\(\).*Bare cannot publish"):
            await bluestreak.published("w", "progress")
        with pytest.raises(Unsupported, match=r"watch\(\).*Bare cannot publish"):
            bluestreak.watch("w")
        bluestreak.stop()
        await poll

"""Steps are written once, and a replay equals the first run."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Bluestreak,
    Context,
    DuplicateStep,
    Status,
    WorkflowAborted,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore
from tests.engine.arrange import Fleet

pytestmark = pytest.mark.asyncio


async def test_a_workflow_runs_its_steps_and_returns_its_result(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("greet")
    async def greet(ctx: Context, input: dict[str, str]) -> str:
        assert ctx.workflow_id == "w"
        name = await ctx.step("name", str.upper, input["name"])
        return await ctx.step("greeting", lambda: f"hello {name}")

    async with fleet.polling(bluestreak):
        assert await bluestreak.start("w", "greet", {"name": "ada"})
        assert await bluestreak.wait("w") == "hello ADA"


async def test_a_recorded_step_is_not_called_again(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(wait_retry_interval=0)
    calls = []

    def first() -> int:
        calls.append("first")
        return 1

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> list[int]:
        recorded = await ctx.step("first", first)
        if calls.count("second") < 2:
            calls.append("second")
            raise ValueError
        return [recorded]

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == [1]
    assert calls == ["first", "second", "second"]


async def test_arguments_are_passed_through(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()

    async def add(a: int, b: int) -> int:
        return a + b

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: Any) -> int:
        return await ctx.step("add", add, 1, 2) + await ctx.step("max", max, 3, 4)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == 7


async def test_a_value_is_the_same_the_first_time_and_replayed(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(wait_retry_interval=0)
    given = {"pair": (1, 2), "at": datetime(2030, 1, 1, 0, 0, 0, 123_456)}  # noqa: DTZ001
    seen: list[Any] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: Any) -> Any:
        output = await ctx.step("s", lambda: given)
        seen.append((input, output))
        if len(seen) == 1:
            raise ValueError
        return given

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", given)
        result = await bluestreak.wait("w")
    assert seen[0] == seen[1]
    assert seen[0][0] == seen[0][1] == result
    assert type(result["pair"]) is list


async def test_racing_attempts_of_a_step_get_the_stored_output(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    results: list[str] = []
    inside, go_on = [asyncio.Event(), asyncio.Event()], asyncio.Event()

    async def attempt(number: int) -> str:
        inside[number].set()
        await go_on.wait()
        return f"attempt {number}"

    async def engine(number: int) -> Bluestreak:
        bluestreak = await fleet.engine(timeout_interval=10, max_concurrency=1)

        @bluestreak.handler("h")
        async def handle(ctx: Context, input: None) -> str:
            results.append(await ctx.step("s", attempt, number))
            return results[-1]

        return bluestreak

    first, second = await engine(0), await engine(1)
    await first.start("w", "h")
    async with fleet.polling(first):
        await inside[0].wait()
        store.failing["renew"] = ValueError("renewing is not what is tested")
        claim = (
            await store.claim(
                ClaimRequest(
                    worker="thief", now=clock.now() + timedelta(days=1), lease=timedelta(0), limit=1
                )
            )
        )[0]
        await store.release(claim, clock.now())
        del store.failing["renew"]
        async with fleet.polling(second):
            await inside[1].wait()
            go_on.set()
            result = await second.wait("w")
    assert set(results) == {result}


async def test_a_step_id_is_used_once_in_a_run(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=0)
    calls: list[int] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", calls.append, 1)
        with pytest.raises(DuplicateStep, match="workflow 'w': step 's' was already used"):
            await ctx.step("s", calls.append, 2)
        await ctx.step("s", calls.append, 3)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="DuplicateStep"):
            await bluestreak.wait("w")
    assert calls == [1]


async def test_a_failed_step_is_not_recorded(fleet: Fleet, store: RecordingStore) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    def fail() -> None:
        raise LookupError("no such card")

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", fail)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="LookupError: no such card") as aborted:
            await bluestreak.wait("w")
    assert "in fail" in aborted.value.error_traceback
    assert await bluestreak.find_step("w", "s") is None


@pytest.mark.parametrize(
    "value", [{1, 2}, "x" * 17_000_000, {"a": [2**70]}], ids=lambda v: type(v).__name__
)
async def test_an_output_that_cannot_be_stored_aborts_at_once(fleet: Fleet, value: Any) -> None:
    bluestreak = await fleet.engine(max_failures=None)
    calls: list[int] = []

    def effect() -> Any:
        calls.append(1)
        return value

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", effect)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="output of step 's' of workflow 'w'"):
            await bluestreak.wait("w")
    assert calls == [1]


async def test_an_unstorable_output_aborts_even_if_the_handler_catches_it(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    later: list[str] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        for step_id in "ab":
            try:
                await ctx.step(step_id, lambda: {1})
            except TypeError as error:
                later.append(str(error))
        return "fine"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="output of step 'a'"):
            await bluestreak.wait("w")
    assert len(set(later)) == 1


async def test_an_unstorable_output_aborts_even_if_a_sibling_naps(
    fleet: Fleet, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine(park_after=0)
    calls: list[int] = []

    def effect() -> Any:
        calls.append(1)
        return {1}

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await asyncio.gather(ctx.step("s", effect), ctx.sleep("nap", 3600), return_exceptions=True)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="output of step 's'"):
            await bluestreak.wait("w")
    assert calls == [1]
    assert store.begun["park"] == 0


async def test_a_handler_that_goes_on_after_a_refusal_does_not_stop_the_event_loop(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.engine()
    tries: list[int] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> set[int]:
        while True:
            tries.append(1)
            try:
                return await ctx.step(f"try {len(tries)}", lambda: {1})
            except Exception:  # noqa: BLE001, S110 - what is tested
                pass

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="output of step 'try 1'"):
            await bluestreak.wait("w")


async def test_a_sync_step_that_exits_has_failed(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", sys.exit, 1)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="step 's' raised SystemExit: 1"):
            await bluestreak.wait("w")


@pytest.mark.parametrize("result", [object(), b"x" * 17_000_000], ids=["type", "size"])
async def test_a_result_that_cannot_be_stored_aborts_at_once(fleet: Fleet, result: Any) -> None:
    bluestreak = await fleet.engine()
    calls: list[int] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> Any:
        calls.append(1)
        return result

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="result of workflow 'w'"):
            await bluestreak.wait("w")
    assert calls == [1]


async def test_steps_of_a_gather_run_side_by_side(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    together = threading.Barrier(2, timeout=30)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> list[int]:
        return list(
            await asyncio.gather(ctx.step("a", together.wait), ctx.step("b", together.wait))
        )

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert sorted(await bluestreak.wait("w")) == [0, 1]


async def test_a_resumed_run_reads_its_history_at_once(fleet: Fleet, store: RecordingStore) -> None:
    bluestreak = await fleet.engine(wait_retry_interval=0)
    runs: list[int] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> int:
        total = sum([await ctx.step(f"s{n}", abs, n) for n in range(20)])
        runs.append(total)
        if len(runs) == 1:
            raise ValueError
        return total

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == 190
    assert store.begun["history"] == 1  # the first run has none
    assert store.begun["save_step"] == 20
    assert store.begun["find_step"] == 0


async def test_a_branch_left_behind_by_its_handler_is_cancelled(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    begun, left_behind = asyncio.Event(), []

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        left_behind.append(asyncio.create_task(ctx.step("s", endless)))
        await begun.wait()
        return "done"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "done"
    assert left_behind[0].cancelled()
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.status is Status.FINISHED


async def test_a_task_left_behind_by_its_handler_records_nothing(
    fleet: Fleet, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine()
    go_on, left_behind = asyncio.Event(), []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        async def later() -> None:
            await go_on.wait()
            await ctx.step("s", int)

        left_behind.append(asyncio.create_task(later()))
        return "done"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "done"
        go_on.set()
        await asyncio.wait(left_behind)
    assert left_behind[0].cancelled()
    assert store.begun["save_step"] == 0

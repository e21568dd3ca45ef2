"""The crash sweep passes what is safe, and explains what is not."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from bluestreak_core import Context, Status
from bluestreak_core.testing import CrashPoint, CrashUnsafe, Outcome, Stuck, crash_everywhere
from bluestreak_core.testing.sweep import _Rerun  # a dead engine's faults cannot be had otherwise


async def order(ctx: Context, input: list[str]) -> list[Any]:
    token = await ctx.step("token", lambda: uuid4().hex)
    await ctx.sleep("month", timedelta(days=30))
    parcels = await asyncio.gather(
        *(ctx.step(f"send {item}", asyncio.sleep, len(item), item) for item in input)
    )
    await ctx.sleep("moment", 2)
    return [token, parcels]


def test_a_safe_workflow_is_crashed_before_and_after_each_store_call() -> None:
    sweep = crash_everywhere(order, ["a", "bcd"])
    assert sweep.outcome.result[1] == ["a", "bcd"]
    named = [str(point) for point in sweep.crashes]
    assert "just before store call 3, save_step 'token'" in named
    assert "just after store call 3, save_step 'token'" in named
    assert {point.call.split(" ")[0] for point in sweep.crashes} >= {
        *("claim", "history", "renew", "save_step", "save_nap", "park", "finish")
    }
    assert len(sweep.crashes) == 2 * max(point.number for point in sweep.crashes)


def test_chance_outside_of_a_step_is_explained() -> None:
    async def lottery(ctx: Context, input: None) -> float:
        drawn = random.random()
        await ctx.step("note", float, drawn)
        return drawn

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(lottery)
    account = str(raised.value)
    assert "run again, without a crash:\n  result: 0." in account
    assert "with a crash just after store call 1, claim:\n  result: 0." in account
    assert "arguments of step 'note'" in account
    assert "It belongs into a step." in account


def test_a_variable_that_outlives_a_run_is_found() -> None:
    runs = itertools.count()

    async def every_other(ctx: Context, input: None) -> None:
        if next(runs) % 2 == 0:
            await ctx.step("even", str)
        await ctx.step("always", str)

    with pytest.raises(CrashUnsafe, match=r"recorded steps: \{'always': ''\}, at first"):
        crash_everywhere(every_other)


def test_what_a_step_talks_to_is_reset_before_each_run() -> None:
    charged: list[str] = []

    async def shop(ctx: Context, input: None) -> int:
        await ctx.step("charge", charged.append, "ada")
        return await ctx.step("count", lambda: len(charged))

    resets: list[int] = []

    def reset() -> None:
        resets.append(len(charged))
        charged.clear()

    sweep = crash_everywhere(shop, before_each=reset)
    assert len(resets) == len(sweep.crashes) + 2
    assert max(resets) == 2  # charged twice where a crash has come between the call and its record


def test_failures_and_retries_are_swept_too() -> None:
    async def declined(ctx: Context, input: None) -> None:
        await ctx.step("charge", _decline)

    sweep = crash_everywhere(declined, max_failures=1)
    assert sweep.outcome.status is Status.ABORTED
    assert sweep.outcome.calls == ["charge", "charge"]


def _decline() -> None:
    raise PermissionError("declined")


def test_arguments_that_are_no_plain_values_are_not_compared() -> None:
    async def handler(ctx: Context, input: None) -> None:
        await ctx.step("use", id, object())

    crash_everywhere(handler)


def test_a_workflow_that_does_not_end_is_reported() -> None:
    async def stuck(ctx: Context, input: None) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        crash_everywhere(stuck, turns=1000)


def test_a_workflow_that_is_stuck_only_after_a_crash_is_unsafe() -> None:
    async def depends(ctx: Context, input: None) -> None:
        held.append(1)
        await ctx.step("s", str)
        if len(held) > 1:
            await asyncio.Event().wait()

    held: list[int] = []
    with pytest.raises(CrashUnsafe, match="has not happened"):
        crash_everywhere(depends, before_each=held.clear)


def test_too_many_crashes_are_counted_rather_than_listed() -> None:
    async def lottery(ctx: Context, input: None) -> float:
        return random.random()

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(lottery)
    assert str(raised.value).startswith("6 of 6 crashes changed what came of it\n")
    assert "\nand 4 more\n" in str(raised.value)
    assert len(raised.value.differences) == 7


@pytest.fixture
def reference() -> Outcome:
    return crash_everywhere(order, ["a"]).outcome


def test_a_step_that_is_called_though_it_is_recorded_is_a_difference(reference: Outcome) -> None:
    first, rerun = _Rerun(None, {}, {}), _Rerun(None, {}, {})
    first.note_call("s", ())
    rerun.note_call("s", ())
    rerun.recorded.add("s")
    rerun.note_crash()
    assert list(rerun.differences(reference, first, reference)) == []
    rerun.note_call("s", ())
    assert list(rerun.differences(reference, first, reference)) == [
        "step 's' was called again though it was recorded",
        "step 's' was called 2 times, at most 1 are due",
    ]


def test_a_step_may_be_called_once_more_if_it_was_interrupted(reference: Outcome) -> None:
    first, rerun = _Rerun(None, {}, {}), _Rerun(None, {}, {})
    first.note_call("s", ())
    rerun.note_call("s", ())
    rerun.note_crash()
    rerun.note_call("s", ())
    assert list(rerun.differences(reference, first, reference)) == []
    rerun.note_call("s", ())
    assert list(rerun.differences(reference, first, reference)) == [
        "step 's' was called 3 times, at most 2 are due"
    ]


def test_a_run_that_never_got_to_its_crash_is_a_difference(reference: Outcome) -> None:
    point = CrashPoint(number=1, call="claim", after=False)
    first, rerun = _Rerun(None, {}, {}), _Rerun(point, {}, {})
    first.store_calls.append("claim")
    assert list(rerun.differences(reference, first, reference)) == [
        "the run had only 0 store calls, the first one 1"
    ]

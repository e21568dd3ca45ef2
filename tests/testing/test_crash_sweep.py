"""The crash sweep passes what is safe, and explains what is not."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from typing_extensions import override

from bluestreak_core import (
    Claim,
    Context,
    History,
    InvalidArgument,
    InvalidDuration,
    Retry,
    Status,
    StepFailed,
)
from bluestreak_core.testing import CrashUnsafe, Stuck, crash_everywhere
from bluestreak_memory import MemoryStore
from tests.run_watch import RunWatch, current_run


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
        drawn = random.uniform(0.1, 0.9)  # less might be written with an exponent
        await ctx.step("note", float, drawn)
        return drawn

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(lottery)
    account = str(raised.value)
    assert "run again, without a crash:\n  result: 0." in account
    assert "with a crash just after store call 1, claim:\n  result: 0." in account
    assert "arguments of step 'note'" in account
    assert "Move it into a step." in account


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


class Forgetful(MemoryStore):
    """Hands out histories without what is forgotten, as a store with a fault might."""

    forgotten: tuple[str, ...] = ("steps", "attempts")

    @override
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        histories = await super().history(claims)
        without: dict[str, Any] = {name: {} for name in self.forgotten}
        return {
            workflow_id: replace(history, **without) for workflow_id, history in histories.items()
        }


def test_a_step_that_is_called_though_it_is_recorded_is_a_difference() -> None:
    async def handler(ctx: Context, input: None) -> None:
        await ctx.step("s", str)
        await ctx.step("t", str)

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(handler, store=lambda clock: Forgetful(clock=clock))
    found = {str(point): account for point, account in raised.value.differences.items()}
    assert found["just after store call 3, save_step 's'"] == [
        "step 's' was called again although it was recorded",
        "step 's' was called 2 times, at most 1 are due",
    ]
    assert "just before store call 3, save_step 's'" not in found  # then it was interrupted
    assert "just after store call 1, claim" not in found


def test_a_step_that_is_called_too_often_is_a_difference() -> None:
    async def handler(ctx: Context, input: None) -> None:
        with suppress(StepFailed):
            await ctx.step("s", _decline, retry=Retry(max_attempts=2, initial=1))

    def forgetful(clock: Any) -> Forgetful:
        store = Forgetful(clock=clock)
        store.forgotten = ("attempts",)
        return store

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(handler, store=forgetful)
    found = {str(point): account for point, account in raised.value.differences.items()}
    called = "step 's' was called 3 times, at most 2 are due"
    assert found["just after store call 3, save_attempt"] == [called]
    assert "just before store call 3, save_attempt" not in found


def test_a_step_that_fails_more_often_because_of_a_crash_is_a_difference() -> None:
    calls: list[None] = []

    async def handler(ctx: Context, input: None) -> None:
        workers = {entry.worker for entry in current_run().claim.workflow.claim_log}
        await ctx.step("s", fails, len(workers))

    def fails(times: int) -> None:
        calls.append(None)
        if len(calls) <= times:
            raise ConnectionError

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(handler, before_each=calls.clear, hooks=[RunWatch()])
    found = {str(point): account for point, account in raised.value.differences.items()}
    called = "step 's' was called 3 times, at most 2 are due"
    assert called in found["just after store call 3, fail"]
    assert called not in found["just before store call 3, fail"]  # then it was interrupted


def test_a_run_that_never_gets_to_its_crash_is_a_difference() -> None:
    runs = itertools.count()

    async def handler(ctx: Context, input: None) -> None:
        if next(runs) == 0:
            await ctx.step("s", str)

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(handler)
    accounts = [account for point, account in raised.value.differences.items() if point is not None]
    assert accounts[-1][0] == "the run had only 3 store calls, the first one 4"


def test_a_step_that_is_given_up_only_after_a_crash_is_a_difference() -> None:
    calls: list[None] = []

    async def handler(ctx: Context, input: None) -> None:
        with suppress(StepFailed):
            await ctx.step("s", once, retry=Retry(max_attempts=1))

    def once() -> None:
        calls.append(None)
        if len(calls) > 1:
            raise ConnectionError

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(handler, before_each=calls.clear)
    given_up = "given-up steps: {'s': '1 x ConnectionError'}, at first {}"
    (found,) = {tuple(account) for account in raised.value.differences.values()}
    assert found == ("recorded steps: {}, at first {'s': None}", given_up)


def test_settings_of_the_handler_are_a_policy() -> None:
    async def declined(ctx: Context, input: None) -> None:
        await ctx.step("charge", _decline)

    sweep = crash_everywhere(declined, policy={"max_failures": 2}, max_failures=0)
    assert sweep.outcome.calls == ["charge"] * 3
    with pytest.raises(InvalidArgument, match=r"policy .*: expected a dict of max_failures, "):
        crash_everywhere(declined, policy={"max_failure": 2})  # type: ignore[arg-type]
    with pytest.raises(InvalidDuration, match="deadline"):
        crash_everywhere(declined, policy={"deadline": -1})

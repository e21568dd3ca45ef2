"""Hooks see runs, steps and attempts begin and end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    CallKind,
    Context,
    Retry,
    RunHook,
    RunInfo,
    Status,
    UserCall,
    Wait,
)
from bluestreak_core.testing import Environment
from tests.conformance.arrange import Flaky, on_memory

pytestmark = on_memory

ONCE = Retry(max_attempts=1)


class Notes(RunHook):
    """Notes what begins, and how it ends, in a list that several hooks may share."""

    def __init__(self, name: str = "hook", notes: list[str] | None = None) -> None:
        self.notes: list[str] = [] if notes is None else notes
        self._name = name

    @override
    async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
        what = call.step_id or f"{call.kind.value} of run {call.run.claim.number}"
        self.notes.append(f"{self._name}: {what} begins")
        try:
            output = await proceed()
        except BaseException as error:
            self.notes.append(f"{self._name}: {what} ends with {type(error).__name__}")
            raise
        self.notes.append(f"{self._name}: {what} ends")
        return output


async def greet(ctx: Context, name: str) -> str:
    return await ctx.step("greet", "Good day, {}.".format, name)


def fail() -> None:
    raise ValueError("broken for good")


Make = Callable[..., Environment]


def test_a_hook_sees_a_run_begin_and_end(environment: Make) -> None:
    hook = Notes()
    assert environment(hooks=[hook]).run(greet, "Ada").result == "Good day, Ada."
    assert hook.notes[0] == "hook: handler of run 1 begins"
    assert hook.notes[-1] == "hook: handler of run 1 ends"


def test_a_hook_sees_a_step_begin_and_end_once_by_its_id(environment: Make) -> None:
    async def handle(ctx: Context, name: str) -> str:
        greeting = await greet(ctx, name)
        await ctx.sleep("nap", 1)
        return greeting

    hook = Notes()
    outcome = environment(hooks=[hook]).run(handle, "Ada")
    assert outcome.workflow.claims == 2
    ours = [note for note in hook.notes if "handler" not in note]
    assert ours == ["hook: greet begins", "hook: greet ends"]


def test_a_hook_sees_each_attempt_of_a_step_with_its_outcome(environment: Make) -> None:
    pay = Flaky(1, "paid")

    async def handle(ctx: Context, input: None) -> object:
        return await ctx.step("pay", pay, retry=Retry(max_attempts=2, initial=1))

    hook = Notes()
    assert environment(hooks=[hook]).run(handle).result == "paid"
    assert [note for note in hook.notes if "handler" not in note] == [
        "hook: pay begins",
        "hook: pay ends with ConnectionError",
        "hook: pay begins",
        "hook: pay ends",
    ]


def test_all_hooks_see_everything_the_first_one_outermost(environment: Make) -> None:
    outer = Notes("outer")
    inner = Notes("inner", outer.notes)
    assert environment(hooks=[outer, inner]).run(greet, "Ada").result == "Good day, Ada."
    assert outer.notes == [
        *("outer: handler of run 1 begins", "inner: handler of run 1 begins"),
        *("outer: greet begins", "inner: greet begins"),
        *("inner: greet ends", "outer: greet ends"),
        *("inner: handler of run 1 ends", "outer: handler of run 1 ends"),
    ]


def test_a_hook_can_tell_the_first_run_from_a_replay(environment: Make) -> None:
    class First(RunHook):
        def __init__(self) -> None:
            self.is_first: list[bool] = []

        @override
        async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
            if call.kind is CallKind.HANDLER:
                self.is_first.append(not call.run.history.naps)
            return await proceed()

    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("nap", 2)

    hook = First()
    assert environment(hooks=[hook]).run(handle).status is Status.FINISHED
    assert hook.is_first == [True, False]


def test_a_hook_sees_the_error_that_ends_a_run(environment: Make) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("pay", fail, retry=ONCE)

    hook = Notes()
    assert environment(hooks=[hook]).run(handle).status is Status.ABORTED
    assert [note for note in hook.notes if "handler" in note] == [
        "hook: handler of run 1 begins",
        "hook: handler of run 1 ends with StepFailed",
    ]


def test_a_hook_sees_the_number_of_each_attempt(environment: Make) -> None:
    class Attempts(RunHook):
        def __init__(self) -> None:
            self.seen: list[tuple[str, int | None]] = []

        @override
        async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
            if call.kind is not CallKind.ERROR_CALLBACK:
                self.seen.append((call.step_id or call.kind.value, call.attempt))
            return await proceed()

    pay, book = Flaky(1, "paid"), Flaky(1, "booked")

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("book", book)
        await ctx.step("pay", pay, retry=Retry(max_attempts=2, initial=1))

    hook = Attempts()
    assert environment(hooks=[hook], max_failures=1).run(handle).status is Status.FINISHED
    assert hook.seen == [
        *(("handler", 1), ("book", None)),
        *(("handler", 2), ("book", None), ("pay", 1)),
        *(("handler", 2), ("pay", 2)),  # the pause has ended the run before
    ]


class Waits(RunHook):
    """Notes what runs wait for, and how the waits end."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @override
    def waiting(self, run: RunInfo, wait: Wait) -> AbstractContextManager[object]:
        return self._noted(f"{wait.kind.value} {wait.id}")

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        self.notes.append(f"{what} begins")
        try:
            yield
        except BaseException as error:
            self.notes.append(f"{what} ends with {type(error).__name__}")
            raise
        self.notes.append(f"{what} ends")


def test_a_hook_sees_what_a_run_waits_for_and_not_what_is_replayed(environment: Make) -> None:
    pay = Flaky(1, "paid")

    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("short", 1)
        await ctx.step("pay", pay, retry=Retry(max_attempts=2, initial=1))
        await ctx.receive("answer", "message", timeout=2)
        await ctx.child("child", greet, "Ada")
        await ctx.sleep("long", 3600)

    hook = Waits()
    env = environment(hooks=[hook])
    env.register_handler("greet", greet)
    env.register_handler("handle", handle)
    env.start("w", "handle")
    env.call(env.bluestreak.send("w", "message", 1))
    env.wait("w")
    assert hook.notes == [
        *("nap short begins", "nap short ends with CancelledError"),
        *("retry pay begins", "retry pay ends with CancelledError"),
        *("receive answer begins", "receive answer ends"),
        *("child child begins", "child child ends with CancelledError"),
        *("child child begins", "child child ends"),  # the run that continues waits again
        *("nap long begins", "nap long ends with CancelledError"),
    ]


class Raising(RunHook):
    """Raises an error where it is asked to."""

    def __init__(self, where: str) -> None:
        self._where = where

    @override
    def waiting(self, run: RunInfo, wait: Wait) -> AbstractContextManager[object]:
        self._raise_at("call")
        return self._raising()

    @contextmanager
    def _raising(self) -> Iterator[None]:
        self._raise_at("enter")
        try:
            yield
        finally:
            self._raise_at("exit")

    def _raise_at(self, where: str) -> None:
        if where == self._where:
            raise OSError("the hook is broken")


@pytest.mark.parametrize("where", ["call", "enter", "exit"])
def test_a_hook_that_raises_around_a_wait_is_logged_and_changes_nothing(
    environment: Make, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("short", 1)
        await ctx.sleep("long", timedelta(hours=1))

    sane = Waits()
    with caplog.at_level(logging.ERROR, "bluestreak_core.run.hook"):
        outcome = environment(hooks=[sane, Raising(where)]).run(handle)
    assert (outcome.status, outcome.workflow.claims) == (Status.FINISHED, 3)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        f"a hook raised {'after' if where == 'exit' else 'before'} nap {nap!r}, and the run goes on"
        for nap in ("short", "long")
    ]
    assert sane.notes[-1] == "nap long ends with CancelledError"

"""Time that jumps, and processes that are killed and halted in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core.testing import Process, VirtualClock, VirtualLoop
from bluestreak_core.testing.clock import START
from bluestreak_core.testing.virtual.time import NothingLeftToHappen, TooManyTurns

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


@pytest.fixture
def run(loop: VirtualLoop) -> Run:
    return loop.run_until_complete


def test_what_waits_longest_happens_last_and_takes_no_turns(loop: VirtualLoop, run: Run) -> None:
    happened: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        happened.append((name, loop.time()))

    async def all_of_them() -> None:
        await asyncio.gather(wait("year", 366 * 86400), wait("day", 86400), wait("ms", 0.001))

    run(all_of_them())
    assert happened == [("ms", 0.001), ("day", 86400), ("year", 366 * 86400)]
    assert loop.turns < 1000


def test_a_timeout_is_in_virtual_time(loop: VirtualLoop, run: Run) -> None:
    async def too_long() -> None:
        async with asyncio.timeout(3600):
            await asyncio.sleep(7200)

    with pytest.raises(TimeoutError):
        run(too_long())
    assert loop.time() == 3600


def test_the_clock_shows_virtual_time(loop: VirtualLoop, run: Run) -> None:
    clock, wrong = VirtualClock(loop), VirtualClock(loop, ahead=timedelta(minutes=1))
    run(clock.sleep(timedelta(days=30)))
    assert clock.now() == START + timedelta(days=30)
    assert wrong.now() - clock.now() == timedelta(minutes=1)
    assert clock.monotonic() == 30 * 86400


def test_time_stands_still_while_a_thread_is_at_work(loop: VirtualLoop, run: Run) -> None:
    async def work() -> str:
        sleeper = asyncio.create_task(asyncio.sleep(3600))
        result = await asyncio.to_thread(_count, 300_000)
        assert not sleeper.done()
        assert loop.time() == 0
        await sleeper
        return result

    assert run(work()) == "counted"


def _count(number: int) -> str:
    for _ in range(number):
        pass
    return "counted"


def test_threads_hand_on_their_results_before_anything_else_goes_on(run: Run) -> None:
    async def work() -> list[str]:
        order: list[str] = []

        async def call(name: str) -> None:
            order.append(await asyncio.to_thread(lambda: name))

        async def spin() -> None:
            for _ in range(50):
                await asyncio.sleep(0)
            order.append("spun")

        await asyncio.gather(spin(), call("a"))
        return order

    assert run(work()) == ["a", "spun"]


def test_a_thread_may_ask_the_loop_for_something(
    loop: VirtualLoop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestreak_core.testing.virtual.time.PATIENCE", 0.01)

    def ask() -> float:
        sleep = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, 17.0), loop)
        return sleep.result(timeout=30)

    assert run(asyncio.to_thread(ask)) == 17.0


def test_a_thread_that_does_not_return_holds_time_up_for_a_while_only(
    loop: VirtualLoop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestreak_core.testing.virtual.time.PATIENCE", 0.01)
    go_on = threading.Event()

    async def work() -> None:
        stuck = asyncio.create_task(asyncio.to_thread(go_on.wait))
        await asyncio.sleep(3600)
        go_on.set()
        await stuck

    run(work())
    assert loop.time() == 3600


def test_waiting_for_nothing_is_an_error(loop: VirtualLoop, run: Run) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    task = loop.create_task(forever())
    with pytest.raises(NothingLeftToHappen):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_what_is_due_after_the_end_of_time_never_happens() -> None:
    loop = VirtualLoop(end=100)
    try:
        loop.run_until_complete(asyncio.sleep(100))
        with pytest.raises(NothingLeftToHappen):
            loop.run_until_complete(asyncio.sleep(1))
        assert loop.time() == 100
        loop.run_until(200)
        assert loop.time() == 200
        loop.run_until_complete(_timed_out())
    finally:
        loop.close()


async def _timed_out() -> None:
    """A timer that will not fire may be cancelled all the same."""
    async with asyncio.timeout(5):
        await asyncio.sleep(0)


def test_time_does_not_stand_still_after_centuries() -> None:
    """A microsecond is lost in the float by then."""
    loop = VirtualLoop()
    try:
        loop.run_until(2.0**34)
        loop.allow(1000)
        for span in (1e-6, 0.0012345, 1 / 3):
            loop.run_until_complete(asyncio.sleep(span))
    finally:
        loop.close()


def test_turning_without_end_is_an_error(loop: VirtualLoop) -> None:
    async def forever() -> None:
        while True:  # noqa: ASYNC110 - the fault that is looked for
            await asyncio.sleep(1)

    loop.allow(100)
    task = loop.create_task(forever())
    with pytest.raises(TooManyTurns):
        loop.run_until_complete(task)
    loop.allow(None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_a_horizon_lets_happen_what_is_due_and_no_more(loop: VirtualLoop) -> None:
    happened: list[int] = []
    for second in range(1, 6):
        loop.call_later(second, happened.append, second)
    loop.run_until(3)
    assert (happened, loop.time()) == ([1, 2, 3], 3)
    loop.run_until(9)
    assert (happened, loop.time()) == ([1, 2, 3, 4, 5], 9)


class Log:
    """A process that writes down each second."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.lines: list[str] = []
        self.process = Process("p", loop)
        self.task = self.process.spawn(self._write())

    async def _write(self) -> None:
        try:
            for second in range(1, 10):
                await asyncio.sleep(1)
                self.lines.append(str(second))
        finally:
            self.lines.append("finally")


def test_a_killed_process_runs_no_line_more(loop: VirtualLoop) -> None:
    log = Log(loop)
    loop.run_until(3)
    log.process.kill()
    loop.run_until(20)
    assert log.lines == ["1", "2", "3"]
    loop.run_until_complete(log.process.bury())
    assert log.lines == ["1", "2", "3", "finally"]
    assert log.task.cancelled()


def test_a_process_that_kills_itself_ends_at_its_next_await(loop: VirtualLoop) -> None:
    lines: list[str] = []
    process = Process("p", loop)

    async def work() -> None:
        process.kill()
        lines.append("last")
        await asyncio.sleep(0)
        lines.append("never")

    process.spawn(work())
    loop.run_until(1)
    assert lines == ["last"]
    loop.run_until_complete(process.bury())
    assert lines == ["last"]


def test_a_halted_process_goes_on_late_and_in_order(loop: VirtualLoop) -> None:
    log = Log(loop)
    loop.run_until(2)
    log.process.halt()
    loop.run_until(6)
    assert log.lines == ["1", "2"]
    log.process.resume()
    loop.run_until(6)
    assert log.lines == ["1", "2", "3"]
    loop.run_until(20)
    assert log.lines[-1] == "finally"


def test_what_was_cancelled_while_it_was_held_does_not_happen(loop: VirtualLoop) -> None:
    happened: list[str] = []
    process = Process("p", loop)

    async def work() -> None:
        for name in ("a", "b"):
            handles[name] = loop.call_later(1, happened.append, name)

    handles: dict[str, asyncio.TimerHandle] = {}
    loop.run_until_complete(process.spawn(work()))
    process.halt()
    loop.run_until(2)
    handles["a"].cancel()
    process.resume()
    loop.run_until(3)
    assert happened == ["b"]


def test_a_task_that_will_not_be_cancelled_is_left_at_last(loop: VirtualLoop) -> None:
    process = Process("p", loop)
    is_over = False

    async def stubborn() -> None:
        while not is_over:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1)

    task = process.spawn(stubborn())
    loop.run_until(1)
    loop.run_until_complete(process.bury())
    assert process.tasks == [task]
    is_over = True
    loop.run_until_complete(process.bury())
    assert process.tasks == []

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from bluestreak_core.clock import SystemClock, elapsed, in_milliseconds, sleep_by
from bluestreak_core.concurrency import WakeUp, first_of
from bluestreak_core.store import Hints
from bluestreak_core.store.hints import REMEMBERED_ENDS
from bluestreak_core.testing import ManualClock, VirtualLoop

SECOND = timedelta(seconds=1)


def test_an_instant_is_cut_to_milliseconds_in_utc() -> None:
    instant = datetime(2030, 1, 1, 2, 0, 0, 123_999, timezone(timedelta(hours=2)))
    assert in_milliseconds(instant) == datetime(2030, 1, 1, 0, 0, 0, 123_000, UTC)


def test_a_naive_instant_is_read_as_utc() -> None:
    naive = datetime(2030, 1, 1)  # noqa: DTZ001 - what is tested
    assert in_milliseconds(naive) == datetime(2030, 1, 1, tzinfo=UTC)


def test_the_system_clock_gives_aware_milliseconds() -> None:
    now = SystemClock().now()
    assert now == in_milliseconds(now)
    assert now.tzinfo is UTC


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other clocks")
def test_leases_are_measured_by_a_clock_that_counts_suspends() -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    by_functions = elapsed(), SystemClock().monotonic()
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= min(by_functions) <= max(by_functions) <= after


def test_a_sleep_ends_soon_after_the_machine_was_suspended_for_longer() -> None:
    loop = VirtualLoop()

    async def sleep() -> float:
        suspended = 0.0

        def suspend() -> None:
            nonlocal suspended
            suspended = 7200.0

        loop.call_later(5, suspend)
        began_at = loop.time()
        await sleep_by(lambda: loop.time() + suspended, timedelta(hours=1))
        return loop.time() - began_at

    assert loop.run_until_complete(sleep()) == 10
    loop.close()


def test_a_sleep_lasts_its_span_though_a_clock_stands_still() -> None:
    loop = VirtualLoop()
    began_at = loop.time()
    loop.run_until_complete(sleep_by(lambda: 0.0, timedelta(seconds=25)))
    assert loop.time() - began_at == 25
    loop.close()


@pytest.mark.asyncio
async def test_a_past_sleep_returns_at_once() -> None:
    for clock in (SystemClock(), ManualClock()):
        await clock.sleep(-SECOND)


@pytest.mark.asyncio
async def test_a_manual_clock_wakes_who_is_due_and_nobody_else() -> None:
    clock = ManualClock()
    soon = asyncio.create_task(clock.sleep(SECOND))
    late = asyncio.create_task(clock.sleep(2 * SECOND))
    await clock.until_sleeping(SECOND)
    clock.advance(SECOND)
    await soon
    assert not late.done()
    clock.advance(SECOND)
    await late
    assert clock.monotonic() == 2.0


@pytest.mark.asyncio
async def test_a_span_begins_with_the_call_even_if_a_task_awaits_it_later() -> None:
    clock = ManualClock()
    waiting = asyncio.create_task(clock.sleep(SECOND))
    clock.advance(SECOND)  # before the task has begun
    await waiting


@pytest.mark.asyncio
async def test_a_manual_clock_stands_still() -> None:
    clock = ManualClock()
    start = clock.now()
    await asyncio.sleep(0)
    assert clock.now() == start
    clock.advance(SECOND)
    assert clock.now() - start == SECOND


@pytest.mark.asyncio
async def test_the_first_wait_to_return_cancels_the_others() -> None:
    clock = ManualClock()
    waiting = asyncio.create_task(first_of(clock.sleep(SECOND), clock.sleep(2 * SECOND)))
    await clock.until_sleeping(2 * SECOND)
    clock.advance(SECOND)
    await waiting
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await clock.until_sleeping()


@pytest.mark.asyncio
async def test_a_wait_that_raises_is_heard() -> None:
    async def fail() -> None:
        raise ValueError("of the wait")

    with pytest.raises(ValueError, match="of the wait"):
        await first_of(fail(), WakeUp().wait())


@pytest.mark.asyncio
async def test_a_wake_up_that_was_missed_is_seen_by_its_count() -> None:
    wake_up = WakeUp()
    seen = wake_up.count
    assert not wake_up.wait(seen).done()
    wake_up.notify()
    assert wake_up.wait(seen).done()


@pytest.mark.asyncio
async def test_a_wake_up_is_for_everyone_who_waits() -> None:
    wake_up = WakeUp()
    waiters = [wake_up.wait() for _ in range(3)]
    assert not any(waiter.done() for waiter in waiters)
    wake_up.notify()
    assert all(waiter.done() for waiter in waiters)


@pytest.mark.asyncio
async def test_an_end_after_the_look_is_not_missed_by_a_wait_that_begins_later() -> None:
    clock = ManualClock()
    hints = Hints(clock)
    since = clock.now()
    clock.advance(SECOND)
    hints.ended("w")
    clock.advance(SECOND)
    assert await hints.wait_for_end("w", since, 60 * SECOND)
    assert await hints.wait_for_end("w", since + SECOND, 60 * SECOND)
    assert not await hints.wait_for_end("w", since + 2 * SECOND, 0 * SECOND)
    assert not await hints.wait_for_end("v", since, 0 * SECOND)


@pytest.mark.asyncio
async def test_an_end_that_is_no_longer_remembered_counts_as_heard_of() -> None:
    clock = ManualClock()
    hints = Hints(clock)
    since = clock.now()
    hints.ended("w")
    clock.advance(SECOND)
    for number in range(REMEMBERED_ENDS):
        hints.ended(str(number))
    assert await hints.wait_for_end("w", since, 0 * SECOND)
    assert not await hints.wait_for_end("w", since + SECOND, 0 * SECOND)


@pytest.mark.asyncio
async def test_a_gap_in_what_is_heard_counts_as_an_end() -> None:
    clock = ManualClock()
    hints = Hints(clock)
    since = clock.now()
    waiting = asyncio.create_task(hints.wait_for_end("w", since, 60 * SECOND))
    await clock.until_sleeping(60 * SECOND)
    clock.advance(SECOND)
    hints.missed_something()
    assert await waiting
    assert await hints.wait_for_end("w", since, 60 * SECOND)
    assert not await hints.wait_for_end("w", since + 2 * SECOND, 0 * SECOND)


@pytest.mark.asyncio
async def test_a_hint_wakes_everybody_though_one_of_them_looks_first() -> None:
    clock = ManualClock()
    hints = Hints(clock)
    woken: list[str] = []

    async def wait(name: str) -> None:
        await hints.wait_for_work(60 * SECOND)
        hints.looking(clock.now())
        woken.append(name)

    waiters = [asyncio.create_task(wait(name)) for name in "ab"]
    await clock.until_sleeping(60 * SECOND, count=2)
    hints.due(clock.now())
    await asyncio.gather(*waiters)
    later = [asyncio.create_task(wait(name)) for name in "cd"]
    await clock.until_sleeping(60 * SECOND, count=2)
    hints.due(clock.now() + 5 * SECOND)
    await clock.until_sleeping(5 * SECOND, count=2)
    clock.advance(5 * SECOND)
    await asyncio.gather(*later)
    assert sorted(woken) == ["a", "b", "c", "d"]

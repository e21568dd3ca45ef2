"""Idle processes that hear of the same work: few answer, the others look a moment later."""

from __future__ import annotations

import asyncio

import pytest

from bluestreak_core.store import Hints
from bluestreak_core.testing import ManualClock
from bluestreak_mongo.rivalry import ANSWERS, GRACE, HOLD_OFF, Rivalry

pytestmark = pytest.mark.asyncio

LONGEST = max(HOLD_OFF)


class Process:
    """A process with one worker, and how often it was sent to look."""

    def __init__(self, clock: ManualClock, worker: str = "worker") -> None:
        self.worker = worker
        self._hints = Hints(clock)
        self.rivalry = Rivalry(self._hints, clock)
        self.rivalry.knows(worker)

    @property
    def looks(self) -> int:
        return self._hints.arrivals

    def lose(self, times: int) -> None:
        """Hear that others have claimed so often that it no longer expects to be the quickest."""
        for number in range(times):
            self.rivalry.claimed(b"lost %d" % number, "another")

    def hold_off(self) -> bytes:
        """Let work arrive until it holds off from some; which that is."""
        for number in range(1000):
            before = self.looks
            self.rivalry.arrived(b"%d" % number)
            if self.looks == before:
                return b"%d" % number
        raise AssertionError("it answers everything")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_process_that_is_alone_answers_each_arrival(clock: ManualClock) -> None:
    alone = Process(clock)
    for number in range(1, 100):
        alone.rivalry.arrived(b"w")
        assert alone.looks == number
        alone.rivalry.claimed(b"w", alone.worker)


async def test_a_process_that_claims_again_what_it_has_parked_still_answers_each_arrival(
    clock: ManualClock,
) -> None:
    alone = Process(clock)
    for number in range(1, 100):
        alone.rivalry.arrived(b"w")
        assert alone.looks == number
        alone.rivalry.claimed(b"w", None)  # the worker stays the same, so no event names it
    await alone.rivalry.close()


async def test_an_arrival_is_answered_by_few_however_many_there_are(clock: ManualClock) -> None:
    arrivals = 200
    for count in (5, 20, 50):
        processes = [Process(clock, f"worker {number}") for number in range(count)]
        for process in processes:
            process.lose(100)
        answers = 0
        for number in range(arrivals):
            before = sum(process.looks for process in processes)
            for process in processes:
                process.rivalry.arrived(b"w")
            answers += sum(process.looks for process in processes) - before
            winner = f"worker {number % count}"
            for process in processes:
                process.rivalry.claimed(b"w", winner)
        for process in processes:
            await process.rivalry.close()
        assert answers < 2 * ANSWERS * arrivals, f"{count} processes"


async def test_work_that_is_claimed_while_a_process_holds_off_is_left_to_others(
    clock: ManualClock,
) -> None:
    process = Process(clock)
    process.lose(100)
    key = process.hold_off()
    looks = process.looks
    await clock.until_sleeping()
    clock.advance(LONGEST)
    await process.rivalry.until_read()
    process.rivalry.claimed(key, "another")
    await clock.until_sleeping(GRACE)
    clock.advance(GRACE)
    for _ in range(10):
        await asyncio.sleep(0)
    assert process.looks == looks
    await process.rivalry.close()


async def test_work_that_nobody_claims_is_looked_for_soon(clock: ManualClock) -> None:
    process = Process(clock)
    process.lose(100)
    process.hold_off()
    looks = process.looks
    await clock.until_sleeping()
    clock.advance(LONGEST)
    await process.rivalry.until_read()
    await clock.until_sleeping(GRACE)
    clock.advance(GRACE)
    while process.looks == looks:  # noqa: ASYNC110 - what it waits for has no event
        await asyncio.sleep(0)
    await process.rivalry.close()


async def test_a_burst_is_answered_by_those_who_let_a_single_start_pass(clock: ManualClock) -> None:
    process = Process(clock)
    process.lose(100)
    for number in range(2000):
        process.rivalry.arrived(b"%d" % number)
    assert process.looks > 0
    await process.rivalry.close()


async def test_who_waits_for_an_end_has_the_stream_read_on(clock: ManualClock) -> None:
    process = Process(clock)
    process.lose(100)
    process.hold_off()
    reading = asyncio.create_task(process.rivalry.until_read())
    await asyncio.sleep(0)
    assert not reading.done()
    process.rivalry.read_on()
    await reading
    await process.rivalry.close()

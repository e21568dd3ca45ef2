"""The store's time is the server's, whatever this machine's clock says."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from bluestreak_core import StoreUnavailable
from bluestreak_core.adapter import ServerClock, Timekeeper

YEARS_AWAY = datetime(2077, 7, 7, 7, 7, 7, 123_000, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Machine:
    """The clocks of a machine, in seconds; a test moves them."""

    def __init__(self) -> None:
        self.elapsed = 1000.0
        self.awake = 500.0
        self.time_of_day = 1_900_000_000.0

    def run(self, seconds: float) -> None:
        self.elapsed += seconds
        self.awake += seconds
        self.time_of_day += seconds

    def suspend(self, seconds: float) -> None:
        self.elapsed += seconds
        self.time_of_day += seconds

    def clock(self) -> ServerClock:
        return ServerClock(
            elapsed=lambda: self.elapsed,
            awake=lambda: self.awake,
            time_of_day=lambda: self.time_of_day,
        )


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_an_unmeasured_clock_tells_this_machines_time(machine: Machine) -> None:
    before = datetime.now(UTC)
    assert before - timedelta(milliseconds=1) < ServerClock().now() <= datetime.now(UTC)
    clock = machine.clock()
    assert clock.now() == datetime.fromtimestamp(machine.time_of_day, UTC)
    earlier = clock.now()
    machine.run(5)
    assert clock.now() - earlier == timedelta(seconds=5)


def test_a_measured_clock_tells_the_servers_time(machine: Machine) -> None:
    clock = machine.clock()
    clock.set(YEARS_AWAY, asked_at=1000.0, answered_at=1000.0)
    assert clock.now() == YEARS_AWAY
    machine.run(5)
    assert clock.now() == YEARS_AWAY + timedelta(seconds=5)


def test_the_answer_is_taken_to_be_half_a_round_trip_old(machine: Machine) -> None:
    clock = machine.clock()
    machine.run(3)
    clock.set(YEARS_AWAY, asked_at=1001.0, answered_at=1003.0)
    assert clock.now() == YEARS_AWAY + timedelta(seconds=1)


def test_a_later_answer_replaces_an_earlier_one(machine: Machine) -> None:
    clock = machine.clock()
    clock.set(YEARS_AWAY, asked_at=1000.0, answered_at=1000.0)
    machine.run(60)
    clock.set(YEARS_AWAY - timedelta(days=1), asked_at=1060.0, answered_at=1060.0)
    assert clock.now() == YEARS_AWAY - timedelta(days=1)


def test_a_time_without_a_zone_is_utc(machine: Machine) -> None:
    clock = machine.clock()
    clock.set(YEARS_AWAY.replace(tzinfo=None), asked_at=1000.0, answered_at=1000.0)
    assert clock.now() == YEARS_AWAY
    assert clock.now().tzinfo is UTC


def test_the_time_is_in_whole_milliseconds(machine: Machine) -> None:
    clock = machine.clock()
    clock.set(YEARS_AWAY, asked_at=1000.0, answered_at=1000.0)
    machine.run(0.000_9)
    assert clock.now() == YEARS_AWAY
    machine.run(0.000_2)
    assert clock.now() == YEARS_AWAY + timedelta(milliseconds=1)


def test_a_clock_is_stale_before_it_is_measured_and_after_a_minute(machine: Machine) -> None:
    clock = machine.clock()
    assert clock.is_stale
    clock.set(YEARS_AWAY, asked_at=1000.0, answered_at=1000.0)
    assert not clock.is_stale
    machine.run(MINUTE.total_seconds() - 0.001)
    assert not clock.is_stale
    machine.run(0.001)
    assert clock.is_stale
    clock.set(YEARS_AWAY, asked_at=machine.elapsed, answered_at=machine.elapsed)
    assert not clock.is_stale


def test_a_thread_never_sees_half_of_a_measurement(machine: Machine) -> None:
    clock = machine.clock()
    seen: set[datetime] = set()
    has_seen, enough = threading.Event(), threading.Event()

    def read() -> None:
        while not enough.is_set():
            seen.add(clock.now())
            has_seen.set()

    clock.set(YEARS_AWAY, asked_at=1000.0, answered_at=1000.0)
    reader = threading.Thread(target=read)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        reader.start()
        assert has_seen.wait(5)
        for number in range(100_000):
            hours = number % 2  # the same time of day, told by another anchor
            asked_at = 1000.0 + 3600 * hours
            clock.set(YEARS_AWAY + hours * 60 * MINUTE, asked_at, asked_at)
    finally:
        enough.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert seen == {YEARS_AWAY}


@pytest.fixture
def clock(machine: Machine) -> ServerClock:
    """One that has been measured."""
    clock = machine.clock()
    clock.set(YEARS_AWAY, asked_at=machine.elapsed, answered_at=machine.elapsed)
    return clock


def test_time_goes_on_while_the_machine_is_suspended(machine: Machine, clock: ServerClock) -> None:
    before = clock.monotonic()
    machine.suspend(3600)
    assert clock.now() == YEARS_AWAY + 60 * MINUTE
    assert clock.monotonic() - before == 3600


@pytest.mark.parametrize("seconds", [1, 3600])
def test_a_suspend_makes_a_clock_stale_at_once(
    machine: Machine, clock: ServerClock, seconds: float
) -> None:
    machine.suspend(seconds)
    assert clock.is_stale
    clock.set(YEARS_AWAY, machine.elapsed, machine.elapsed)
    assert not clock.is_stale


@pytest.mark.parametrize("seconds", [1, -1, 3600, -3600])
def test_a_time_of_day_that_is_set_costs_a_measurement_and_nothing_else(
    machine: Machine, clock: ServerClock, seconds: float
) -> None:
    now, monotonic = clock.now(), clock.monotonic()
    machine.time_of_day += seconds
    assert clock.is_stale
    assert (clock.now(), clock.monotonic()) == (now, monotonic)
    clock.set(YEARS_AWAY, machine.elapsed, machine.elapsed)
    assert not clock.is_stale
    assert (clock.now(), clock.monotonic()) == (now, monotonic)


def test_a_time_of_day_that_is_slewed_makes_no_clock_stale(
    machine: Machine, clock: ServerClock
) -> None:
    machine.time_of_day += 0.9
    assert not clock.is_stale


def test_leases_are_over_when_the_servers_time_has_gone_further_than_this_machines(
    machine: Machine, clock: ServerClock
) -> None:
    before = clock.monotonic()
    ahead = clock.set(YEARS_AWAY + 60 * MINUTE, machine.elapsed, machine.elapsed)
    assert ahead == 60 * MINUTE
    assert clock.monotonic() - before == 3600
    machine.run(1)
    assert clock.monotonic() - before == 3601


def test_a_monotonic_clock_never_goes_back_though_the_servers_time_does(
    machine: Machine, clock: ServerClock
) -> None:
    before = clock.monotonic()
    ahead = clock.set(YEARS_AWAY - MINUTE, machine.elapsed, machine.elapsed)
    assert ahead == -MINUTE
    assert clock.monotonic() == before


def test_a_slow_answer_that_may_be_in_time_puts_no_clock_forward(
    machine: Machine, clock: ServerClock
) -> None:
    asked_at, before = machine.elapsed, clock.monotonic()
    machine.run(4)
    clock.set(YEARS_AWAY + timedelta(seconds=4), asked_at, machine.elapsed)
    assert clock.monotonic() - before == 4


class Server:
    """Gives its time, each answer after a round trip of so many seconds."""

    def __init__(self, machine: Machine, *round_trips: float) -> None:
        self._machine = machine
        self._round_trips = list(round_trips)
        self.asked = 0
        self.is_down = False

    async def time(self) -> datetime:
        self.asked += 1
        round_trip = self._round_trips.pop(0) if self._round_trips else 0.0
        self._machine.run(round_trip / 2)
        if self.is_down:
            raise StoreUnavailable("no")
        server_time = YEARS_AWAY + timedelta(seconds=self._machine.elapsed)
        self._machine.run(round_trip / 2)
        await asyncio.sleep(0)
        return server_time


@pytest.mark.asyncio
async def test_the_quickest_of_five_answers_sets_the_clock(machine: Machine) -> None:
    clock, server = machine.clock(), Server(machine, 4.0, 2.0, 0.5, 1.0, 3.0, 0.0)
    await clock.measure(server.time)
    assert server.asked == 5
    assert clock.now() == YEARS_AWAY + timedelta(seconds=machine.elapsed)


@pytest.mark.asyncio
async def test_a_quick_answer_is_enough(machine: Machine) -> None:
    clock, server = machine.clock(), Server(machine, 4.0, 0.000_9, 1.0)
    await clock.measure(server.time)
    assert server.asked == 2


@pytest.mark.asyncio
async def test_a_measurement_that_fails_leaves_the_clock_as_it_is(
    machine: Machine, clock: ServerClock
) -> None:
    machine.suspend(3600)
    now, server = clock.now(), Server(machine)
    server.is_down = True
    with pytest.raises(StoreUnavailable):
        await clock.measure(server.time)
    assert (clock.now(), clock.is_stale) == (now, True)


@pytest.mark.asyncio
async def test_calls_that_refresh_at_once_share_a_measurement(machine: Machine) -> None:
    clock, server = machine.clock(), Server(machine)
    timekeeper = Timekeeper(clock, server.time)
    await asyncio.gather(timekeeper.refresh(), timekeeper.refresh())
    assert (server.asked, clock.is_stale) == (1, False)
    assert await timekeeper.refresh() == timedelta(0)
    assert server.asked == 1


@pytest.mark.asyncio
async def test_a_refresh_returns_how_far_the_server_was_ahead(machine: Machine) -> None:
    clock, server = machine.clock(), Server(machine)
    clock.set(YEARS_AWAY, machine.elapsed, machine.elapsed)
    machine.suspend(60)
    assert await Timekeeper(clock, server.time).refresh() == timedelta(seconds=1000)


@pytest.mark.asyncio
async def test_a_measurement_in_the_background_that_fails_is_made_again(machine: Machine) -> None:
    clock, server = machine.clock(), Server(machine)
    timekeeper = Timekeeper(clock, server.time)
    server.is_down = True
    timekeeper.refresh_soon()
    with pytest.raises(StoreUnavailable):
        await timekeeper.refresh()
    server.is_down = False
    timekeeper.refresh_soon()
    await timekeeper.refresh()
    assert not clock.is_stale
    await timekeeper.close()


@pytest.mark.asyncio
async def test_a_closed_timekeeper_leaves_no_task(machine: Machine) -> None:
    timekeeper = Timekeeper(machine.clock(), Server(machine).time)
    before = asyncio.all_tasks()
    timekeeper.refresh_soon()
    assert asyncio.all_tasks() != before
    await timekeeper.close()
    assert asyncio.all_tasks() == before

"""The store's time is the server's, whatever this machine's clock says."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bluestreak_core import StoreRefused
from bluestreak_mongo.inspection import check_server
from bluestreak_mongo.server_clock import ServerClock

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


def hello(local_time: datetime = YEARS_AWAY) -> dict[str, Any]:
    return {"localTime": local_time, "maxWireVersion": 17}


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
    clock.measure(hello(), asked_at=1000.0, answered_at=1000.0)
    assert clock.now() == YEARS_AWAY
    machine.run(5)
    assert clock.now() == YEARS_AWAY + timedelta(seconds=5)


def test_the_answer_is_taken_to_be_half_a_round_trip_old(machine: Machine) -> None:
    clock = machine.clock()
    machine.run(3)
    clock.measure(hello(), asked_at=1001.0, answered_at=1003.0)
    assert clock.now() == YEARS_AWAY + timedelta(seconds=1)


def test_a_later_answer_replaces_an_earlier_one(machine: Machine) -> None:
    clock = machine.clock()
    clock.measure(hello(), asked_at=1000.0, answered_at=1000.0)
    machine.run(60)
    clock.measure(hello(YEARS_AWAY - timedelta(days=1)), asked_at=1060.0, answered_at=1060.0)
    assert clock.now() == YEARS_AWAY - timedelta(days=1)


def test_a_time_without_a_zone_is_utc(machine: Machine) -> None:
    clock = machine.clock()
    clock.measure(hello(YEARS_AWAY.replace(tzinfo=None)), asked_at=1000.0, answered_at=1000.0)
    assert clock.now() == YEARS_AWAY
    assert clock.now().tzinfo is UTC


def test_the_time_is_in_whole_milliseconds(machine: Machine) -> None:
    clock = machine.clock()
    clock.measure(hello(), asked_at=1000.0, answered_at=1000.0)
    machine.run(0.000_9)
    assert clock.now() == YEARS_AWAY
    machine.run(0.000_2)
    assert clock.now() == YEARS_AWAY + timedelta(milliseconds=1)


def test_a_clock_is_stale_before_it_is_measured_and_after_a_minute(machine: Machine) -> None:
    clock = machine.clock()
    assert clock.is_stale
    clock.measure(hello(), asked_at=1000.0, answered_at=1000.0)
    assert not clock.is_stale
    machine.run(MINUTE.total_seconds() - 0.001)
    assert not clock.is_stale
    machine.run(0.001)
    assert clock.is_stale
    clock.measure(hello(), asked_at=machine.elapsed, answered_at=machine.elapsed)
    assert not clock.is_stale


def test_a_thread_never_sees_half_of_a_measurement(machine: Machine) -> None:
    clock = machine.clock()
    seen: set[datetime] = set()
    has_seen, enough = threading.Event(), threading.Event()

    def read() -> None:
        while not enough.is_set():
            seen.add(clock.now())
            has_seen.set()

    clock.measure(hello(), asked_at=1000.0, answered_at=1000.0)
    reader = threading.Thread(target=read)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        reader.start()
        assert has_seen.wait(5)
        for number in range(100_000):
            hours = number % 2  # the same time of day, told by another anchor
            asked_at = 1000.0 + 3600 * hours
            clock.measure(hello(YEARS_AWAY + hours * 60 * MINUTE), asked_at, asked_at)
    finally:
        enough.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert seen == {YEARS_AWAY}


@pytest.fixture
def clock(machine: Machine) -> ServerClock:
    """One that has been measured."""
    clock = machine.clock()
    clock.measure(hello(), asked_at=machine.elapsed, answered_at=machine.elapsed)
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
    clock.measure(hello(), machine.elapsed, machine.elapsed)
    assert not clock.is_stale


@pytest.mark.parametrize("seconds", [1, -1, 3600, -3600])
def test_a_time_of_day_that_is_set_costs_a_measurement_and_nothing_else(
    machine: Machine, clock: ServerClock, seconds: float
) -> None:
    now, monotonic = clock.now(), clock.monotonic()
    machine.time_of_day += seconds
    assert clock.is_stale
    assert (clock.now(), clock.monotonic()) == (now, monotonic)
    clock.measure(hello(), machine.elapsed, machine.elapsed)
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
    ahead = clock.measure(hello(YEARS_AWAY + 60 * MINUTE), machine.elapsed, machine.elapsed)
    assert ahead == 60 * MINUTE
    assert clock.monotonic() - before == 3600
    machine.run(1)
    assert clock.monotonic() - before == 3601


def test_a_monotonic_clock_never_goes_back_though_the_servers_time_does(
    machine: Machine, clock: ServerClock
) -> None:
    before = clock.monotonic()
    ahead = clock.measure(hello(YEARS_AWAY - MINUTE), machine.elapsed, machine.elapsed)
    assert ahead == -MINUTE
    assert clock.monotonic() == before


def test_a_slow_answer_that_may_be_in_time_puts_no_clock_forward(
    machine: Machine, clock: ServerClock
) -> None:
    asked_at, before = machine.elapsed, clock.monotonic()
    machine.run(4)
    clock.measure(hello(YEARS_AWAY + timedelta(seconds=4)), asked_at, machine.elapsed)
    assert clock.monotonic() - before == 4


@pytest.mark.parametrize("version", [17, 21])
def test_mongodb_6_and_newer_are_taken(version: int) -> None:
    check_server({"maxWireVersion": version}, {})


@pytest.mark.parametrize("version", [13, 16])
def test_an_older_mongodb_is_refused(version: int) -> None:
    with pytest.raises(StoreRefused, match=rf"wire version {version}, MongoDB 6\.0 .* speak 17"):
        check_server({"maxWireVersion": version}, {})

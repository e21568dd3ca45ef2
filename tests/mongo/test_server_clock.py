"""The store's time is the server's, whatever this machine's clock says."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from bluestreak_core import StoreRefused
from bluestreak_mongo.inspection import check_server
from bluestreak_mongo.server_clock import ServerClock

YEARS_AWAY = datetime(2077, 7, 7, 7, 7, 7, 123_000, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class MonotonicTime:
    """Stands in for `time`, in the namespace of one module."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        namespace = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("bluestreak_mongo.server_clock.time", namespace)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> MonotonicTime:
    return MonotonicTime(monkeypatch)


def hello(local_time: datetime = YEARS_AWAY) -> dict[str, Any]:
    return {"localTime": local_time, "maxWireVersion": 17}


def test_an_unmeasured_clock_tells_this_machines_time(time: MonotonicTime) -> None:
    before = datetime.now(UTC)
    clock = ServerClock()
    assert before - timedelta(milliseconds=1) < clock.now() <= datetime.now(UTC)
    earlier = clock.now()
    time.now += 5
    assert clock.now() - earlier == timedelta(seconds=5)


def test_a_measured_clock_tells_the_servers_time(time: MonotonicTime) -> None:
    clock = ServerClock()
    clock.measure(hello(), asked_at=1000.0, answered_at=1000.0)
    assert clock.now() == YEARS_AWAY
    time.now += 5
    assert clock.now() == YEARS_AWAY + timedelta(seconds=5)


def test_the_answer_is_taken_to_be_half_a_round_trip_old(time: MonotonicTime) -> None:
    clock = ServerClock()
    time.now = 1003.0
    clock.measure(hello(), asked_at=1001.0, answered_at=1003.0)
    assert clock.now() == YEARS_AWAY + timedelta(seconds=1)


def test_a_later_answer_replaces_an_earlier_one(time: MonotonicTime) -> None:
    clock = ServerClock()
    clock.measure(hello(), asked_at=1000.0, answered_at=1000.0)
    time.now += 60
    clock.measure(hello(YEARS_AWAY - timedelta(days=1)), asked_at=1060.0, answered_at=1060.0)
    assert clock.now() == YEARS_AWAY - timedelta(days=1)


def test_a_time_without_a_zone_is_utc(time: MonotonicTime) -> None:
    clock = ServerClock()
    clock.measure(hello(YEARS_AWAY.replace(tzinfo=None)), asked_at=1000.0, answered_at=1000.0)
    assert clock.now() == YEARS_AWAY
    assert clock.now().tzinfo is UTC


def test_the_time_is_in_whole_milliseconds(time: MonotonicTime) -> None:
    clock = ServerClock()
    clock.measure(hello(), asked_at=1000.0, answered_at=1000.0)
    time.now += 0.000_9
    assert clock.now() == YEARS_AWAY
    time.now += 0.000_2
    assert clock.now() == YEARS_AWAY + timedelta(milliseconds=1)


def test_a_clock_is_stale_before_it_is_measured_and_after_a_minute(time: MonotonicTime) -> None:
    clock = ServerClock()
    assert clock.is_stale
    clock.measure(hello(), asked_at=1000.0, answered_at=1000.0)
    assert not clock.is_stale
    time.now += MINUTE.total_seconds() - 0.001
    assert not clock.is_stale
    time.now += 0.001
    assert clock.is_stale
    clock.measure(hello(), asked_at=time.now, answered_at=time.now)
    assert not clock.is_stale


def test_a_thread_never_sees_half_of_a_measurement(time: MonotonicTime) -> None:
    clock = ServerClock()
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


@pytest.mark.parametrize("version", [17, 21])
def test_mongodb_6_and_newer_are_taken(version: int) -> None:
    check_server({"maxWireVersion": version}, {})


@pytest.mark.parametrize("version", [13, 16])
def test_an_older_mongodb_is_refused(version: int) -> None:
    with pytest.raises(StoreRefused, match=rf"wire version {version}, MongoDB 6\.0 .* speak 17"):
        check_server({"maxWireVersion": version}, {})

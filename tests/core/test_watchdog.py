"""An event loop that nobody runs is not blocked: its leases run out, as those of the dead do."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import pytest
from typing_extensions import override

from bluestreak_core import Claim, NewWorkflow, Renewer, SystemClock
from bluestreak_core.model import ClaimRequest
from bluestreak_core.run import Lease
from bluestreak_core.testing import ManualClock
from bluestreak_core.worker.watchdog import Watchdog
from bluestreak_memory import MemoryStore

LEASE = timedelta(seconds=0.2)
PATIENCE = 5.0  # seconds


class NoRenewer(Renewer):
    """Says when it is closed, which is when the thread ends."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    @override
    def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        raise AssertionError("there is nothing to renew")

    @override
    def close(self) -> None:
        self.closed.set()


class SlowRenewer(NoRenewer):
    """Renews at once, and answers when so much time has passed."""

    def __init__(self, clock: ManualClock, late: timedelta) -> None:
        super().__init__()
        self.called = threading.Event()
        self._clock = clock
        self._late = late

    @override
    def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        self._clock.advance(self._late)
        self.called.set()
        return []


class Leases:
    """No leases; `asked_for` is set once the watchdog asks, since the loop is blocked."""

    def __init__(self) -> None:
        self.asked_for = threading.Event()

    def __call__(self) -> Sequence[Lease]:
        self.asked_for.set()
        return []


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


async def _watch(
    renewer: NoRenewer, leases: Leases, monotonic: Callable[[], float] = time.monotonic
) -> None:
    """Begin to watch the loop that runs this, and do not end it."""
    watchdog = Watchdog(
        "worker",
        renewer,
        SystemClock(),
        LEASE,
        leases=leases,
        location_of=lambda _: None,
        monotonic=monotonic,
    )
    await watchdog.__aenter__()


def test_a_loop_that_was_stopped_is_not_taken_to_be_blocked(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    leases = Leases()
    loop.run_until_complete(_watch(NoRenewer(), leases))
    assert not leases.asked_for.wait(2 * LEASE.total_seconds())
    assert caplog.text == ""
    loop.call_soon(leases.asked_for.wait, PATIENCE)
    loop.run_until_complete(asyncio.sleep(0))
    assert leases.asked_for.is_set(), "it is not watched when it runs again"


def test_a_loop_that_is_closed_is_not_watched_any_longer(loop: asyncio.AbstractEventLoop) -> None:
    renewer = NoRenewer()
    loop.run_until_complete(_watch(renewer, Leases()))
    loop.close()
    assert renewer.closed.wait(PATIENCE)


def test_no_loop_was_blocked_for_less_than_no_time(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    renewer, leases, backwards = NoRenewer(), Leases(), itertools.count(0, -1)
    loop.run_until_complete(_watch(renewer, leases, lambda: float(next(backwards))))
    loop.call_soon(leases.asked_for.wait, PATIENCE)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert renewer.closed.wait(PATIENCE)
    assert "the event loop was blocked for 0.0 s by" in caplog.text
    assert "leases 0 times" in caplog.text


def test_a_lease_that_a_thread_renews_counts_from_when_that_was_sent(
    loop: asyncio.AbstractEventLoop,
) -> None:
    clock, span = ManualClock(), timedelta(seconds=9)
    renewer = SlowRenewer(clock, timedelta(seconds=2))
    new = NewWorkflow(workflow_id="w", handler_id="h", input=None, created_at=clock.now())

    async def watch() -> Lease:
        store = MemoryStore(clock=clock)
        await store.create(new)
        (claim,) = await store.claim(
            ClaimRequest(worker="worker", now=clock.now(), lease=span, limit=1)
        )
        lease = Lease(claim, clock, clock.monotonic() + span.total_seconds(), span)
        clock.advance(timedelta(seconds=4))
        watchdog = Watchdog(
            "worker", renewer, clock, LEASE, leases=lambda: [lease], location_of=lambda _: None
        )
        await watchdog.__aenter__()
        return lease

    lease = loop.run_until_complete(watch())
    loop.call_soon(renewer.called.wait, PATIENCE)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert renewer.closed.wait(PATIENCE)
    assert lease.left == timedelta(seconds=7)

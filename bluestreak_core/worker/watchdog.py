"""A thread that keeps a worker's leases while the event loop is blocked, and logs what blocks it.

While the event loop is not blocked, it renews the leases itself. The thread sends it a beat from
time to time, and does nothing else as long as the loop answers. If the loop is blocked, at most
7/12 of a lease pass between the loop's last renewal and the thread's first one.

The thread reads what the loop writes, so that must be safe: collections are copied, and attributes
are replaced as a whole. Of asyncio, the thread uses only `call_soon_threadsafe`, and reads whether
the loop runs and which task is current.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import finish_despite_cancel, pauses
from bluestreak_core.errors import StoreError, StoreUnavailable
from bluestreak_core.errors.text import counted
from bluestreak_core.run import RENEWALS_PER_LEASE, Lease
from bluestreak_core.run.lease import renewals
from bluestreak_core.store import Renewer

logger = logging.getLogger(__name__)

_TICKS_PER_LEASE = 12
_SHORTEST_TICK = timedelta(milliseconds=10)
_LONGEST_TICK = timedelta(seconds=1)

_LONGEST_PAUSE = timedelta(milliseconds=250)
"""The longest pause between two beats; the logged duration may be too short by as much."""

_PATIENCE = 2
"""Ticks that the loop has for its answer.

With a single tick, a process that was stopped during it would be mistaken for a blocked loop. With
two, the loop can answer in the other one.
"""

_MACHINERY = tuple(
    f"{folder}{os.sep}" for folder in (Path(asyncio.__file__).parent, Path(__file__).parents[1])
)
"""The folders of the code that calls the application."""


class _Beat:
    """A message to the event loop, which it answers unless it is blocked.

    Measured with this machine's clock, not the store's: a loop is blocked in real time.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._sent_at = monotonic()
        self._answered_at: float | None = None
        self._answered = threading.Event()

    def answer(self) -> None:
        """Note that the loop has answered; called in the loop."""
        self._answered_at = self._monotonic()
        self._answered.set()

    def is_answered(self, within: timedelta = timedelta(0)) -> bool:
        """Whether the loop has answered, or does so within this time."""
        return self._answered.wait(within.total_seconds())

    @property
    def age(self) -> float:
        """Seconds from the beat to its answer, or to the present if there is none.

        Never negative, even if a test of the application has replaced the clock meanwhile.
        """
        until = self._monotonic() if self._answered_at is None else self._answered_at
        return max(0.0, until - self._sent_at)


class Watchdog:
    """Watches the event loop during its block, and closes the renewer at the end.

    `leases` returns the worker's leases, and `location_of` the part of a workflow that a task is
    in, or None. Both are called in the thread. Most attributes are what the thread needs to know.
    """

    def __init__(
        self,
        worker: str,
        renewer: Renewer,
        clock: Clock,
        lease: timedelta,
        *,
        leases: Callable[[], Sequence[Lease]],
        location_of: Callable[[asyncio.Task[Any]], str | None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._renewer = renewer
        self._clock = clock
        self._interval = lease / RENEWALS_PER_LEASE
        self._tick = min(max(lease / _TICKS_PER_LEASE, _SHORTEST_TICK), _LONGEST_TICK)
        self._leases = leases
        self._location_of = location_of
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._is_over = threading.Event()
        self._has_ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, name=f"bluestreak watchdog of {worker}", daemon=True
        )

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        try:
            await finish_despite_cancel(self._has_ended)
        finally:
            self._thread.join()  # returns at once: setting `_has_ended` is the thread's last act

    # In the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with closing(self._renewer):
                self._watch()
        except Exception:  # an error of the store or of Bluestreak
            logger.exception(
                "%s: the watchdog of the event loop has stopped",
                self._worker,
                extra={"worker": self._worker},
            )
        finally:
            with suppress(RuntimeError):  # the loop is closed, so nothing waits for it
                self._loop.call_soon_threadsafe(self._has_ended.set_result, None)

    def _watch(self) -> None:
        pause = min(self._tick, _LONGEST_PAUSE).total_seconds()
        while not (self._is_over.wait(pause) or self._loop.is_closed()):
            if self._loop.is_running():  # a stopped loop is not blocked, and may never run again
                beat = self._send_beat()
                if not any(beat.is_answered(self._tick) for _ in range(_PATIENCE)):
                    self._sit_out(beat)

    def _send_beat(self) -> _Beat:
        beat = _Beat(self._monotonic)
        with suppress(RuntimeError):  # the loop has just been closed
            self._loop.call_soon_threadsafe(beat.answer)
        return beat

    def _sit_out(self, beat: _Beat) -> None:
        """Keep the leases until the loop answers, and log what has blocked it."""
        culprit = self._culprit()
        if beat.is_answered():  # then the culprit may be what the loop did next
            return
        logger.warning(
            "%s: the event loop has been blocked for %.1f s by %s",
            *(self._worker, beat.age, culprit),
            extra={"worker": self._worker},
        )
        renewals = self._keep_leases(beat)
        if beat.is_answered():
            logger.warning(
                "%s: the event loop was blocked for %.1f s by %s; meanwhile a thread has renewed "
                "leases %s",
                self._worker,
                beat.age,
                culprit,
                counted(renewals, "time"),
                extra={"worker": self._worker},
            )

    def _keep_leases(self, beat: _Beat) -> int:
        """Renew overdue leases while the loop is blocked; return the number of renewals."""
        renewals = 0
        lost: set[tuple[str, str]] = set()
        outage, pause = pauses(self._interval), timedelta(0)
        while self._is_blocked(beat, pause):
            try:
                renewals += self._renew(lost)
            except StoreUnavailable as error:
                logger.warning(
                    "%s: leases could not be renewed from a thread, trying again: %r",
                    self._worker,
                    error,
                    extra={"worker": self._worker},
                )
                pause = next(outage)
            except StoreError as error:
                logger.warning(
                    "%s: leases are not renewed while the event loop is blocked: %r",
                    self._worker,
                    error,
                    extra={"worker": self._worker},
                )
                break
            else:
                outage, pause = pauses(self._interval), self._tick
        while self._is_blocked(beat, self._tick):
            pass
        return renewals

    def _is_blocked(self, beat: _Beat, within: timedelta) -> bool:
        return self._loop.is_running() and not beat.is_answered(within)

    def _renew(self, lost: set[tuple[str, str]]) -> bool:
        """Renew all leases if one is overdue, and return whether one was.

        Adds the keys of lost claims to `lost`. The loop ends their runs when it renews next.
        """
        ours = [
            lease
            for lease in self._leases()
            if lease.error is None and lease.claim.key not in lost and not _would_conflict(lease)
        ]
        if not any(lease.is_due_within(timedelta(0)) for lease in ours):
            return False
        for renewal in renewals(ours, self._clock):
            lost_leases = renewal.settle(renewal.send(self._renewer.renew))
            lost.update(lease.claim.key for lease in lost_leases)
        return True

    def _culprit(self) -> str:
        """What the loop is doing, and where in the code."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - there is no other way
        task = asyncio.current_task(self._loop)
        return f"{self._location(task)}{_place(frame)}"

    def _location(self, task: asyncio.Task[Any] | None) -> str:
        if task is None:
            return "a callback of no workflow"
        return self._location_of(task) or f"task {task.get_name()!r}, which runs no handler"


def _would_conflict(lease: Lease) -> bool:
    """Whether a renewal would conflict with a transaction that can still end in time.

    A transaction begins with at least two thirds of the lease left, and may take half of it. So
    with a sixth left, it is over or has timed out.
    """
    return lease.is_withheld and lease.left > lease.span / 6


def _place(frame: FrameType | None) -> str:
    """The line of the application that the loop or Bluestreak has called, and the current line."""
    if frame is None:
        return ""
    frames = [frame for frame, _ in traceback.walk_stack(frame)]
    called = list(_until_machinery(frames)) or frames[:1]
    if len(called) == 1:
        return f", in {_line(called[0])}"
    return f", in {_line(called[-1])}, which is in {_line(called[0])}"


def _until_machinery(frames: Sequence[FrameType]) -> Iterator[FrameType]:
    return takewhile(lambda frame: not frame.f_code.co_filename.startswith(_MACHINERY), frames)


def _line(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_qualname} at {code.co_filename}:{frame.f_lineno}"

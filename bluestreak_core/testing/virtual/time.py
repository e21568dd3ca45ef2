"""An event loop whose time jumps: when everything waits, to the next instant that is due.

`asyncio.sleep`, `asyncio.timeout` and everything else that uses the loop's time happen in the usual
order and at the usual instants, but take no time.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

from typing_extensions import override

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.testing.clock import START
from bluestreak_core.testing.virtual.process import Entry, Process

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE = 5.0
"""Seconds of real time for which virtual time waits for a thread."""

_MICROSECOND = 1e-6


class NothingLeftToHappen(AssertionError):
    """Everything waits, and nothing is due: time has nowhere to go."""


class TooManyTurns(AssertionError):
    """The loop has turned too often, and the awaited event has not happened."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, which begins at 0 and moves only when everything waits.

    A function in a thread (of a step that is not async, or of `asyncio.to_thread`) takes no virtual
    time: everything else waits until it returns, for at most `PATIENCE`. The loop does not wait for
    sockets; code that runs here must not talk to other processes.

    Callbacks that were scheduled in the context of a `Process` run only while that process runs.

    What is due after `end`, in virtual seconds, never happens. If nothing else is left to happen,
    `NothingLeftToHappen` is raised at once, and time does not move.
    """

    def __init__(self, *, end: float = math.inf) -> None:
        self._passage = _Passage(at_horizon=self.stop, on_move=self._adjust_resolution)
        self._end = end
        self._threads: Executor | None = None
        super().__init__(self._passage)
        self._adjust_resolution(0.0)

    @override
    def time(self) -> float:
        """Virtual seconds."""
        return self._passage.now

    def run_until(self, instant: float) -> None:
        """Run everything that is due up to an instant of `time()`. Afterwards it is that time."""
        self._passage.horizon = instant
        try:
            self.run_forever()
        finally:
            self._passage.horizon = math.inf

    @property
    def turns(self) -> int:
        """How often the loop has turned."""
        return self._passage.turns

    def allow(self, turns: int | None) -> None:
        """Raise `TooManyTurns` after so many turns from now on; None is no limit."""
        self._passage.last_turn = None if turns is None else self.turns + turns

    def _adjust_resolution(self, now: float) -> None:
        # A nanosecond, the resolution of a real clock, is lost in a float of a year's seconds, and
        # a microsecond after three centuries. Then what is due now would never run.
        self._clock_resolution = max(_MICROSECOND, math.ulp(now))

    @override
    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        process = Process.of(context)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        entry = Entry(process, callback, args, context)
        entry.handle = super().call_soon(entry.run, context=context)
        return entry.handle

    @override
    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        if when > self._end:
            return asyncio.TimerHandle(when, callback, args, self, context)
        process = Process.of(context)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        entry = Entry(process, callback, args, context)
        entry.handle = handle = super().call_at(when, entry.run, context=context)
        return handle

    @override
    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task = super().create_task(coro, name=name, context=context)
        if (process := Process.of(context)) is not None:
            process.keep(task)
        return task

    @override
    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        job = (executor or self._default_threads()).submit(func, *args)
        self._passage.jobs.add(job)
        result = asyncio.wrap_future(job, loop=self)
        job.add_done_callback(self._on_job_end)  # runs after the result was handed on
        return result

    def _default_threads(self) -> Executor:
        if self._threads is None:
            threads = ThreadPoolExecutor(thread_name_prefix="asyncio")
            self.set_default_executor(threads)
            self._threads = threads
        return self._threads

    def _on_job_end(self, job: Future[Any]) -> None:
        self._passage.jobs.discard(job)
        if not self.is_closed():
            self.call_soon_threadsafe(lambda: None)


class _Passage(selectors.DefaultSelector):
    """The passage of time: where an event loop would wait for sockets, time moves instead."""

    def __init__(self, at_horizon: Callable[[], None], on_move: Callable[[float], None]) -> None:
        super().__init__()
        self.now = 0.0
        self.horizon = math.inf
        self.turns = 0
        self.last_turn: int | None = None
        self.jobs: set[Future[Any]] = set()
        self._stuck: set[Future[Any]] = set()
        self._at_horizon = at_horizon
        self._on_move = on_move

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if self.last_turn is not None and self.turns > self.last_turn:
            raise TooManyTurns
        if self.jobs - self._stuck:
            if events := super().select(PATIENCE):
                return events
            self._stuck |= self.jobs
        if timeout is None and self.jobs and self.horizon == math.inf:
            return super().select()
        events = super().select(0)
        if not events and timeout != 0:
            self._pass(math.inf if timeout is None else timeout)
        return events

    def _pass(self, seconds: float) -> None:
        """Move to the next instant that is due, but not beyond the horizon."""
        instant = self.now + seconds
        if instant > self.horizon + _MICROSECOND:
            self.now = max(self.now, self.horizon)
            self._at_horizon()
        elif seconds < math.inf:
            self.now = instant
        else:
            raise NothingLeftToHappen
        self._on_move(self.now)


class VirtualClock:
    """The time of a `VirtualLoop`, as a clock for stores. A wrong clock is `ahead` of others."""

    def __init__(
        self, loop: VirtualLoop, start: datetime = START, *, ahead: timedelta = timedelta(0)
    ) -> None:
        self._loop = loop
        self.start = in_milliseconds(start) + ahead
        """The instant at which the loop was made."""

    def now(self) -> datetime:
        """The current instant of virtual time."""
        passed = timedelta(microseconds=round(self._loop.time() * 1e6))
        return in_milliseconds(self.start + passed)

    def monotonic(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._loop.time()

    async def sleep(self, span: timedelta) -> None:
        """`asyncio.sleep`."""
        await asyncio.sleep(max(0.0, span.total_seconds()))

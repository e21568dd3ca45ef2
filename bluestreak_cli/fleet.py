"""Several worker processes on one machine, each replaced when it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.process import Child
from bluestreak_cli.running import is_ignored
from bluestreak_cli.standing import Standing
from bluestreak_core.concurrency import WakeUp

logger = logging.getLogger("bluestreak_cli.fleet")

_LONGEST_PAUSE = 30.0
_STABLE = 60.0
"""Seconds. A process that has lived longer was not about to die."""
_PATIENCE = 2.0
"""Seconds in which a process must have answered with its metrics."""
_PATIENT_SIGNALS = 2
"""The first one drains, the second one skips the drain, and the next one kills."""


def pause_before(deaths: int, *, was_ready: bool) -> float:
    """Seconds until a process is started again, after so many deaths in a row, this one included.

    None after the first one, unless it died before it was ready; then 1, 2, 4, up to 30 seconds.
    """
    if deaths == 1 and was_ready:
        return 0.0
    return min(_LONGEST_PAUSE, 2.0 ** min(deaths - 1 - was_ready, 10))


@dataclass(slots=True)
class _Seat:
    """A place in the fleet, and who is in it."""

    name: str
    child: Child | None = None
    starts: int = 0
    deaths: int = 0
    death: str | None = None
    """How the last process has ended, if it should not have."""


class Fleet:
    """So many processes that run one application, until a signal comes.

    SIGTERM and SIGINT drain all, a second one skips the drain, a third one kills. SIGHUP restarts
    one after the other; a process that does not become ready ends that. It drains all if it comes
    from a terminal that is closed.
    """

    def __init__(self, app: str, processes: int, options: Sequence[str]) -> None:
        self._app = app
        self._options = options
        self._seats = [_Seat(f"worker {number + 1}") for number in range(processes)]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = WakeUp()
        self._signals = 0
        self._code: ExitCode | None = None
        self._was_ready = False
        self._ends_with_terminal = False
        self._restart: asyncio.Task[None] | None = None

    async def run(self) -> ExitCode:
        """Keep the processes running; return once all have ended."""
        self._loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        self._ends_with_terminal = _has_terminal() and not is_ignored(signal.SIGHUP)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        logger.info("fleet of %d processes for %s", len(self._seats), self._app)
        async with asyncio.TaskGroup() as tasks:
            for seat in self._seats:
                tasks.create_task(self._keep(seat))
        if self._restart is not None:
            await self._restart
        logger.info("fleet: all processes have ended")
        return self._code or ExitCode.DONE

    def standings(self) -> Sequence[Standing]:
        """What is known of each process. May be called from any thread."""
        return [_standing(seat) for seat in self._seats]

    def figures(self) -> Sequence[tuple[str, str]]:
        """The metrics of each process that answers soon. Called from another thread."""
        if self._loop is None:
            return []
        return asyncio.run_coroutine_threadsafe(self._figures(), self._loop).result(2 * _PATIENCE)

    async def _figures(self) -> Sequence[tuple[str, str]]:
        async def ask(seat: _Seat) -> tuple[str, str] | None:
            child = seat.child
            if child is None or not child.is_ready:
                return None
            try:
                async with asyncio.timeout(_PATIENCE):
                    return seat.name, await child.figures()
            except (TimeoutError, ConnectionError):
                return None

        answers = await asyncio.gather(*map(ask, self._seats))
        return [answer for answer in answers if answer is not None]

    @property
    def _is_stopping(self) -> bool:
        return self._code is not None

    async def _keep(self, seat: _Seat) -> None:
        """Have somebody in a seat. The first process goes ahead, and shows whether one can run."""
        if seat is not self._seats[0]:
            await self._until(lambda: self._was_ready)
        while not self._is_stopping:
            child = await Child.start(seat.name, self._app, self._options)
            seat.child, seat.death = child, None
            seat.starts += 1
            self._changed.notify()
            logger.info("%s: process %d starts", seat.name, child.pid)
            if self._is_stopping:
                child.send(signal.SIGTERM)
            if await child.ready():
                self._was_ready = True
                logger.info("%s: process %d is ready", seat.name, child.pid)
                self._changed.notify()
            await child.end()
            self._changed.notify()
            await self._after(seat, child)

    async def _after(self, seat: _Seat, child: Child) -> None:
        """What follows the end of a process: nothing, a pause, or the end of the fleet."""
        how = child.ending
        if self._is_stopping or child.is_expected_to_end:
            logger.info("%s: process %d %s", seat.name, child.pid, how)
            return
        if child.code == ExitCode.USAGE and not self._was_ready:
            self._end(ExitCode.USAGE)
            return
        seat.deaths = 1 if child.is_ready and child.seconds > _STABLE else seat.deaths + 1
        # Without its database, a process cannot begin, and another one could not either.
        seat.death = None if child.code == ExitCode.UNAVAILABLE else how
        pause = pause_before(seat.deaths, was_ready=child.is_ready)
        when = f"in {pause:g} s" if pause else "at once"
        logger.error("%s: process %d %s, starts again %s", seat.name, child.pid, how, when)
        await self._until(lambda: False, pause)

    async def _until(self, condition: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until something holds, the fleet stops, or the time is up."""
        try:
            async with asyncio.timeout(seconds):
                while not condition() and not self._is_stopping:
                    await self._changed.wait(self._changed.count)
        except TimeoutError:
            pass

    def _stop(self, number: signal.Signals) -> None:
        self._signals += 1
        how = ("draining", "not waiting for the drain")[self._signals - 1 : self._signals]
        logger.info("fleet: %s, %s", number.name, *(how or ("killing",)))
        code = ExitCode.INTERRUPTED if number is signal.SIGINT else ExitCode.DONE
        self._end(self._code or code)
        if self._signals > _PATIENT_SIGNALS:
            self._send(signal.SIGKILL)

    def _end(self, code: ExitCode) -> None:
        self._code = code
        self._changed.notify()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for seat in self._seats:
            if seat.child is not None:
                seat.child.send(number)

    def _hang_up(self) -> None:
        """Restart all; but if the terminal has been closed, which sends the same signal, stop."""
        if self._ends_with_terminal and not _has_terminal():
            self._stop(signal.SIGHUP)
        elif self._is_stopping or (self._restart is not None and not self._restart.done()):
            logger.warning("fleet: SIGHUP, but it restarts or stops already")
        else:
            self._restart = asyncio.ensure_future(self._restart_each())

    async def _restart_each(self) -> None:
        logger.info("fleet: SIGHUP, restarting one after the other")
        for seat in self._seats:
            old = seat.child
            if old is None or old.code is not None:
                continue  # a new one starts anyway
            old.is_expected_to_end = True
            old.send(signal.SIGTERM)
            await self._until(partial(_is_replaced, seat, old))
            if self._is_stopping:
                return
            if seat.child is not None and not seat.child.is_ready:
                logger.error("fleet: %s does not start, the others stay as they are", seat.name)
                return
        logger.info("fleet: all have been restarted")


def _standing(seat: _Seat) -> Standing:
    child = seat.child
    is_there = child is not None and child.code is None
    return Standing(
        name=seat.name,
        starts=seat.starts,
        death=seat.death,
        silence=monotonic() - child.heard_at if child is not None and is_there else None,
        report=child.report if child is not None and is_there else None,
    )


def _is_replaced(seat: _Seat, old: Child) -> bool:
    """Whether the successor of a process is ready, or has ended."""
    child = seat.child
    return child is not None and child is not old and (child.is_ready or child.code is not None)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY))
    except OSError:
        return False
    return True

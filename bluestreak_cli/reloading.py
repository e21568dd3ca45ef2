"""A worker process that is replaced when the code changes."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from watchfiles import PythonFilter, awatch

from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.process import Child
from bluestreak_core.concurrency import WakeUp, end_all, first_of

logger = logging.getLogger("bluestreak_cli.dev")

_DEBOUNCE = 300
"""Milliseconds. The database writes all the time next to the code."""
_PATIENCE = 5.0
"""Seconds in which the process must end when it is asked to."""
_NAME = "worker"
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Reloading:
    """Keeps a worker running with the code as it is now, until a signal comes.

    A process that cannot start, or that an error ends, is started again after the next change; one
    that is killed, at once. At a change and at the end, no drain is waited for: what runs is
    released, and goes on later.
    """

    def __init__(
        self,
        app: str,
        options: Sequence[str],
        environment: Mapping[str, str],
        watched: Sequence[Path],
        ignored: Path,
    ) -> None:
        self._app = app
        self._options = options
        self._environment = environment
        self._watched = watched
        self._filter = PythonFilter(ignore_paths=[ignored])
        self._changes = WakeUp()
        self._stop = asyncio.Event()
        self._child: Child | None = None
        self._code = ExitCode.DONE
        self._error: Exception | None = None

    async def run(self) -> ExitCode:
        """Return once the process has ended after a signal."""
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, self._on_signal, number)
        watching = asyncio.create_task(self._watch())
        try:
            while not self._stop.is_set():
                await self._one_process()
        finally:
            await end_all([watching])
            for number in _STOPS:
                loop.remove_signal_handler(number)
        if self._error is not None:
            raise self._error
        return self._code

    async def _one_process(self) -> None:
        """Run a process until it is to be replaced."""
        seen = self._changes.count
        child = self._child = await Child.start(_NAME, self._app, self._options, self._environment)
        ending = asyncio.create_task(child.end())
        await self._until(seen, child.ready())
        await self._until(seen, asyncio.shield(ending))
        if not ending.done():
            child.stop_now()
            await first_of(asyncio.shield(ending), asyncio.sleep(_PATIENCE))
            child.send(signal.SIGKILL)
        code = await ending
        if self._stop.is_set() or self._changes.count != seen:
            return
        if child.is_ready and code < 0:
            logger.warning("dev: %s, starting another worker", child.ending)
            return
        logger.warning("dev: the worker %s, waiting for a change of the code", child.ending)
        await self._until(seen, asyncio.Event().wait())

    async def _until(
        self, seen: int, done: Coroutine[Any, Any, object] | asyncio.Future[Any]
    ) -> None:
        """Wait, but no longer than until the next change or the end."""
        await first_of(done, self._changes.wait(seen), self._stop.wait())

    async def _watch(self) -> None:
        try:
            await self._note_changes()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody notices changes any more
            self._error = error
            self._stop.set()

    async def _note_changes(self) -> None:
        changes = awatch(
            *self._watched, watch_filter=self._filter, debounce=_DEBOUNCE, stop_event=self._stop
        )
        async for batch in changes:
            paths = sorted({_shown(Path(path)) for _, path in batch})
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            logger.info("dev: %s%s changed, restarting", paths[0], more)
            self._changes.notify()

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set() and self._child is not None:
            self._child.send(signal.SIGKILL)
        logger.info("dev: %s, stopping", number.name)
        self._code = ExitCode.INTERRUPTED if number is signal.SIGINT else self._code
        self._stop.set()


def _shown(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)

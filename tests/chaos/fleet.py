"""The worker processes: four at any time, whatever becomes of each."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.chaos.program import READY
from tests.chaos.replica_set import eventually

ROOT = Path(__file__).parents[2]
FAREWELL = 60.0  # seconds that a worker may take to end
_LAST_WORDS = 1.0  # seconds
# The driver complains at this level of what it tries in the background, such as closing cursors.
# Some workflows are to abort; of those that are not, the audit tells.
_EXPECTED = r"pymongo|bluestreak_core\.run\.ending workflow '[^']+' failed, (aborted|compensating):"
_COMPLAINT = re.compile(rf" (ERROR|CRITICAL) (?!{_EXPECTED})")
_LOG_LINES = 200


class Worker:
    """A process that runs `program.py`."""

    def __init__(self, number: int, folder: Path, arguments: Sequence[str]) -> None:
        self.output = folder / f"worker-{number}.log"
        command = [sys.executable, "-m", "tests.chaos.program", *arguments]
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        self.is_dismissed = False
        """Whether it was told to end, or killed."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether it takes signals; before that, any of them would end it."""
        return READY in self.output.read_text()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def end(self, number: signal.Signals) -> None:
        """Let it end by a signal; see `complaint` for how it did."""
        self.is_dismissed = True
        self._expected = -signal.SIGKILL if number is signal.SIGKILL else 0
        self.send(number)
        try:
            await asyncio.to_thread(self._process.wait, FAREWELL)
        except subprocess.TimeoutExpired:
            await self._give_up()

    async def _give_up(self) -> None:
        """Let it write down why it has not ended, and kill it."""
        for number in (signal.SIGUSR2, signal.SIGQUIT):
            self.send(number)
            await asyncio.sleep(_LAST_WORDS)
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    def complaint(self) -> str | None:
        """What is wrong with how it has ended, or with what it has logged."""
        code = self._process.poll()
        log = self.output.read_text().splitlines()
        if self.is_dismissed and code != self._expected:
            return self._say(f"ended with {code} instead of {self._expected}", log[-_LOG_LINES:])
        if not self.is_dismissed and code is not None:
            return self._say(f"ended by itself, with {code}", log[-_LOG_LINES:])
        for place, line in enumerate(log):
            if _COMPLAINT.search(line):
                return self._say("complained", log[place : place + _LOG_LINES])
        return None

    def clean_up(self) -> None:
        if self.is_running:
            self._process.kill()
        self._process.wait()

    def _say(self, what: str, lines: Sequence[str]) -> str:
        return "\n    ".join([f"worker {self.pid} {what}", *lines])


class Fleet:
    """So many workers, each of which is replaced when it has been ended."""

    def __init__(self, count: int, folder: Path, arguments: Sequence[str]) -> None:
        self.all: list[Worker] = []
        self.stops: list[float] = []
        """Seconds that workers took to end by SIGTERM."""
        self._count = count
        self._folder = folder
        self._arguments = arguments

    async def __aenter__(self) -> Self:
        self._fill()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.all:
            worker.clean_up()

    @property
    def pids(self) -> list[int]:
        """Those that have not ended."""
        return [worker.pid for worker in self.all if worker.is_running]

    async def pick(self, choice: float) -> Worker:
        """A worker that is there to be hit; `choice` is from 0 to 1."""

        async def candidates() -> list[Worker]:
            return [w for w in self.all if w.is_running and w.is_ready and not w.is_dismissed]

        found: list[Worker] = await eventually("a worker is ready", candidates)
        return found[int(choice * len(found))]

    async def replace(self, worker: Worker, number: signal.Signals) -> None:
        """End a worker; another one is started at once."""
        worker.is_dismissed = True
        self._fill()
        began = time.monotonic()
        await worker.end(number)
        if number is signal.SIGTERM:
            self.stops.append(time.monotonic() - began)

    async def stop(self) -> None:
        """Let all workers end."""
        rest = [worker for worker in self.all if not worker.is_dismissed and worker.is_running]
        await asyncio.gather(*(worker.end(signal.SIGTERM) for worker in rest))

    def complaints(self) -> list[str]:
        return [complaint for worker in self.all if (complaint := worker.complaint()) is not None]

    def _fill(self) -> None:
        here = sum(worker.is_running and not worker.is_dismissed for worker in self.all)
        for _ in range(self._count - here):
            self.all.append(Worker(len(self.all), self._folder, self._arguments))

"""A process of a fleet, as the fleet sees it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic

from bluestreak_cli.link import ASK, FIGURES, LONGEST_LINE, READY, REPORT, STOP, read_report
from bluestreak_cli.standing import Report
from bluestreak_core.concurrency import WakeUp


class Child:
    """A process with a worker, and the link by which each end notices that the other has gone."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.is_ready = False
        self.is_expected_to_end = False
        self.report: Report | None = None
        """What it has said last."""
        self.heard_at = monotonic()
        """When it has said something, or was started."""
        self._process = process
        self._reader = reader
        self._writer = writer
        self._began = monotonic()
        self._told = WakeUp()
        self._figures = ""
        self._has_gone = False
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(
        cls,
        name: str,
        app: str,
        options: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start it in a session of its own, since Ctrl-C in the terminal is for the fleet.

        `environment` is added to that of this process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "bluestreak_cli.child", name, str(theirs.fileno()), app, *options),
                pass_fds=[theirs.fileno()],
                env=os.environ | (environment or {}),
                start_new_session=True,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LONGEST_LINE)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, or minus the number of the signal that killed it; None while it runs."""
        return self._process.returncode

    @property
    def ending(self) -> str:
        """How it has ended, as a part of a sentence."""
        code = self.code or 0
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return monotonic() - self._began

    async def ready(self) -> bool:
        """Wait until it polls; False if it has ended before."""
        while not self.is_ready and not self._has_gone:
            await self._told.wait()
        return self.is_ready

    async def figures(self) -> str:
        """Its metrics. Waits until they have come, or it has ended; then it raises."""
        seen = self._told.count
        self._writer.write(ASK)
        self._figures = ""
        while not self._figures:
            if self._has_gone:
                raise ConnectionError("the process has ended")
            await self._told.wait(seen)
            seen = self._told.count
        return self._figures

    async def end(self) -> int:
        """Wait until it has ended; return its code."""
        code = await self._process.wait()
        self._listening.cancel()  # a process that it has started may hold the link open
        self._writer.close()
        return code

    def stop_now(self) -> None:
        """Let it release what it runs, and end, without waiting for a drain."""
        self.send(signal.SIGTERM)
        with suppress(ConnectionError):
            self._writer.write(STOP)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.code is None:
            self._process.send_signal(number)

    async def _listen(self) -> None:
        try:
            with suppress(ConnectionError):
                while line := await self._reader.readline():
                    self._hear(line)
        finally:
            self._has_gone = True
            self._told.notify()

    def _hear(self, line: bytes) -> None:
        said = json.loads(line)
        self.heard_at = monotonic()
        self.is_ready = self.is_ready or READY in said
        if REPORT in said:
            self.report = read_report(said[REPORT])
        self._figures = said.get(FIGURES, self._figures)
        self._told.notify()

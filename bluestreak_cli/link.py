"""The tie between a fleet and each of its processes: a socket, over which both send lines.

A process says when it is ready and, if it is asked to, again and again how it is. The fleet asks
for metrics. Each notices by the end of the stream that the other has gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from bluestreak_cli.standing import Report
from bluestreak_core import Bluestreak, WorkerState

logger = logging.getLogger("bluestreak_cli.worker")

LONGEST_LINE = 1 << 26
"""Bytes; the metrics of an application are one line."""

ASK = b"figures\n"
STOP = b"stop\n"
"""What a fleet sends: that it wants metrics, and that the worker stops, or need not drain."""

SOON = 0.2
"""Seconds between two reports of a worker that is not ready."""

READY = "ready"
REPORT = "report"
FIGURES = "figures"


class Link:
    """A process's end. `ready` tells the fleet that the worker polls."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def ready(self) -> None:
        """Say that the worker polls."""
        self._send({READY: True})

    def report(self, report: Report) -> None:
        """Say how the worker is, unless the fleet has not read what was said before."""
        if not self._writer.transport.get_write_buffer_size():
            self._send({REPORT: asdict(report)})

    def figures(self, text: str) -> None:
        """Send metrics."""
        self._send({FIGURES: text})

    def _send(self, said: Mapping[str, Any]) -> None:
        self._writer.write(json.dumps(said).encode() + b"\n")


@asynccontextmanager
async def linked(
    descriptor: int, name: str, bluestreak: Bluestreak, beat: float | None
) -> AsyncIterator[Link]:
    """Keep a link during the block, and report every `beat` seconds, or never.

    If the fleet goes, the worker stops.
    """
    tie = socket.socket(fileno=descriptor)
    reader, writer = await asyncio.open_unix_connection(sock=tie)
    link = Link(writer)
    tasks = [asyncio.create_task(_listen(link, reader, name, bluestreak))]
    if beat is not None:
        tasks.append(asyncio.create_task(_report(link, bluestreak, beat)))
    try:
        yield link
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()


async def _listen(
    link: Link, reader: asyncio.StreamReader, name: str, bluestreak: Bluestreak
) -> None:
    try:
        while order := await reader.readline():
            if order == STOP:
                bluestreak.stop()
            elif order == ASK:
                from bluestreak_cli.figures import figures_of  # noqa: PLC0415 - rarely needed

                link.figures(figures_of(bluestreak.health()))
    except ConnectionError:
        pass
    logger.warning("%s: its fleet has gone, draining", name)
    bluestreak.stop()


async def _report(link: Link, bluestreak: Bluestreak, beat: float) -> None:
    while True:
        report = Report.of(bluestreak.health())
        link.report(report)
        await asyncio.sleep(beat if report.is_ready else min(beat, SOON))


def read_report(said: Mapping[str, Any]) -> Report:
    """A report as it was sent."""
    return Report(
        state=WorkerState(said["state"]),
        is_ready=said["is_ready"],
        has_claimed=said["has_claimed"],
    )

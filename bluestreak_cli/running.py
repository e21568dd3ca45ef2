"""A worker in this process: its signals, its garbage collection, its tie to a fleet."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal

from bluestreak_cli.exit_code import ExitCode
from bluestreak_core import Bluestreak

READY = b"ready\n"
"""What the process of a fleet writes into its link once it polls."""

logger = logging.getLogger("bluestreak_cli.worker")

_RARELY = (50_000, 20, 50)
"""Thresholds of the garbage collection, which stops all runs and finds little: they are acyclic."""

_STOPS = ("SIGTERM", "SIGINT", "SIGHUP")


def is_ignored(number: signal.Signals) -> bool:
    """Whether the process was started with a signal ignored, as `nohup` does."""
    return signal.getsignal(number) is signal.SIG_IGN


async def work(name: str, bluestreak: Bluestreak, link: int | None = None) -> ExitCode:
    """Poll until a signal comes. The first one drains, the second one skips the drain.

    `link` is a socket's file descriptor. Its other end is told when the worker is ready, and the
    worker stops if that end closes, because then nobody looks after it any more.
    """
    loop = asyncio.get_running_loop()
    code = ExitCode.DONE

    def stop(number: signal.Signals) -> None:
        nonlocal code
        logger.info("%s: %s, draining", name, number.name)
        code = ExitCode.INTERRUPTED if number is signal.SIGINT else code
        bluestreak.stop()

    stops = [
        number for number in (signal.Signals[each] for each in _STOPS) if not is_ignored(number)
    ]
    for number in stops:
        loop.add_signal_handler(number, stop, number)
    try:
        async with bluestreak:
            _collect_rarely()
            if link is not None:
                _tie(loop, link, name, bluestreak)
            logger.info("%s: polling", name)  # the worker itself says with what
            await bluestreak.poll()
        logger.info("%s: stopped", name)
    finally:
        for number in stops:
            loop.remove_signal_handler(number)
    return code


def _collect_rarely() -> None:
    """What has been imported stays, and need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_RARELY)


def _tie(loop: asyncio.AbstractEventLoop, link: int, name: str, bluestreak: Bluestreak) -> None:
    def hear() -> None:
        loop.remove_reader(link)
        logger.warning("%s: its fleet has gone, draining", name)
        bluestreak.stop()

    loop.add_reader(link, hear)
    os.write(link, READY)

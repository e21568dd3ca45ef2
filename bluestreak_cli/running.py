"""A worker in this process: its signals, its garbage collection, and signs of its life."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Sequence
from time import monotonic

from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.port import Address, serving
from bluestreak_cli.standing import Report, Standing
from bluestreak_core import Bluestreak

logger = logging.getLogger("bluestreak_cli.worker")

_RARELY = (50_000, 20, 50)
"""Thresholds of the garbage collection, which stops all runs and finds little: they are acyclic."""

_STOPS = ("SIGTERM", "SIGINT", "SIGHUP")


def is_ignored(number: signal.Signals) -> bool:
    """Whether the process was started with a signal ignored, as `nohup` does."""
    return signal.getsignal(number) is signal.SIG_IGN


class Pulse:
    """Shows whether the event loop of this process turns, and how its worker is."""

    def __init__(self, name: str, bluestreak: Bluestreak) -> None:
        self._name = name
        self._bluestreak = bluestreak
        self._beat_at = monotonic()

    async def beat(self, every: float) -> None:
        """Note again and again that the event loop turns."""
        while True:
            self._beat_at = monotonic()
            await asyncio.sleep(every)

    def standings(self) -> Sequence[Standing]:
        """What is known of this process. May be called from any thread."""
        silence, report = monotonic() - self._beat_at, Report.of(self._bluestreak.health())
        return [Standing(name=self._name, silence=silence, report=report)]

    def figures(self) -> Sequence[tuple[str, str]]:
        """The metrics of this process. May be called from any thread."""
        from bluestreak_cli.figures import figures_of  # noqa: PLC0415 - rarely needed

        return [(self._name, figures_of(self._bluestreak.health()))]


async def work_shown(name: str, bluestreak: Bluestreak, address: Address | None) -> ExitCode:
    """`work`, with a port that shows how it goes, if there is an address for one."""
    if address is None:
        return await work(name, bluestreak)
    pulse = Pulse(name, bluestreak)
    beating = asyncio.create_task(pulse.beat(address.beat))
    try:
        with serving(address, pulse):
            return await work(name, bluestreak)
    finally:
        beating.cancel()


async def work(
    name: str, bluestreak: Bluestreak, when_ready: Callable[[], None] = lambda: None
) -> ExitCode:
    """Poll until a signal comes. The first one drains, the second one skips the drain.

    `when_ready` is called once the store is open.
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
            when_ready()
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

"""`ctx.sleep`: a wait whose end is recorded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from bluestreak_core.argument import Duration, to_instant, to_timedelta
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import FinalMistakes
from bluestreak_core.run.frame import Frame


async def sleep(frame: Frame, nap_id: str, duration: Duration) -> None:
    """Wait until the recorded end of the nap; record it first if it is not."""
    await frame.check("nap", nap_id)
    with FinalMistakes():
        nap_id = frame.nap_id(nap_id)
        span = to_timedelta(f"duration of nap {nap_id!r}", duration)
        frame.use_nap(nap_id)
    await _sleep(frame, nap_id, lambda: in_milliseconds(frame.journal.clock.now() + span))


async def sleep_until(frame: Frame, nap_id: str, instant: datetime) -> None:
    """`sleep`, with its end instead of its length."""
    await frame.check("nap", nap_id)
    with FinalMistakes():
        nap_id = frame.nap_id(nap_id)
        wake_up_at = to_instant(f"end of nap {nap_id!r}", instant)
        frame.use_nap(nap_id)
    await _sleep(frame, nap_id, lambda: wake_up_at)


async def _sleep(frame: Frame, nap_id: str, end: Callable[[], datetime]) -> None:
    await frame.doze("nap", nap_id, await nap_end(frame, nap_id, end))


async def nap_end(frame: Frame, nap_id: str, end: Callable[[], datetime]) -> datetime:
    """The recorded end of a nap; record it first if it is not."""
    if (recorded := frame.journal.history.naps.get(nap_id)) is not None:
        return recorded
    if frame.replay is not None:
        await frame.replay.suspend("nap", nap_id)
    with frame.operations.operation("nap", nap_id):
        return await frame.record(frame.journal.save_nap(nap_id, end()))

"""`ctx.sleep`: a wait whose end is recorded."""

from __future__ import annotations

from bluestreak_core.argument import Duration, check_id, to_timedelta
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import FinalMistakes
from bluestreak_core.run.frame import Frame


async def sleep(frame: Frame, nap_id: str, duration: Duration) -> None:
    """Wait until the recorded end of the nap; record it first if it is not."""
    await frame.check("nap", nap_id)
    with FinalMistakes():
        nap_id = check_id("nap id", nap_id)
        span = to_timedelta(f"duration of nap {nap_id!r}", duration)
        frame.use_nap(nap_id)
    journal = frame.journal
    wake_up_at = journal.history.naps.get(nap_id)
    if wake_up_at is None:
        with frame.operations.operation("nap", nap_id):
            wake_up_at = in_milliseconds(journal.clock.now() + span)
            wake_up_at = await frame.record(journal.save_nap(nap_id, wake_up_at))
    await frame.doze("nap", nap_id, wake_up_at)

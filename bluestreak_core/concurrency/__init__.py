"""What the engine needs beyond asyncio: cancellation, wake-ups, races and outages of a store."""

from bluestreak_core.concurrency.cancellation import (
    cancel_all,
    cancel_once,
    cancellations,
    end_all,
    finish_despite_cancel,
    wait_ended,
)
from bluestreak_core.concurrency.event_loop import HomeLoop, running_loop
from bluestreak_core.concurrency.outage import pauses, until_answered
from bluestreak_core.concurrency.race import first_of
from bluestreak_core.concurrency.wake_up import WakeUp

__all__ = [
    "HomeLoop",
    "WakeUp",
    "cancel_all",
    "cancel_once",
    "cancellations",
    "end_all",
    "finish_despite_cancel",
    "first_of",
    "pauses",
    "running_loop",
    "until_answered",
    "wait_ended",
]

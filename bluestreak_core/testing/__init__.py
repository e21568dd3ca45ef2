"""Tools for testing workflows and for proving stores. Needs pytest; nothing else imports it."""

from bluestreak_core.testing.around import RecordingStore, StoreAround
from bluestreak_core.testing.clock import ManualClock
from bluestreak_core.testing.contract import StoreContract

__all__ = ["ManualClock", "RecordingStore", "StoreAround", "StoreContract"]

"""The crash sweep: a workflow is run with a crash at each of its store calls."""

from bluestreak_core.testing.sweep.rerun import CrashPoint
from bluestreak_core.testing.sweep.sweep import CrashUnsafe, Sweep, crash_everywhere

__all__ = ["CrashPoint", "CrashUnsafe", "Sweep", "crash_everywhere"]

"""Tools for testing workflows and for proving stores.

The contracts need pytest, and the plugin is for it; the others do without.
"""

from bluestreak_core.testing.around import RecordingStore, StoreAround
from bluestreak_core.testing.clock import ManualClock
from bluestreak_core.testing.contract import StoreContract
from bluestreak_core.testing.environment import Environment, HandlerPolicy, Outcome
from bluestreak_core.testing.faulty import Fault, FaultyStore, Injected
from bluestreak_core.testing.fork_contract import ForkContract
from bluestreak_core.testing.process import Process
from bluestreak_core.testing.renewer_contract import RenewerContract
from bluestreak_core.testing.rerun import CrashPoint
from bluestreak_core.testing.rule import RuleBroken
from bluestreak_core.testing.search_contract import SearchContract
from bluestreak_core.testing.stuck import Stuck
from bluestreak_core.testing.sweep import CrashUnsafe, Sweep, crash_everywhere
from bluestreak_core.testing.transaction_contract import Application, TransactionContract
from bluestreak_core.testing.virtual_time import VirtualClock, VirtualLoop
from bluestreak_core.testing.watch import StepCall

__all__ = [
    "Application",
    "CrashPoint",
    "CrashUnsafe",
    "Environment",
    "Fault",
    "FaultyStore",
    "ForkContract",
    "HandlerPolicy",
    "Injected",
    "ManualClock",
    "Outcome",
    "Process",
    "RecordingStore",
    "RenewerContract",
    "RuleBroken",
    "SearchContract",
    "StepCall",
    "StoreAround",
    "StoreContract",
    "Stuck",
    "Sweep",
    "TransactionContract",
    "VirtualClock",
    "VirtualLoop",
    "crash_everywhere",
]

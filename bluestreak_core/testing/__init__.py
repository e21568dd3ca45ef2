"""Tools for testing workflows and for proving stores.

Only the contracts and the plugin need pytest. `virtual` has the environment, `sweep` the crash
sweep, `contract` the suites for stores.
"""

from bluestreak_core.run import HandlerPolicy
from bluestreak_core.store import StoreWrapper
from bluestreak_core.testing.clock import ManualClock
from bluestreak_core.testing.contract import (
    Application,
    ChildrenContract,
    ForkContract,
    MessageContract,
    PruningContract,
    PublishingContract,
    RenewerContract,
    RestartContract,
    RuleBroken,
    SearchContract,
    StoreContract,
    TransactionContract,
)
from bluestreak_core.testing.faulty_store import Fault, FaultyStore, Injected
from bluestreak_core.testing.recording_store import RecordingStore
from bluestreak_core.testing.sweep import CrashPoint, CrashUnsafe, Sweep, crash_everywhere
from bluestreak_core.testing.virtual import (
    Environment,
    Outcome,
    Process,
    StepCall,
    Stuck,
    VirtualClock,
    VirtualLoop,
)

__all__ = [
    "Application",
    "ChildrenContract",
    "CrashPoint",
    "CrashUnsafe",
    "Environment",
    "Fault",
    "FaultyStore",
    "ForkContract",
    "HandlerPolicy",
    "Injected",
    "ManualClock",
    "MessageContract",
    "Outcome",
    "Process",
    "PruningContract",
    "PublishingContract",
    "RecordingStore",
    "RenewerContract",
    "RestartContract",
    "RuleBroken",
    "SearchContract",
    "StepCall",
    "StoreContract",
    "StoreWrapper",
    "Stuck",
    "Sweep",
    "TransactionContract",
    "VirtualClock",
    "VirtualLoop",
    "crash_everywhere",
]

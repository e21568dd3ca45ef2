"""Workflows in virtual time: `Environment`, and the parts that it is made of.

`time` has an event loop whose time jumps, `process` the processes in it that can be killed, `stage`
drives the loop, `fleet` runs the workers, and `stuck` names the places where code waits in vain.
"""

from bluestreak_core.testing.virtual.environment import Environment
from bluestreak_core.testing.virtual.outcome import Outcome
from bluestreak_core.testing.virtual.process import Process, ProcessState
from bluestreak_core.testing.virtual.stuck import Stuck
from bluestreak_core.testing.virtual.time import VirtualClock, VirtualLoop
from bluestreak_core.testing.virtual.watch import StepCall

__all__ = [
    "Environment",
    "Outcome",
    "Process",
    "ProcessState",
    "StepCall",
    "Stuck",
    "VirtualClock",
    "VirtualLoop",
]

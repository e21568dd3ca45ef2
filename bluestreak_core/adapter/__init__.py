"""Tools for authors of stores: what every store on a server needs and need not write itself."""

from bluestreak_core.adapter.extra import needing
from bluestreak_core.adapter.group_commit import GroupCommit, Outcome
from bluestreak_core.adapter.server_clock import JUMP, ServerClock
from bluestreak_core.adapter.timekeeper import Timekeeper

__all__ = ["JUMP", "GroupCommit", "Outcome", "ServerClock", "Timekeeper", "needing"]

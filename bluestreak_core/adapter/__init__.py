"""Tools for authors of stores: what every store on a server needs and need not write itself."""

from bluestreak_core.adapter.extra import needing
from bluestreak_core.adapter.group_commit import GroupCommit, Outcome
from bluestreak_core.adapter.plain_json import (
    from_json,
    record_from_columns,
    record_from_json,
    record_to_columns,
    record_to_json,
    to_columns,
    to_json,
)
from bluestreak_core.adapter.server_clock import JUMP, ServerClock
from bluestreak_core.adapter.timekeeper import Timekeeper

__all__ = [
    "JUMP",
    "GroupCommit",
    "Outcome",
    "ServerClock",
    "Timekeeper",
    "from_json",
    "needing",
    "record_from_columns",
    "record_from_json",
    "record_to_columns",
    "record_to_json",
    "to_columns",
    "to_json",
]

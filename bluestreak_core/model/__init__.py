"""The records that the engine and the stores exchange.

Instants end in `_at` and are aware, in UTC, in whole milliseconds. Spans are `timedelta`. Records
are immutable: use `dataclasses.replace` to derive a changed one.
"""

from bluestreak_core.model.claim import Claim, ClaimRequest
from bluestreak_core.model.error import ErrorRecord, FailedChild, FailedStep, Failure
from bluestreak_core.model.message import NewMessage, NoMessage, Receipt
from bluestreak_core.model.record import BEGUN, WAITING, Attempt, History, Nap, Step
from bluestreak_core.model.status import Status
from bluestreak_core.model.worker import RunEnd, RunInFlight, WorkerRecord, WorkerState
from bluestreak_core.model.workflow import (
    Beat,
    ClaimEntry,
    NewWorkflow,
    OnParentEnd,
    Parent,
    Published,
    Standing,
    Workflow,
)

__all__ = [
    "BEGUN",
    "WAITING",
    "Attempt",
    "Beat",
    "Claim",
    "ClaimEntry",
    "ClaimRequest",
    "ErrorRecord",
    "FailedChild",
    "FailedStep",
    "Failure",
    "History",
    "Nap",
    "NewMessage",
    "NewWorkflow",
    "NoMessage",
    "OnParentEnd",
    "Parent",
    "Published",
    "Receipt",
    "RunEnd",
    "RunInFlight",
    "Standing",
    "Status",
    "Step",
    "WorkerRecord",
    "WorkerState",
    "Workflow",
]

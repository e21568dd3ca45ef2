"""Bluestreak: durable execution for plain async functions, over any store.

Read it in this order: `model`, `machine`, `store`, `bluestreak_memory.store`, `run`, `worker`.
"""

from bluestreak_core.argument import Duration
from bluestreak_core.bluestreak import Bluestreak
from bluestreak_core.clock import Clock, SystemClock
from bluestreak_core.context import Context, Handler
from bluestreak_core.errors import (
    AlreadyPolling,
    BluestreakError,
    ClaimLost,
    CorruptDocument,
    DuplicateNap,
    DuplicateStep,
    HandlerAlreadyRegistered,
    HandlerNotFound,
    InvalidArgument,
    InvalidDuration,
    InvalidHandler,
    InvalidId,
    NotInitialised,
    StateError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    TransitionRefused,
    UnstorableValue,
    UsageError,
    ValueTooLarge,
    WaitTimeout,
    WorkflowAborted,
    WorkflowCrashed,
    WorkflowNotFound,
)
from bluestreak_core.hints import Hints
from bluestreak_core.model import (
    Claim,
    ClaimEntry,
    ErrorRecord,
    Failure,
    History,
    Nap,
    NewWorkflow,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.run import ErrorCallback
from bluestreak_core.store import Renewer, RenewsFromThread, Store
from bluestreak_core.values import MAX_VALUE_BYTES, PlainRules, ValueRules
from bluestreak_core.worker import Health, ShouldStop, State

__all__ = [
    "MAX_VALUE_BYTES",
    "AlreadyPolling",
    "Bluestreak",
    "BluestreakError",
    "Claim",
    "ClaimEntry",
    "ClaimLost",
    "Clock",
    "Context",
    "CorruptDocument",
    "DuplicateNap",
    "DuplicateStep",
    "Duration",
    "ErrorCallback",
    "ErrorRecord",
    "Failure",
    "Handler",
    "HandlerAlreadyRegistered",
    "HandlerNotFound",
    "Health",
    "Hints",
    "History",
    "InvalidArgument",
    "InvalidDuration",
    "InvalidHandler",
    "InvalidId",
    "Nap",
    "NewWorkflow",
    "NotInitialised",
    "PlainRules",
    "Renewer",
    "RenewsFromThread",
    "ShouldStop",
    "State",
    "StateError",
    "Status",
    "Step",
    "Store",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "SystemClock",
    "TransitionRefused",
    "UnstorableValue",
    "UsageError",
    "ValueRules",
    "ValueTooLarge",
    "WaitTimeout",
    "Workflow",
    "WorkflowAborted",
    "WorkflowCrashed",
    "WorkflowNotFound",
]

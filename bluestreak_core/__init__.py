"""Bluestreak: durable execution for plain async functions, over any store.

Read it in this order: `model`, `machine`, `store`, `bluestreak_memory.store`; then `lease`,
`journal`, `operations`, `exit`, `context`, `run`, `worker`.
"""

from typing import TYPE_CHECKING

from bluestreak_core.argument import Duration
from bluestreak_core.bluestreak import Bluestreak
from bluestreak_core.client.client import Start
from bluestreak_core.client.timeline import EventKind, Timeline, TimelineEvent
from bluestreak_core.clock import Clock, SystemClock
from bluestreak_core.codec.codec import Codec, PlainCodec
from bluestreak_core.errors import (
    Abort,
    AlreadyPolling,
    BluestreakError,
    ClaimLost,
    CorruptDocument,
    DeadlineExceeded,
    DuplicateNap,
    DuplicateStep,
    HandlerAlreadyRegistered,
    HandlerNotFound,
    HandlerNotRegistered,
    InvalidArgument,
    InvalidDuration,
    InvalidHandler,
    InvalidId,
    InvalidValue,
    NotAwaited,
    NotInitialised,
    StateError,
    StepFailed,
    StepNotRecorded,
    StepTimeout,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    TransitionRefused,
    UnstorableValue,
    Unsupported,
    UsageError,
    UsedInTransaction,
    ValueTooLarge,
    WaitTimeout,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowConflict,
    WorkflowCrashed,
    WorkflowNotFound,
    WrongEventLoop,
)
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimEntry,
    ClaimRequest,
    ErrorRecord,
    FailedStep,
    Failure,
    History,
    Nap,
    NewWorkflow,
    Standing,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.retry import Backoff, Retry
from bluestreak_core.run.context import Context
from bluestreak_core.run.handler import ErrorCallback, Handler, HandlerPolicy
from bluestreak_core.store.hints import Hints
from bluestreak_core.store.powers import (
    Renewer,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
    SupportsThreadRenewal,
    SupportsTransactions,
)
from bluestreak_core.store.protocol import Store
from bluestreak_core.store.query import (
    CountBy,
    ListPosition,
    Order,
    Pruned,
    Query,
    Records,
    WorkflowSummary,
)
from bluestreak_core.store.values import MAX_VALUE_BYTES, PlainRules, ValueRules
from bluestreak_core.worker.health import WorkerHealth, WorkerState
from bluestreak_core.worker.stop import ShouldStop

__all__ = [
    "MAX_VALUE_BYTES",
    "Abort",
    "AlreadyPolling",
    "Attempt",
    "Backoff",
    "Bluestreak",
    "BluestreakError",
    "Claim",
    "ClaimEntry",
    "ClaimLost",
    "ClaimRequest",
    "Clock",
    "Codec",
    "Context",
    "CorruptDocument",
    "CountBy",
    "DeadlineExceeded",
    "DuplicateNap",
    "DuplicateStep",
    "Duration",
    "ErrorCallback",
    "ErrorRecord",
    "EventKind",
    "FailedStep",
    "Failure",
    "Handler",
    "HandlerAlreadyRegistered",
    "HandlerNotFound",
    "HandlerNotRegistered",
    "HandlerPolicy",
    "Hints",
    "History",
    "InvalidArgument",
    "InvalidDuration",
    "InvalidHandler",
    "InvalidId",
    "InvalidValue",
    "ListPosition",
    "Nap",
    "NewWorkflow",
    "NotAwaited",
    "NotInitialised",
    "Order",
    "PlainCodec",
    "PlainRules",
    "Pruned",
    "Query",
    "Records",
    "Renewer",
    "Retry",
    "ShouldStop",
    "Standing",
    "Start",
    "StateError",
    "Status",
    "Step",
    "StepFailed",
    "StepNotRecorded",
    "StepTimeout",
    "Store",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "SupportsForks",
    "SupportsPruning",
    "SupportsSearch",
    "SupportsThreadRenewal",
    "SupportsTransactions",
    "SystemClock",
    "Timeline",
    "TimelineEvent",
    "TransitionRefused",
    "UnstorableValue",
    "Unsupported",
    "UsageError",
    "UsedInTransaction",
    "ValueRules",
    "ValueTooLarge",
    "WaitTimeout",
    "WorkerHealth",
    "WorkerState",
    "Workflow",
    "WorkflowAborted",
    "WorkflowCancelled",
    "WorkflowConflict",
    "WorkflowCrashed",
    "WorkflowNotFound",
    "WorkflowSummary",
    "WrongEventLoop",
]

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Look up `__version__` when it is asked for: few programs do, and it reads files."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version  # noqa: PLC0415

        return version("bluestreak")

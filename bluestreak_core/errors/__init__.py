"""The exceptions that Bluestreak raises, and `Abort`, which a handler raises.

Each of Bluestreak's belongs to one of three families: `UsageError` (the caller's mistake),
`StateError` (the world moved on) and `StoreError` (the store is unwell). The facts behind a message
are attributes of the exception.
"""

from bluestreak_core.errors.family import (
    Abort,
    BluestreakError,
    FinalMistakes,
    StateError,
    StoreError,
    UsageError,
)
from bluestreak_core.errors.state import (
    ClaimLost,
    DeadlineExceeded,
    StepFailed,
    StepNotRecorded,
    StepTimeout,
    TransitionRefused,
    WaitTimeout,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowConflict,
    WorkflowCrashed,
    WorkflowNotFound,
)
from bluestreak_core.errors.store import CorruptDocument, StoreRefused, StoreUnavailable
from bluestreak_core.errors.usage import (
    AlreadyPolling,
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
    UnstorableValue,
    Unsupported,
    UsedInTransaction,
    ValueTooLarge,
    WrongEventLoop,
)

__all__ = [
    "Abort",
    "AlreadyPolling",
    "BluestreakError",
    "ClaimLost",
    "CorruptDocument",
    "DeadlineExceeded",
    "DuplicateNap",
    "DuplicateStep",
    "FinalMistakes",
    "HandlerAlreadyRegistered",
    "HandlerNotFound",
    "HandlerNotRegistered",
    "InvalidArgument",
    "InvalidDuration",
    "InvalidHandler",
    "InvalidId",
    "InvalidValue",
    "NotAwaited",
    "NotInitialised",
    "StateError",
    "StepFailed",
    "StepNotRecorded",
    "StepTimeout",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "TransitionRefused",
    "UnstorableValue",
    "Unsupported",
    "UsageError",
    "UsedInTransaction",
    "ValueTooLarge",
    "WaitTimeout",
    "WorkflowAborted",
    "WorkflowCancelled",
    "WorkflowConflict",
    "WorkflowCrashed",
    "WorkflowNotFound",
    "WrongEventLoop",
]

for _error in __all__:  # the path that is stored with a workflow, logged and documented
    globals()[_error].__module__ = __name__

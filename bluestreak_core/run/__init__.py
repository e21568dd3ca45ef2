"""One claimed workflow while it runs.

Read `run`, from the claim to its end, then `handler_call`, which calls the handler, then the room
`context`, which the handler sees. What its verbs do is in `verb`, a module each, and in `structure`
if they have branches. They share a `frame`. A workflow that is to compensate has a
`compensation_call` in place of a `handler_call`, and begins with a `replay`.
"""

from bluestreak_core.run.context import Context
from bluestreak_core.run.handler import (
    ErrorCallback,
    Handler,
    HandlerPolicy,
    Handlers,
    Policy,
    Registration,
)
from bluestreak_core.run.history import SharedHistories
from bluestreak_core.run.hook import CallKind, RunHook, RunInfo, UserCall, Wait, WaitKind
from bluestreak_core.run.info import WorkflowInfo
from bluestreak_core.run.lease import RENEWALS_PER_LEASE, Lease
from bluestreak_core.run.run import Run
from bluestreak_core.run.structure import (
    BranchOutcome,
    BranchStatus,
    Done,
    EndedBy,
    Outcomes,
    Winner,
)
from bluestreak_core.run.verb.child import ChildHandle

__all__ = [
    "RENEWALS_PER_LEASE",
    "BranchOutcome",
    "BranchStatus",
    "CallKind",
    "ChildHandle",
    "Context",
    "Done",
    "EndedBy",
    "ErrorCallback",
    "Handler",
    "HandlerPolicy",
    "Handlers",
    "Lease",
    "Outcomes",
    "Policy",
    "Registration",
    "Run",
    "RunHook",
    "RunInfo",
    "SharedHistories",
    "UserCall",
    "Wait",
    "WaitKind",
    "Winner",
    "WorkflowInfo",
]

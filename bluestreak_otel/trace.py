"""The context of a trace as it is stored with a workflow, and the attributes of spans."""

from __future__ import annotations

import re
from functools import lru_cache

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bluestreak_core.model import Claim

WORKFLOW_ID = "bluestreak.workflow.id"
WORKFLOWS = "bluestreak.workflows"
HANDLER = "bluestreak.handler"
CREATED = "bluestreak.created"
CLAIM_NUMBER = "bluestreak.claim.number"
AFTER_CRASH = "bluestreak.after_crash"
WORKER = "bluestreak.worker"
REPLAY = "bluestreak.replay"
CALL = "bluestreak.call"
STEP_ID = "bluestreak.step.id"
NAP_ID = "bluestreak.nap.id"
WAIT = "bluestreak.wait"
UNTIL = "bluestreak.until"
ATTEMPT = "bluestreak.attempt"
LATENESS = "bluestreak.lateness"
OUTCOME = "bluestreak.outcome"
OPERATION = "bluestreak.operation"
STATUS = "bluestreak.status"
ERROR_TYPE = "error.type"

_NUMBER = re.compile(r"(?<![^\W_])[0-9a-f]*\d[0-9a-f]*(?![^\W_])|\d+")
"""A number, or a word that is hexadecimal."""

_TRACEPARENT = "traceparent"
_W3C = TraceContextTextMapPropagator()


def to_trace() -> str | None:
    """The current span as a `traceparent`; None if there is none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(_TRACEPARENT)


def from_trace(trace: str | None) -> Context:
    """A context with the span of a `traceparent`; an empty one without a valid one."""
    return _W3C.extract({} if trace is None else {_TRACEPARENT: trace}, Context())


def type_of(error: BaseException) -> str:
    """The value of `error.type`."""
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


@lru_cache(maxsize=1024)
def named(kind: str, id: str) -> str:
    """The name of a span: an id with `*` for each number, since tools group spans by name."""
    return f"{kind} {_NUMBER.sub('*', id)}"


def lateness(claim: Claim) -> float | None:
    """For how many seconds a claimed workflow had been due; None if that is not known."""
    workflow, due_at = claim.workflow, claim.due_at
    if due_at is None and workflow.claims == 1:
        due_at = workflow.start_at or workflow.created_at
    if due_at is None or not workflow.claim_log:
        return None
    return max((workflow.claim_log[-1].claimed_at - due_at).total_seconds(), 0.0)


def record_error(span: Span, error: BaseException, *, message: bool = True) -> None:
    """Record an error as the status of a span, and as an exception event if that may be shown."""
    kind = type(error).__name__
    span.set_attribute(ERROR_TYPE, type_of(error))
    if not message:
        span.set_status(Status(StatusCode.ERROR, kind))
        return
    span.set_status(Status(StatusCode.ERROR, f"{kind}: {error}"))
    span.record_exception(error)

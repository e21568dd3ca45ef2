"""The context of a trace as it is stored with a workflow, and the attributes of spans."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

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
OUTCOME = "bluestreak.outcome"
OPERATION = "bluestreak.operation"
STATUS = "bluestreak.status"
ERROR_TYPE = "error.type"

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


def record_error(span: Span, error: BaseException) -> None:
    """Record an error as an exception event and as the status of a span."""
    span.record_exception(error)
    span.set_attribute(ERROR_TYPE, type_of(error))
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))

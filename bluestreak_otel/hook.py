"""Spans and durations of the calls that runs make."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Token
from time import perf_counter
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import (
    Span,
    SpanKind,
    Tracer,
    TracerProvider,
    get_current_span,
    get_tracer,
    set_span_in_context,
)
from typing_extensions import override

from bluestreak_core import (
    CallKind,
    RunHook,
    RunInfo,
    Status,
    UserCall,
    Wait,
    WaitKind,
    Workflow,
)
from bluestreak_core.errors import ClaimLost
from bluestreak_otel import trace
from bluestreak_otel.guard import Guard
from bluestreak_otel.instruments import SCOPE, durations

_IN_RUN = (CallKind.STEP, CallKind.TRANSACTION)


class TelemetryHook(RunHook):
    """Makes a span of each run, and below it of each step, transaction and compensation.

    So have naps and other waits, for the time that they are in memory. `instrument` puts it in
    place; by hand, pass it as `Bluestreak(store, hooks=[TelemetryHook()])`, as the first one, so
    that it sees what other hooks do. Calls that are only replayed have no span, nor have those of a
    run that is not sampled. Where `TelemetryStore` has stored the context of a workflow's start,
    all runs belong to its trace.

    Without `error_messages`, spans have the types of errors, but no messages and no tracebacks.

    The providers are those of `opentelemetry` by default. If one raises, that is logged, and the
    workflow goes on.
    """

    def __init__(
        self,
        *,
        error_messages: bool = True,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._guarded = Guard()
        self._error_messages = error_messages
        self._tracer = get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = get_meter(SCOPE, meter_provider=meter_provider)
        self._runs = durations(
            meter, "bluestreak.run.duration", "How long runs take, from the call of the handler"
        )
        self._steps = durations(
            meter,
            "bluestreak.step.duration",
            "How long the functions of steps, transactions and compensations take",
        )
        self._losses = meter.create_counter(
            "bluestreak.claim.losses",
            "{loss}",
            "Runs that have lost their claim, also by a pause or a cancellation",
        )

    @override
    async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
        if _is_replayed_to_compensate(call):
            return await proceed()
        observed = self._guarded(self._begin, call)
        began_at = perf_counter()
        error: BaseException | None = None
        try:
            return await proceed()
        except BaseException as raised:
            error = raised
            raise
        finally:
            took = perf_counter() - began_at
            if observed is not None:
                self._guarded(observed.end, error)
            self._guarded(self._measure, call, took, error)

    @override
    def waiting(self, run: RunInfo, wait: Wait) -> AbstractContextManager[object]:
        if not get_current_span().is_recording():
            return nullcontext()
        return self._waiting(run, wait)

    @contextmanager
    def _waiting(self, run: RunInfo, wait: Wait) -> Iterator[None]:
        span = self._guarded(self._begin_wait, run.claim.workflow, wait)
        outcome = "finished"
        try:
            yield
        except BaseException as error:
            outcome = _outcome(run, error)
            raise
        finally:
            if span is not None:
                self._guarded(span.set_attribute, trace.OUTCOME, outcome)
                self._guarded(span.end)

    def _begin_wait(self, workflow: Workflow, wait: Wait) -> Span:
        facts: dict[str, str] = {
            trace.WORKFLOW_ID: workflow.workflow_id,
            trace.HANDLER: workflow.handler_id,
            trace.WAIT: wait.kind.value,
            trace.NAP_ID if wait.kind is WaitKind.NAP else trace.STEP_ID: wait.id,
        }
        if wait.until is not None:
            facts[trace.UNTIL] = wait.until.isoformat()
        return self._tracer.start_span(trace.named(wait.kind.value, wait.id), attributes=facts)

    def _begin(self, call: UserCall) -> _Observed | None:
        """Begin the span of a call; None for what is in a run that is not sampled."""
        if call.kind not in _IN_RUN:
            context = trace.from_trace(call.run.claim.workflow.trace)
        elif get_current_span().is_recording():
            context = get_current()
        else:
            return None
        return _Observed(self._tracer, call, context, error_messages=self._error_messages)

    def _measure(self, call: UserCall, took: float, error: BaseException | None) -> None:
        handler_id = call.run.claim.workflow.handler_id
        if call.kind is CallKind.HANDLER:
            outcome = _outcome(call.run, error)
            self._runs.record(took, {trace.HANDLER: handler_id, trace.OUTCOME: outcome})
            if outcome == "lost":
                self._losses.add(1, {trace.HANDLER: handler_id})
            return
        if call.kind is CallKind.ERROR_CALLBACK:
            return
        facts = {trace.HANDLER: handler_id, trace.CALL: call.kind.value}
        if error is not None:
            facts[trace.ERROR_TYPE] = trace.type_of(error)
        self._steps.record(took, facts)


class _Observed:
    """One call with its span, which is the current one until `end`."""

    def __init__(
        self, tracer: Tracer, call: UserCall, context: Context, *, error_messages: bool
    ) -> None:
        self._call = call
        self._error_messages = error_messages
        self._span: Span = tracer.start_span(
            _name(call),
            context=context,
            kind=SpanKind.CONSUMER if call.kind is CallKind.HANDLER else SpanKind.INTERNAL,
            attributes=_attributes(call),
        )
        self._token: Token[Context] = attach(set_span_in_context(self._span))

    def end(self, error: BaseException | None) -> None:
        """End the span of a call that has returned, or raised an error."""
        detach(self._token)
        try:
            if self._span.is_recording():
                self._note(error)
        finally:
            self._span.end()

    def _note(self, error: BaseException | None) -> None:
        outcome = _outcome(self._call.run, error)
        self._span.set_attribute(trace.OUTCOME, outcome)
        if error is not None and outcome == "failed":
            trace.record_error(self._span, error, message=self._error_messages)


def _is_replayed_to_compensate(call: UserCall) -> bool:
    is_handler = call.kind is CallKind.HANDLER
    return is_handler and call.run.claim.workflow.status is Status.COMPENSATING


def _name(call: UserCall) -> str:
    if call.kind is CallKind.HANDLER:
        return f"run {call.run.claim.workflow.handler_id}"
    return call.kind.value if call.step_id is None else trace.named(call.kind.value, call.step_id)


def _attributes(call: UserCall) -> dict[str, str | int | float | bool]:
    workflow = call.run.claim.workflow
    facts: dict[str, str | int | float | bool] = {
        trace.WORKFLOW_ID: workflow.workflow_id,
        trace.HANDLER: workflow.handler_id,
    }
    if call.step_id is not None:
        facts[trace.STEP_ID] = call.step_id
    if call.attempt is not None:
        facts[trace.ATTEMPT] = call.attempt
    if call.kind is not CallKind.HANDLER:
        facts[trace.CALL] = call.kind.value
        return facts
    history = call.run.history
    facts[trace.CLAIM_NUMBER] = workflow.claims
    facts[trace.REPLAY] = bool(history.steps or history.naps or history.attempts)
    facts[trace.AFTER_CRASH] = bool(workflow.claim_log) and workflow.claim_log[-1].after_crash
    if workflow.worker is not None:
        facts[trace.WORKER] = workflow.worker
    if (late := trace.lateness(call.run.claim)) is not None:
        facts[trace.LATENESS] = late
    return facts


def _outcome(run: RunInfo, error: BaseException | None) -> str:
    """How a call or a wait has ended: a run that is cancelled has parked, or was released."""
    if error is None:
        return "finished"
    if isinstance(error, ClaimLost) or run.lease.loss is not None:
        return "lost"
    return "failed" if isinstance(error, Exception) else "suspended"

"""A store around a store that begins traces, and measures workflows and store calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Token
from dataclasses import replace
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import Counter, MeterProvider, get_meter
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

from bluestreak_core.errors import StoreError
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    ErrorRecord,
    Failure,
    NewWorkflow,
)
from bluestreak_core.store import Store, StoreWrapper
from bluestreak_core.store.wrapper import UNCOUNTED
from bluestreak_otel import trace
from bluestreak_otel.guard import Guard
from bluestreak_otel.instruments import SCOPE, durations

T = TypeVar("T")


class TelemetryStore(StoreWrapper):
    """Passes every call to another store, and makes a span of each start of workflows.

    The context of that span is stored with the workflow, and its runs continue the trace in
    whichever process they are. Take it for each process that starts workflows, and for workers,
    which start children and whose claims it counts.

    `store_calls` adds the duration of each call of the store, and a span if there is one above it.

    The providers are those of `opentelemetry` by default. If one raises, that is logged, and the
    call goes on.
    """

    def __init__(
        self,
        store: Store,
        *,
        store_calls: bool = False,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__(store)
        self._guarded = Guard()
        self._store_calls = store_calls
        self._tracer = get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = get_meter(SCOPE, meter_provider=meter_provider)
        self._created = meter.create_counter(
            "bluestreak.workflow.created", "{workflow}", "Workflows that were created"
        )
        self._claims = meter.create_counter(
            "bluestreak.workflow.claims", "{claim}", "Claims of workflows"
        )
        self._lateness = durations(
            meter, "bluestreak.workflow.lateness", "From the due time of a workflow to its claim"
        )
        self._ended = meter.create_counter(
            "bluestreak.workflow.ended", "{workflow}", "Runs that ended a workflow or a try of it"
        )
        self._retries = meter.create_counter(
            "bluestreak.step.retries", "{retry}", "Attempts of steps that another one follows"
        )
        self._durations = durations(
            meter, "bluestreak.store.duration", "How long calls of the store take"
        )
        self._errors = meter.create_counter(
            "bluestreak.store.errors", "{error}", "Calls that the store has failed or refused"
        )

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if self._store_calls and name not in UNCOUNTED:
            call = partial(self._measured, name, call)
        try:
            return await call()
        except StoreError as error:
            facts = {trace.OPERATION: name, trace.ERROR_TYPE: trace.type_of(error)}
            self._guarded(self._errors.add, 1, facts)
            raise

    async def _measured(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        span = self._guarded(self._span, name)
        began_at = perf_counter()
        try:
            return await call()
        except Exception as error:
            if span is not None:
                self._guarded(trace.record_error, span, error)
            raise
        finally:
            took = perf_counter() - began_at
            self._guarded(self._durations.record, took, {trace.OPERATION: name})
            if span is not None:
                self._guarded(span.end)

    @override
    async def create(self, new: NewWorkflow) -> bool:
        with self._started(f"start {new.handler_id}", [new]) as start:
            created = await super().create(*start.new)
            start.note([created])
        return created

    @override
    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        with self._started("start many", new) as start:
            created = await super().create_many(start.new)
            start.note(created)
        return created

    @override
    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        with self._started(f"start {new.handler_id}", [new]) as start:
            created = await super().create_in(session, *start.new)
            start.note([created])
        return created

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        claims = await super().claim(request)
        for claim in claims:
            self._guarded(self._note_claim, claim)
        return claims

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        await super().finish(claim, result, now)
        self._note_end(claim, "finished")

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await super().fail(claim, failure, now)
        self._note_end(claim, "aborted" if failure.retry_at is None else "failed")

    @override
    async def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        await super().give_up(claim, error, now)
        self._note_end(claim, "compensating")

    @override
    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        await super().end_compensated(claim, now)
        outcome = claim.workflow.outcome
        self._note_end(claim, "aborted" if outcome is None else outcome.value)

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        saved = await super().save_attempt(claim, attempt)
        if saved.number > 0 and saved.retry_at is not None:  # the others are no attempts that ended
            self._guarded(self._retries.add, 1, {trace.HANDLER: claim.workflow.handler_id})
        return saved

    def _note_claim(self, claim: Claim) -> None:
        workflow = claim.workflow
        after_crash = bool(workflow.claim_log) and workflow.claim_log[-1].after_crash
        facts: dict[str, str | bool] = {
            trace.HANDLER: workflow.handler_id,
            trace.AFTER_CRASH: after_crash,
        }
        self._claims.add(1, facts)
        if (late := trace.lateness(claim)) is not None:
            self._lateness.record(late, facts)

    def _note_end(self, claim: Claim, status: str) -> None:
        facts = {trace.HANDLER: claim.workflow.handler_id, trace.STATUS: status}
        self._guarded(self._ended.add, 1, facts)

    def _span(self, name: str) -> Span | None:
        if not get_current_span().is_recording():
            return None
        facts = {trace.OPERATION: name}
        return self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=facts)

    @contextmanager
    def _started(self, name: str, new: Sequence[NewWorkflow]) -> Iterator[_Start]:
        """A span around the creation of workflows, whose context they take along."""
        start = _Start(new, self._created, self._guarded)
        self._guarded(start.begin, self._tracer, name)
        try:
            yield start
        except BaseException as error:
            self._guarded(start.fail, error)
            raise
        finally:
            self._guarded(start.end)


class _Start:
    """A call that creates workflows, with its span."""

    def __init__(self, new: Sequence[NewWorkflow], created: Counter, guard: Guard) -> None:
        self.new = new
        """The workflows to create, with the context of the span."""
        self._created = created
        self._guarded = guard
        self._span: Span | None = None
        self._token: Token[Context] | None = None

    def begin(self, tracer: Tracer, name: str) -> None:
        facts: dict[str, str | int] = {trace.WORKFLOWS: len(self.new)}
        if len(self.new) == 1:
            facts[trace.WORKFLOW_ID] = self.new[0].workflow_id
            facts[trace.HANDLER] = self.new[0].handler_id
        self._span = tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=facts)
        self._token = attach(set_span_in_context(self._span))
        traceparent = trace.to_trace()
        self.new = [replace(workflow, trace=traceparent) for workflow in self.new]

    def note(self, created: Sequence[bool]) -> None:
        """Count what was created, and is no repeat."""
        self._guarded(self._note, created)

    def _note(self, created: Sequence[bool]) -> None:
        if self._span is not None:
            self._span.set_attribute(trace.CREATED, sum(created))
        for workflow, is_new in zip(self.new, created, strict=True):
            if is_new:
                self._created.add(1, {trace.HANDLER: workflow.handler_id})

    def fail(self, error: BaseException) -> None:
        if self._span is not None and isinstance(error, Exception):
            trace.record_error(self._span, error)

    def end(self) -> None:
        if self._token is not None:
            detach(self._token)
        if self._span is not None:
            self._span.end()

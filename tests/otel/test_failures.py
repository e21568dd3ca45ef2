"""Telemetry that fails anywhere leaves workflows as they are, and is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn, cast

import pytest
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import NoOpTracerProvider, TracerProvider

from bluestreak_core import Context, Retry
from bluestreak_core.testing import Environment, Outcome
from bluestreak_memory import MemoryStore
from bluestreak_otel import TelemetryHook, TelemetryStore


def fail(*_: Any, **__: Any) -> NoReturn:
    raise OSError("telemetry is broken")


class Failing:
    """Is what it stands for, except that some of its methods raise."""

    def __init__(self, real: Any, methods: frozenset[str]) -> None:
        self._real = real
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        if name in self._methods:
            return fail
        value = getattr(self._real, name)
        if name not in _MAKERS:
            return value
        return lambda *args, **options: Failing(value(*args, **options), self._methods)


_MAKERS = frozenset({"get_tracer", "start_span", "get_meter", "create_histogram", "create_counter"})


def broken_tracers(*methods: str) -> TracerProvider:
    real = SdkTracerProvider(shutdown_on_exit=False)
    return cast(TracerProvider, Failing(real, frozenset(methods)))


def broken_meters(*methods: str) -> MeterProvider:
    return cast(MeterProvider, Failing(NoOpMeterProvider(), frozenset(methods)))


def broken_exporter() -> TracerProvider:
    exporter: Any = Failing(SpanExporter(), frozenset({"export"}))
    provider = SdkTracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


class Flaky:
    """Fails once."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionError
        return self.calls


def outcome(tracers: TracerProvider, meters: MeterProvider) -> Outcome:
    """What becomes of a workflow that uses all that has a span."""
    pay = Flaky()

    async def undo() -> None:
        """Stands for what undoes a step."""

    async def child(ctx: Context, input: None) -> str:
        return await ctx.step("greet", str, "child")

    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("book", undo)
        await ctx.step("pay", pay, retry=Retry(max_attempts=2, initial=1))
        await ctx.sleep("nap", 3600)
        await ctx.child("child", child)
        await ctx.receive("answer", "message", timeout=5)

    def store(clock: Any) -> TelemetryStore:
        return TelemetryStore(
            MemoryStore(clock=clock),
            store_calls=True,
            tracer_provider=tracers,
            meter_provider=meters,
        )

    hook = TelemetryHook(tracer_provider=tracers, meter_provider=meters)
    with Environment(store=store, hooks=[hook], max_failures=0) as env:
        env.register_handler("child", child)
        return env.run(handle)


def facts_of(found: Outcome) -> tuple[object, ...]:
    """What must not depend on telemetry."""
    workflow = found.workflow
    error = workflow.error and workflow.error.type
    return workflow.status, workflow.claims, workflow.failures, error, list(found.calls)


BROKEN: dict[str, Callable[[], tuple[TracerProvider, MeterProvider]]] = {
    "tracer": lambda: (broken_tracers("start_span"), NoOpMeterProvider()),
    "span": lambda: (broken_tracers("set_attribute", "is_recording"), NoOpMeterProvider()),
    "end": lambda: (broken_tracers("end", "record_exception"), NoOpMeterProvider()),
    "meter": lambda: (NoOpTracerProvider(), broken_meters("add", "record")),
    "exporter": lambda: (broken_exporter(), NoOpMeterProvider()),
}


@pytest.fixture(scope="module")
def undisturbed() -> Outcome:
    return outcome(NoOpTracerProvider(), NoOpMeterProvider())


@pytest.mark.parametrize("part", BROKEN)
def test_broken_telemetry_changes_nothing_and_is_logged(
    part: str, undisturbed: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        disturbed = outcome(*BROKEN[part]())
    assert facts_of(disturbed) == facts_of(undisturbed)
    logged = [record for record in caplog.records if "bluestreak_core" not in record.name]
    assert logged
    assert all(record.exc_info for record in logged)

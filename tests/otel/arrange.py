"""Providers that keep what they get in memory, and ways to look at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler
from opentelemetry.trace import SpanContext

from bluestreak_core import Context, Store
from bluestreak_otel import TelemetryHook, TelemetryStore


async def greet(ctx: Context, name: str) -> str:
    return await ctx.step("greet", "Good day, {}.".format, name)


def refuse() -> NoReturn:
    raise ValueError("broken for good")


@dataclass
class Telemetry:
    """A hook and stores whose spans and metrics stay in memory."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    sampler: Sampler = DEFAULT_ON

    def __post_init__(self) -> None:
        self.tracers = TracerProvider(self.sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.hook = TelemetryHook(tracer_provider=self.tracers, meter_provider=self.meters)

    def store(self, store: Store, *, store_calls: bool = False) -> TelemetryStore:
        return TelemetryStore(
            store,
            store_calls=store_calls,
            tracer_provider=self.tracers,
            meter_provider=self.meters,
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, by the instant at which they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def span(self, name: str) -> ReadableSpan:
        """The one span of a name."""
        [span] = [span for span in self.spans if span.name == name]
        return span

    def points(self, name: str) -> dict[frozenset[tuple[str, Any]], float]:
        """What a metric has counted, by attributes; for a histogram the number of values."""
        return {
            frozenset((point.attributes or {}).items()): (
                point.count if isinstance(point, HistogramDataPoint) else point.value
            )
            for point in self._points(name)
        }

    def total(self, name: str) -> float:
        """The sum of what a histogram has measured."""
        return float(sum(point.sum for point in self._points(name)))

    def _points(self, name: str) -> Iterator[Any]:
        data = self.reader.get_metrics_data()
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        yield from metric.data.data_points


def facts(**attributes: Any) -> frozenset[tuple[str, Any]]:
    """Attributes of ours by their last names, with `_` for `.`; `error_type` is OpenTelemetry's."""
    return frozenset(_named(attributes).items())


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "error.type" if name == "error_type" else f"bluestreak.{name}": value
        for name, value in attributes.items()
    }


def attributes_of(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def parent_of(span: ReadableSpan) -> int | None:
    """The id of the span above."""
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    return _context(span).span_id


def traces_of(*spans: ReadableSpan) -> set[int]:
    """The ids of the traces that spans belong to."""
    return {_context(span).trace_id for span in spans}


def _context(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context

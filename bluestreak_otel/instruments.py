"""How the instruments of this package are made."""

from __future__ import annotations

from opentelemetry.metrics import Histogram, Meter

SCOPE = "bluestreak"
"""The name of the tracer and of the meter."""

_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 300.0, 1800.0, 3600.0),
)
"""Buckets for durations: OpenTelemetry's own are for milliseconds."""


def durations(meter: Meter, name: str, what: str) -> Histogram:
    """A histogram of seconds."""
    return meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=_SECONDS)

"""Traces and metrics of workflows, by OpenTelemetry."""

from bluestreak_core.adapter import needing

with needing("otel", "opentelemetry"):
    from bluestreak_otel.hook import TelemetryHook
    from bluestreak_otel.instrument import instrument
    from bluestreak_otel.store import TelemetryStore

__all__ = ["TelemetryHook", "TelemetryStore", "instrument"]

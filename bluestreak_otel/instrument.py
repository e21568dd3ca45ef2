"""Traces and metrics of a client or a worker by one call."""

from __future__ import annotations

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from bluestreak_core import Bluestreak, Client, Store
from bluestreak_otel.hook import TelemetryHook
from bluestreak_otel.store import TelemetryStore


def instrument(
    client: Client,
    *,
    store_calls: bool = False,
    error_messages: bool = True,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Report what a `Client` starts, and what a `Bluestreak` runs, to OpenTelemetry.

    Call this before `init`. A repeated call changes nothing. It puts a `TelemetryStore` around the
    store and, for a `Bluestreak`, a `TelemetryHook` around the other hooks; see there for the
    arguments.
    """

    def wrap(store: Store) -> Store:
        if isinstance(store, TelemetryStore):
            return store
        return TelemetryStore(
            store,
            store_calls=store_calls,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
        )

    client.wrap_store(wrap)
    if isinstance(client, Bluestreak) and not _has_hook(client):
        hook = TelemetryHook(
            error_messages=error_messages,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
        )
        client.add_hook(hook)


def _has_hook(bluestreak: Bluestreak) -> bool:
    return any(isinstance(hook, TelemetryHook) for hook in bluestreak.hooks)

"""A worker that dies in a step: `python -m tests.otel.program URL DATABASE`.

It prints each span that has ended as a line of JSON.
"""

from __future__ import annotations

import asyncio
import os
import sys

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import MongoStore
from bluestreak_otel import TelemetryHook, TelemetryStore


def _line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"


def die() -> None:
    """End this process at once, as a crash does."""
    os._exit(9)


async def steps(ctx: Context, input: None) -> str:
    """Two steps; here, the second one does not return."""
    first = await ctx.step("first", str, 1)
    await ctx.step("second", die)
    return first


async def work(url: str, database: str) -> None:
    """Poll until the step ends this process."""
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=_line)))
    store = TelemetryStore(MongoStore(url, database=database), tracer_provider=tracers)
    hooks = [TelemetryHook(tracer_provider=tracers)]
    async with Bluestreak(store, hooks=hooks, timeout_interval=3600) as bluestreak:
        bluestreak.register_handler("steps", steps)
        await bluestreak.poll()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))

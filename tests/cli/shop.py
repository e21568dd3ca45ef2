"""The application that most tests run the command on; its store is in memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from typing_extensions import override

from bluestreak_core import Bluestreak, Client, Context
from bluestreak_core.store import StoreWrapper
from bluestreak_memory import MemoryStore

ANSWER = "answer"


def register(bluestreak: Bluestreak) -> Bluestreak:
    """Give it the handlers of the shop."""

    @bluestreak.handler("fulfil")
    async def fulfil(ctx: Context, order: Any) -> Any:
        await ctx.step("charge", lambda: "receipt-1")
        await ctx.publish("progress", "charged")
        return await ctx.step("ship", lambda: order)

    @bluestreak.handler("wait")
    async def wait(ctx: Context, input: Any) -> Any:
        return await ctx.receive("mail", "paid")

    @bluestreak.handler("ask")
    async def ask(ctx: Context, input: Any) -> Any:
        return await ctx.callback(ANSWER, tokens.append)

    @bluestreak.handler("break")
    async def break_(ctx: Context, text: str) -> None:
        raise ValueError(text)

    @bluestreak.handler("parent")
    async def parent(ctx: Context, input: Any) -> Any:
        await ctx.start_child("child", "wait", None, workflow_id="child")
        return await ctx.receive("mail", "paid")

    @bluestreak.handler("linger")
    async def linger(ctx: Context, path: str) -> str:
        return await ctx.step("linger", wait_for, path)

    @bluestreak.handler("block")
    async def block(ctx: Context, path: str) -> None:
        while not Path(path).exists():  # noqa: ASYNC240 - it blocks, which is the fault
            time.sleep(0.01)  # noqa: ASYNC251

    return bluestreak


async def wait_for(path: str) -> str:
    """Wait until a file exists."""
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240 - what it waits for is a file
        await asyncio.sleep(0.01)
    return "done"


tokens: list[str] = []
bluestreak = register(Bluestreak(MemoryStore(), max_failures=0))
client = Client(MemoryStore())
number = 5


def factory() -> Bluestreak:
    return bluestreak


def on_mongo() -> Bluestreak:
    """On the server and the database of the environment."""
    from bluestreak_mongo import MongoStore  # noqa: PLC0415 - slow, and rarely needed

    url, database = os.environ["TEST_URL"], os.environ["TEST_DATABASE"]
    found = Bluestreak(MongoStore(url, database=database), poll_interval=1, timeout_interval=1)
    return register(found)


def measured() -> Bluestreak:
    """As `on_mongo`, with metrics of its own and those of OpenTelemetry."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from prometheus_client import Counter  # noqa: PLC0415

    from bluestreak_mongo import MongoStore  # noqa: PLC0415
    from bluestreak_otel import TelemetryHook, TelemetryStore  # noqa: PLC0415

    Counter("kites", "Kites", ["process"]).labels("folding").inc(3)
    meters = MeterProvider([PrometheusMetricReader()])
    url, database = os.environ["TEST_URL"], os.environ["TEST_DATABASE"]
    store = TelemetryStore(MongoStore(url, database=database), meter_provider=meters)
    return register(Bluestreak(store, hooks=[TelemetryHook(meter_provider=meters)]))


class Sluggish(StoreWrapper):
    """A store that stops to answer once a file exists."""

    def __init__(self, path: str) -> None:
        super().__init__(MemoryStore())
        self._path = path

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if Path(self._path).exists():  # noqa: ASYNC240 - as in wait_for
            await asyncio.Event().wait()
        return await call()


def sluggish() -> Bluestreak:
    store = Sluggish(os.environ["TEST_SILENT"])
    return register(Bluestreak(store, poll_interval=0.1, timeout_interval=1, drain_timeout=0))


def broken() -> Bluestreak:
    raise RuntimeError("no \x1b[31mpassword")

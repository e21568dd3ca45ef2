"""A workflow whose first worker dies is one trace, over processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import MongoStore
from tests.otel.arrange import Telemetry, attributes_of, id_of, parent_of, traces_of

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("unmeasured")]

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds


async def steps(ctx: Context, input: None) -> str:
    first = await ctx.step("first", str, 1)
    return first + await ctx.step("second", str, 2)


def test_a_crash_and_a_take_over_are_one_trace_without_doubles(
    mongodb_url: str,
    mongodb: MongoClient[dict[str, Any]],
    empty_database: str,
    telemetry: Telemetry,
) -> None:
    def bluestreak() -> Bluestreak:
        store = telemetry.store(MongoStore(mongodb_url, database=empty_database))
        return Bluestreak(store, hooks=[telemetry.hook])

    async def start() -> None:
        async with bluestreak() as client:
            await client.start("w", "steps")

    async def run() -> Any:
        async with bluestreak() as worker:
            worker.register_handler("steps", steps)
            polling = asyncio.create_task(worker.poll())
            result = await worker.wait("w", timeout=PATIENCE)
            worker.stop()
            await polling
            return result

    asyncio.run(start())
    died = subprocess.run(
        [sys.executable, "-m", "tests.otel.program", mongodb_url, empty_database],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert died.returncode == 9, died.stderr
    # Its lease would last for an hour.
    past = datetime(2020, 1, 1, tzinfo=UTC)
    mongodb[empty_database].workflows.update_one({}, {"$set": {"timeoutAt": past}})
    assert asyncio.run(run()) == "12"

    [first] = map(json.loads, died.stdout.splitlines())
    start_span, run_span, second = telemetry.spans
    assert (first["name"], second.name) == ("step first", "step second")
    assert traces_of(start_span, run_span, second) == {int(first["context"]["trace_id"], 16)}
    assert parent_of(run_span) == id_of(start_span)
    assert attributes_of(run_span)["bluestreak.claim.number"] == 2
    assert attributes_of(run_span)["bluestreak.after_crash"] is True
    assert attributes_of(run_span)["bluestreak.replay"] is True

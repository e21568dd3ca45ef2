"""One call switches traces and metrics on."""

from __future__ import annotations

import asyncio

import pytest

from bluestreak_core import Bluestreak, Client
from bluestreak_memory import MemoryStore
from bluestreak_otel import instrument
from tests.otel.arrange import Telemetry, greet, traces_of

pytestmark = pytest.mark.asyncio


async def test_one_call_instruments_a_client_and_a_worker(telemetry: Telemetry) -> None:
    store = MemoryStore()
    client, bluestreak = Client(store), Bluestreak(store)
    bluestreak.register_handler("greet", greet)  # before, as a decorator does
    for each in (client, bluestreak, bluestreak):
        instrument(each, tracer_provider=telemetry.tracers, meter_provider=telemetry.meters)
    async with client, bluestreak:
        await client.start("w", "greet", "Ada")
        polling = asyncio.create_task(bluestreak.poll())
        await bluestreak.wait("w")
        bluestreak.stop()
        await polling
    assert telemetry.names == ["start greet", "run greet", "step greet"]
    assert len(traces_of(*telemetry.spans)) == 1
    assert set(telemetry.points("bluestreak.workflow.claims").values()) == {1}

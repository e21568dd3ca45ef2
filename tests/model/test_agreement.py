"""The stores agree with the pure machine, call by call, and so with each other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from pymongo import AsyncMongoClient, MongoClient

from bluestreak_core import machine
from bluestreak_core.testing import ManualClock
from bluestreak_memory import MemoryStore
from bluestreak_mongo import MongoStore
from tests.model.call import RIVALS, WORKERS
from tests.model.comparison import Comparison, Rivalry
from tests.model.subject import Subject

EXAMPLES = int(os.environ.get("BLUESTREAK_MODEL_EXAMPLES", "0"))
"""How many to try instead of the few that are the same each time."""

pytestmark = [pytest.mark.timeout(0 if EXAMPLES else 300), pytest.mark.usefixtures("unmeasured")]


def _run(comparison: Callable[[], Comparison], examples: int) -> None:
    # Hypothesis calls what it is given, and asks nothing else of it.
    kind = cast("type[Comparison]", comparison)
    wanted = settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=40,
        derandomize=not EXAMPLES,
        phases=list(Phase) if EXAMPLES else [Phase.generate],  # to shrink takes minutes
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(kind, settings=wanted)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """An event loop for all the calls of a test."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(autouse=True)
def _short_claim_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """So short that what happens at its end happens often."""
    monkeypatch.setattr(machine.change, "MAX_CLAIM_LOG", 3)


def _memory(clock: ManualClock) -> Subject:
    store = MemoryStore(clock=clock)
    return Subject(dict.fromkeys((*WORKERS, *RIVALS), store), leaves_leases=False)


@pytest.mark.slow
def test_the_memory_store_agrees_with_the_machine(runner: asyncio.Runner) -> None:
    def comparison() -> Comparison:
        clock = ManualClock()
        return Comparison(runner, clock, [_memory(clock)])

    _run(comparison, 100)


Opener = Callable[[type[Comparison]], Comparison]


@pytest.fixture
def both(
    runner: asyncio.Runner,
    mongodb_url: str,
    mongodb: MongoClient[dict[str, object]],
    empty_database: str,
) -> Iterator[Opener]:
    """Makes comparisons of both stores, each on an empty database."""
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(mongodb_url)

    async def opened(clock: ManualClock) -> MongoStore:
        store = MongoStore.from_database(client[empty_database], clock=clock)
        await store.init()
        return store

    def mongo(clock: ManualClock) -> Subject:
        for name in mongodb[empty_database].list_collection_names():
            mongodb[empty_database][name].delete_many({})
        workers = {worker: runner.run(opened(clock)) for worker in (*WORKERS, *RIVALS)}
        return Subject(workers, leaves_leases=True)

    def comparison(kind: type[Comparison]) -> Comparison:
        clock = ManualClock()
        return kind(runner, clock, [_memory(clock), mongo(clock)])

    yield comparison
    runner.run(client.close())


def test_the_mongo_store_agrees_with_the_memory_store_and_the_machine(both: Opener) -> None:
    _run(lambda: both(Comparison), 20)


def test_rivals_for_the_same_workflows_agree_with_the_machine(both: Opener) -> None:
    _run(lambda: both(Rivalry), 10)

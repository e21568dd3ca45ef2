"""workers: who is alive, and what they run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from bluestreak_core import Bluestreak, RunInFlight, WorkerRecord, WorkerState
from bluestreak_memory import MemoryStore
from tests.cli import shop
from tests.cli.arrange import call, documents, printed

NOW = datetime.now(UTC)

Register = Callable[..., None]


def in_flight(workflow_id: str, step_id: str | None, seconds: int) -> RunInFlight:
    return RunInFlight(
        workflow_id=workflow_id,
        handler_id="fulfil",
        step_id=step_id,
        since=NOW - timedelta(seconds=seconds),
    )


def known(name: str, *runs: RunInFlight) -> WorkerRecord:
    return WorkerRecord(
        name=name,
        host="web-1",
        pid=17,
        bluestreak_version="1.0",
        python_version="3.13.1",
        started_at=NOW,
        seen_at=NOW,
        until=NOW + timedelta(hours=1),
        state=WorkerState.POLLING,
        max_concurrency=100,
        runs=len(runs),
        in_flight=runs,
    )


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Lets the store of the shop know workers."""
    store = MemoryStore()
    monkeypatch.setattr(shop, "bluestreak", shop.register(Bluestreak(store)))

    def tell(*workers: WorkerRecord) -> None:
        for worker in workers:
            asyncio.run(store.register_worker(worker))

    return tell


def test_nobody_is_alive() -> None:
    result = call("workers")
    assert (result.stdout, result.stderr) == (
        "",
        "no worker is alive; start one with 'bluestreak worker'\n",
    )
    assert documents("workers") == []


def test_the_live_workers_are_listed_by_name(register: Register) -> None:
    register(known("b"), known("a", in_flight("w", None, 1)))
    head, *rows = printed("workers").splitlines()
    assert head.split() == ["WORKER", "STATE", "RUNS", "SLOTS", "STARTED", "SEEN"]
    assert [row.split()[:4] for row in rows] == [
        ["a", "polling", "1", "100"],
        ["b", "polling", "0", "100"],
    ]


def test_the_step_that_hangs_longest_stands_first(register: Register) -> None:
    register(
        known("a", in_flight("between", None, 9000), in_flight("quick", "charge", 1)),
        known("b", in_flight("hangs", "ask", 90_061)),
    )
    _, *rows = printed("workers", "--runs").splitlines()
    assert [row.split()[0] for row in rows] == ["hangs", "quick", "between"]
    assert re.search(r" 1 day, 1:\d\d:\d\d ", rows[0])


def test_each_worker_is_a_line_of_json(register: Register) -> None:
    register(known("a", in_flight("w", "charge", 5)), known("b"))
    first, second = documents("workers")
    assert (first["name"], first["state"], second["name"]) == ("a", "polling", "b")
    assert first["in_flight"][0]["step_id"] == "charge"

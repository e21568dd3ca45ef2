"""Workflows that answer each other, and a message that is there before anybody waits for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from bluestreak_core import Client
from bluestreak_mongo import MongoStore
from tests.process.fleet import ROOT
from tests.process.ping_pong import PAID, Game

RALLIES = 25
WITHIN = 45.0  # seconds

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.usefixtures("unmeasured")]


@contextmanager
def workers(url: str, database: str, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.process.ping_pong", url, database]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def test_two_workflows_answer_each_other_for_as_long_as_they_play(
    mongodb_url: str, empty_database: str
) -> None:
    store = MongoStore(mongodb_url, database=empty_database)
    async with Client(store) as client:
        ping = Game(opponent="pong", serves=True, rallies=RALLIES)
        pong = Game(opponent="ping", serves=False, rallies=RALLIES)
        await client.start("ping", "player", asdict(ping))
        await client.start("pong", "player", asdict(pong))
        with workers(mongodb_url, empty_database, 2):
            assert await client.wait("ping", timeout=WITHIN) == [
                2 * ball + 1 for ball in range(RALLIES)
            ]
            assert await client.wait("pong", timeout=WITHIN) == [
                2 * ball for ball in range(RALLIES)
            ]
        for player in ("ping", "pong"):
            assert await store.find_unread(player, 1) == []


async def test_a_webhook_may_come_before_its_workflow_runs_or_waits(
    mongodb_url: str, empty_database: str
) -> None:
    store = MongoStore(mongodb_url, database=empty_database)
    async with Client(store) as client:
        await client.start("early", "order")
        await client.send("early", PAID, "by card", message_id="evt-1")
        with workers(mongodb_url, empty_database, 1):
            assert await client.wait("early", timeout=WITHIN) == "by card"
            await client.start("later", "order")
            assert await client.send("later", PAID, "by cheque", message_id="evt-1")
            assert not await client.send("later", PAID, "by cheque", message_id="evt-1")
            assert await client.wait("later", timeout=WITHIN) == "by cheque"
        for workflow_id in ("early", "later"):
            assert await store.find_unread(workflow_id, 1) == []

"""Leases are renewed from a thread as they are from the event loop, on a connection of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    Context,
    InvalidArgument,
    StoreRefused,
    StoreUnavailable,
    SupportsThreadRenewal,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore
from bluestreak_mongo.connection import OwnClient
from bluestreak_mongo.renewal import BlockingRenewer
from tests.mongo.arrange import (
    LEASE,
    NOW,
    SECOND,
    Application,
    Document,
    Sent,
    claimed,
    new,
    polling,
    whole_life,
)

pytestmark = pytest.mark.asyncio

SECRET = "s3cr3t"
PATIENCE = 10.0  # seconds


def block_until(description: str, condition: Callable[[], object]) -> None:
    """Block this thread, and its event loop, until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain until {description}"


def with_options(url: str, options: str) -> str:
    """A URL with more options than it has."""
    if "?" in url:
        return f"{url}&{options}"
    return f"{url}?{options}" if url.count("/") > 2 else f"{url}/?{options}"


class ListeningClient(OwnClient):
    """Tells what its blocking clients send."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self.sent = Sent()
        self._listened_to = (url, name)

    @override
    def open_blocking(self) -> Database[Document]:
        url, name = self._listened_to
        return MongoClient[Document](url, event_listeners=[self.sent])[name]


@contextmanager
def renewing(url: str, database: str) -> Iterator[tuple[BlockingRenewer, Sent]]:
    connection = ListeningClient(url, database)
    with closing(BlockingRenewer(connection)) as renewer:
        yield renewer, connection.sent


# What it does ------------------------------------------------------------------------------------


@pytest.mark.server
async def test_a_thread_renews_leases_as_the_event_loop_does(
    mongodb_url: str, application: Application, raw: Database[Document]
) -> None:
    claims = [await claimed(application.store, name) for name in ("w1", "w2")]
    store = MongoStore(mongodb_url, database=raw.name)
    with closing(store.renewer()) as renewer:
        assert await asyncio.to_thread(renewer.renew, claims, NOW + SECOND, LEASE) == []
    by_thread = list(raw.workflows.find())
    assert [found["timeoutAt"] for found in by_thread] == [NOW + SECOND + LEASE] * 2
    assert await application.store.renew(claims, NOW + SECOND, LEASE) == []
    assert list(raw.workflows.find()) == by_thread


@pytest.mark.server
async def test_a_thread_hears_what_is_lost_and_leaves_it_alone(
    mongodb_url: str, application: Application, raw: Database[Document]
) -> None:
    stale = await claimed(application.store, "w1")
    (owner,) = await application.store.claim(
        ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=1)
    )
    ended, kept = [await claimed(application.store, name) for name in ("w2", "w3")]
    await application.store.finish(ended, None, NOW)
    before = list(raw.workflows.find({"workflowId": {"$ne": "w3"}}))
    with renewing(mongodb_url, raw.name) as (renewer, _):
        assert renewer.renew([stale, ended, kept], NOW + 2 * LEASE, LEASE) == [stale, ended]
        assert list(raw.workflows.find({"workflowId": {"$ne": "w3"}})) == before
        assert renewer.renew([stale, owner], NOW + 2 * LEASE, LEASE) == [stale]


@pytest.mark.server
@pytest.mark.parametrize("count", [1, 100])
async def test_many_leases_are_renewed_by_one_command_of_a_majority(
    mongodb_url: str, application: Application, raw: Database[Document], count: int
) -> None:
    for number in range(count):
        await application.store.create(new(f"w{number}"))
    claims = await application.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=count)
    )
    with renewing(with_options(mongodb_url, "w=1&journal=false"), raw.name) as (renewer, sent):
        for renewals in (1, 2):
            assert renewer.renew(claims, NOW + renewals * SECOND, LEASE) == []
    assert [command["writeConcern"] for command in sent.named("update")] == [
        {"w": "majority", "j": True}
    ] * 2
    assert sent.names == ["update", "update", "endSessions"]
    assert len(sent.connections) == 1


# How it connects ---------------------------------------------------------------------------------


async def test_a_stores_power_is_asked_for_by_name() -> None:
    assert isinstance(MongoStore(), SupportsThreadRenewal)


async def test_the_options_are_those_of_the_url_but_for_the_size_of_the_pool() -> None:
    url = "mongodb://h/?minPoolSize=5&maxPoolSize=50&appName=shop&connectTimeoutMS=1234"
    options = OwnClient(url, "d").open_blocking().client.options
    assert options.pool_options.max_pool_size == 1
    assert options.pool_options.min_pool_size == 0
    assert options.pool_options.appname == "shop"
    assert options.pool_options.connect_timeout == 1.234
    assert options.server_selection_timeout == 5
    assert OwnClient("mongodb://h", "d").open_blocking().client.options.pool_options.appname == (
        "bluestreak"
    )


@pytest.mark.server
async def test_a_given_database_is_renewed_in_by_a_url_of_its_own(
    mongodb_url: str, application: Application, raw: Database[Document]
) -> None:
    claim = await claimed(application.store)
    store = MongoStore.from_database(application.database, renewal_url=mongodb_url)
    with closing(store.renewer()) as renewer:
        assert renewer.renew([claim], NOW + SECOND, LEASE) == []
    (found,) = raw.workflows.find()
    assert found["timeoutAt"] == NOW + SECOND + LEASE


@pytest.mark.server
async def test_a_given_database_without_a_url_refuses(
    application: Application, raw: Database[Document]
) -> None:
    claim = await claimed(application.store)
    before = list(raw.workflows.find())
    with (
        closing(application.store.renewer()) as renewer,
        pytest.raises(StoreRefused, match="given no renewal_url"),
    ):
        renewer.renew([claim], NOW + SECOND, LEASE)
    assert list(raw.workflows.find()) == before


@pytest.mark.parametrize("url", ["", 7, "http://h", f"mongodb://ada:{SECRET}@h:99999"])
async def test_what_is_no_renewal_url_is_refused_and_not_shown(url: Any) -> None:
    async with AsyncMongoClient[Document]() as client:
        with pytest.raises(InvalidArgument, match="renewal_url") as refused:
            MongoStore.from_database(client["d"], renewal_url=url)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


async def test_a_renewal_url_is_not_shown() -> None:
    async with AsyncMongoClient[Document]() as client:
        store = MongoStore.from_database(
            client["shop"], renewal_url=f"mongodb://ada:{SECRET}@h:27017"
        )
        assert repr(store) == "<MongoStore at given database 'shop'>"


@pytest.mark.server
async def test_a_server_that_is_not_there_is_unavailable_before_the_lease_is_over(
    application: Application,
) -> None:
    claim = await claimed(application.store)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = MongoStore(f"mongodb://ada:{SECRET}@127.0.0.1:{taken.getsockname()[1]}")
        with (
            closing(store.renewer()) as renewer,
            pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1") as refused,
        ):
            renewer.renew([claim], NOW, timedelta(seconds=0.3))
    assert SECRET not in "".join(traceback.format_exception(refused.value))


# What there is of it -----------------------------------------------------------------------------


@pytest.mark.server
async def test_a_worker_whose_loop_turns_makes_no_other_client(
    mongodb_url: str, empty_database: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(OwnClient, "open_blocking", lambda self: opened.append(str(self)))
    await whole_life(MongoStore(mongodb_url, database=empty_database, clock=clock), clock)
    assert opened == []


def _threads_of_clients() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("pymongo_")}


@pytest.mark.server
async def test_nothing_is_left_of_a_worker_whose_loop_was_blocked(
    mongodb_url: str, mongodb: MongoClient[Document], raw: Database[Document], clock: ManualClock
) -> None:
    name = f"test-{uuid4().hex[:12]}"
    mongodb.admin.command("ping")  # so that the threads of this client are there
    threads = _threads_of_clients()
    lease = timedelta(seconds=0.6)
    store = MongoStore(with_options(mongodb_url, f"appName={name}"), database=raw.name, clock=clock)

    def is_renewed() -> bool:
        renewed_at = clock.now() + lease
        return raw.workflows.count_documents({"timeoutAt": renewed_at}) == 1

    async def block() -> None:
        for _ in range(3):
            clock.advance(lease / 2)
            block_until("the lease is renewed", is_renewed)

    async with Bluestreak(store, timeout_interval=lease) as bluestreak:

        @bluestreak.handler("h")
        async def handle(ctx: Context, input: None) -> None:
            await ctx.step("s", block)

        async with polling(bluestreak):
            await bluestreak.start("w", "h")
            await bluestreak.wait("w")
            assert _threads_of_clients() - threads
        workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.claims, workflow.crashes) == (1, 0)
    connections: list[Document] = [
        {"$currentOp": {"allUsers": True, "idleConnections": True}},
        {"$match": {"appName": name, "command.getMore": None}},
    ]
    block_until("the threads are gone", lambda: not _threads_of_clients() - threads)
    block_until("the sockets are closed", lambda: not list(mongodb.admin.aggregate(connections)))

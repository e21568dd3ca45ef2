"""Transactions when the server fails one of their commands, is standalone, or a worker has died."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from bson.binary import UuidRepresentation
from bson.code import Code
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure

from bluestreak_core import (
    Bluestreak,
    ClaimLost,
    Context,
    InvalidArgument,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UnstorableValue,
    Unsupported,
    WorkflowAborted,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import LocalMongo, MongoStore
from tests.mongo.arrange import LEASE, NOW, SECOND, Document, Sent, claimed, new, polling

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

TRANSIENT = ["TransientTransactionError"]
UNKNOWN = ["UnknownTransactionCommitResult"]


class FallibleServer:
    """A replica set that fails the commands that a test chooses."""

    def __init__(self, url: str, client: MongoClient[Document]) -> None:
        self.url = url
        self.client = client

    @contextmanager
    def failing(self, command: str, times: int, **how: Any) -> Iterator[None]:
        data = {"failCommands": [command], "appName": "bluestreak", **how}
        fail_point = {"configureFailPoint": "failCommand"}
        self.client.admin.command({**fail_point, "mode": {"times": times}, "data": data})
        try:
            yield
        finally:
            self.client.admin.command({**fail_point, "mode": "off"})


@pytest.fixture(scope="module")
def server() -> Iterator[FallibleServer]:
    with (
        LocalMongo(authorization=False, parameters={"enableTestCommands": "1"}) as local,
        MongoClient[Document](local.url) as client,
    ):
        yield FallibleServer(local.url, client)


@pytest.fixture
def behind(server: FallibleServer) -> Iterator[Database[Document]]:
    name = f"test-{uuid4().hex[:12]}"
    server.client[name].create_collection("ledger")
    yield server.client[name]
    server.client.drop_database(name)


@pytest_asyncio.fixture
async def store(
    server: FallibleServer, behind: Database[Document], clock: ManualClock
) -> AsyncIterator[MongoStore]:
    store = MongoStore(server.url, database=behind.name, clock=clock)
    await store.init()
    yield store
    await store.close()


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest_asyncio.fixture
async def heard(
    server: FallibleServer, behind: Database[Document], clock: ManualClock, sent: Sent
) -> AsyncIterator[MongoStore]:
    """A store whose commands are heard of."""
    client: AsyncMongoClient[Document] = AsyncMongoClient(
        server.url, appname="bluestreak", event_listeners=[sent]
    )
    async with client:
        store = MongoStore.from_database(client[behind.name], clock=clock)
        await store.init()
        yield store
        await store.close()


class Booking:
    """A function that makes an entry in the ledger."""

    def __init__(self, database: str) -> None:
        self.calls = 0
        self._database = database

    async def __call__(self, session: Any) -> str:
        self.calls += 1
        ledger = session.client[self._database]["ledger"]
        await ledger.insert_one({"entry": "booked"}, session=session)
        return "booked"


@pytest.mark.parametrize(
    ("command", "how", "calls"),
    [
        ("commitTransaction", {"errorCode": 251, "errorLabels": TRANSIENT}, 2),
        ("commitTransaction", {"errorCode": 8, "errorLabels": UNKNOWN}, 1),
        ("commitTransaction", {"closeConnection": True}, 1),
        ("insert", {"errorCode": 112, "errorLabels": TRANSIENT}, 2),
        ("update", {"errorCode": 112, "errorLabels": TRANSIENT}, None),
    ],
)
async def test_what_passes_is_tried_again_and_happens_once(  # noqa: PLR0917 - fixtures
    server: FallibleServer,
    store: MongoStore,
    behind: Database[Document],
    clock: ManualClock,
    command: str,
    how: dict[str, Any],
    calls: int | None,
) -> None:
    claim = await claimed(store)
    book = Booking(behind.name)
    with server.failing(command, 1, **how):
        try:
            output = await store.transact(claim, "s", book, clock.now)
        except StoreUnavailable:  # of the note that is made beforehand; the engine asks again
            assert command == "update"
            output = await store.transact(claim, "s", book, clock.now)
    assert output == "booked"
    assert calls in (book.calls, None)
    assert behind.ledger.count_documents({}) == 1
    assert behind.steps.count_documents({}) == 1


async def test_a_commit_that_is_never_answered_is_read_back(
    server: FallibleServer, store: MongoStore, behind: Database[Document], clock: ManualClock
) -> None:
    claim = await claimed(store)
    book = Booking(behind.name)
    with (
        server.failing("commitTransaction", 1, errorCode=8),
        pytest.raises(StoreError),
    ):
        await store.transact(claim, "s", book, clock.now)
    assert await store.transact(claim, "s", book, clock.now) == "booked"
    assert behind.ledger.count_documents({}) == behind.steps.count_documents({}) == 1


async def test_an_error_of_the_functions_own_is_raised_as_it_is(
    store: MongoStore, behind: Database[Document], clock: ManualClock
) -> None:
    claim = await claimed(store)
    behind.ledger.insert_one({"_id": 1})

    async def collide(session: Any) -> None:
        await session.client[behind.name]["ledger"].insert_one({"_id": 1}, session=session)

    with pytest.raises(DuplicateKeyError):
        await store.transact(claim, "s", collide, clock.now)
    assert behind.steps.count_documents({}) == 0


async def test_a_cancelled_transaction_is_rolled_back_and_its_locks_are_gone(
    store: MongoStore, behind: Database[Document], clock: ManualClock
) -> None:
    claim = await claimed(store)
    behind.ledger.insert_one({"_id": 1, "n": 0})
    inside = asyncio.Event()

    async def hang(session: Any) -> None:
        ledger = session.client[behind.name]["ledger"]
        await ledger.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
        inside.set()
        await asyncio.Event().wait()

    transaction = asyncio.create_task(store.transact(claim, "s", hang, clock.now))
    await inside.wait()
    transaction.cancel()
    await asyncio.wait({transaction})
    assert transaction.cancelled()
    behind.ledger.update_one({"_id": 1}, {"$inc": {"n": 10}})
    assert behind.ledger.find_one({"_id": 1}) == {"_id": 1, "n": 10}


async def test_a_commit_under_way_is_seen_through_when_its_caller_is_cancelled(
    server: FallibleServer,
    heard: MongoStore,
    sent: Sent,
    behind: Database[Document],
    clock: ManualClock,
) -> None:
    claim, book = await claimed(heard), Booking(behind.name)
    with server.failing("commitTransaction", 1, blockConnection=True, blockTimeMS=300):
        transacting = heard.transact(claim, "s", book, clock.now)
        await _cancelled_at_the_first("commitTransaction", sent, transacting)
    assert behind.ledger.count_documents({}) == behind.steps.count_documents({}) == 1


async def test_a_function_is_not_called_again_for_a_caller_that_was_cancelled(
    server: FallibleServer,
    heard: MongoStore,
    sent: Sent,
    behind: Database[Document],
    clock: ManualClock,
) -> None:
    claim, calls = await claimed(heard), list[None]()

    async def call(session: Any) -> None:
        calls.append(None)

    how: dict[str, Any] = {"errorCode": 112, "errorLabels": TRANSIENT}
    with server.failing("insert", 1, **how, blockConnection=True, blockTimeMS=300):
        transacting = heard.transact(claim, "s", call, clock.now)
        await _cancelled_at_the_first("insert", sent, transacting)
    assert len(calls) == 1
    assert behind.steps.count_documents({}) == 0


async def test_a_commit_is_not_sent_for_ever_for_a_caller_that_was_cancelled(
    server: FallibleServer,
    heard: MongoStore,
    sent: Sent,
    behind: Database[Document],
    clock: ManualClock,
) -> None:
    claim, book = await claimed(heard), Booking(behind.name)
    how: dict[str, Any] = {"errorCode": 8, "errorLabels": UNKNOWN}
    with server.failing("commitTransaction", 20, **how, blockConnection=True, blockTimeMS=100):
        transacting = heard.transact(claim, "s", book, clock.now)
        await _cancelled_at_the_first("commitTransaction", sent, transacting)
    assert len(sent.named("commitTransaction")) == 1
    assert await heard.transact(claim, "s", book, clock.now) == "booked"
    assert behind.ledger.count_documents({}) == behind.steps.count_documents({}) == 1


async def test_a_commit_that_has_taken_the_server_too_long_is_not_sent_again(
    server: FallibleServer,
    heard: MongoStore,
    sent: Sent,
    behind: Database[Document],
    clock: ManualClock,
) -> None:
    claim, book = await claimed(heard), Booking(behind.name)
    failing = server.failing("commitTransaction", 1, errorCode=50, errorLabels=UNKNOWN)
    with failing, pytest.raises(StoreError):
        await heard.transact(claim, "s", book, clock.now)
    assert len(sent.named("commitTransaction")) == 1
    assert await heard.transact(claim, "s", book, clock.now) == "booked"
    assert behind.ledger.count_documents({}) == behind.steps.count_documents({}) == 1


async def test_what_was_committed_just_too_late_is_not_a_timeout(
    server: FallibleServer, behind: Database[Document]
) -> None:
    bluestreak = Bluestreak(
        MongoStore(server.url, database=behind.name), timeout_interval=2, max_failures=0
    )

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.transaction("book", Booking(behind.name))

    async with bluestreak:
        await bluestreak.start("w", "h")
        with server.failing("commitTransaction", 1, blockConnection=True, blockTimeMS=1300):
            async with polling(bluestreak):
                assert await bluestreak.wait("w") == "booked"
    assert behind.ledger.count_documents({}) == 1


@pytest.mark.parametrize("how", ["committed", "raised", "cancelled"])
async def test_a_session_is_not_announced_for_longer_than_its_transaction(
    store: MongoStore, behind: Database[Document], clock: ManualClock, how: str
) -> None:
    """The driver lends it to the next one who wants a session, which nobody may end."""
    claim = await claimed(store)
    announced: list[object] = []

    async def look(session: Any) -> None:
        announced.append(_announced(behind))
        match how:
            case "raised":
                raise ZeroDivisionError
            case "cancelled":
                raise asyncio.CancelledError

    with suppress(asyncio.CancelledError, ZeroDivisionError):
        await store.transact(claim, "s", look, clock.now)
    assert behind.steps.count_documents({}) == (how == "committed")
    assert announced != [None]
    assert _announced(behind) is None


async def test_a_session_is_not_announced_any_more_when_its_function_raises_after_a_failed_commit(
    server: FallibleServer, store: MongoStore, behind: Database[Document], clock: ManualClock
) -> None:
    claim = await claimed(store)
    calls: list[None] = []

    async def fail_when_called_again(session: Any) -> None:
        calls.append(None)
        if len(calls) > 1:
            raise ZeroDivisionError

    failing = server.failing("commitTransaction", 1, errorCode=251, errorLabels=TRANSIENT)
    with failing, pytest.raises(ZeroDivisionError):
        await store.transact(claim, "s", fail_when_called_again, clock.now)
    assert _announced(behind) is None


def _announced(behind: Database[Document]) -> object:
    found = behind.workflows.find_one({}, {"session": 1})
    assert found is not None
    return found.get("session")


async def test_an_output_that_is_nested_too_deep_for_the_server_is_refused(
    store: MongoStore, behind: Database[Document], clock: ManualClock
) -> None:
    """A scope is no part of what the rules look into."""
    claim = await claimed(store)

    async def nest(session: Any) -> Any:
        nested: Any = {}
        for _ in range(250):
            nested = {"a": nested}
        return Code("f", nested)

    with pytest.raises(UnstorableValue, match="nested too deep"):
        await store.transact(claim, "s", nest, clock.now)
    assert behind.steps.count_documents({}) == 0


@pytest.mark.parametrize("end", ["commit_transaction", "abort_transaction"])
async def test_a_function_must_not_end_the_transaction(
    store: MongoStore, behind: Database[Document], clock: ManualClock, end: str
) -> None:
    claim = await claimed(store)

    async def meddle(session: Any) -> None:
        await Booking(behind.name)(session)
        await getattr(session, end)()

    with pytest.raises(InvalidArgument, match="its function has ended the transaction"):
        await store.transact(claim, "s", meddle, clock.now)
    assert behind.steps.count_documents({}) == 0


async def test_a_takeover_ends_the_transaction_of_the_dead(
    server: FallibleServer, store: MongoStore, behind: Database[Document]
) -> None:
    """The dead one is a client that stops in its transaction, with the workflow locked."""
    claim = await claimed(store)
    dead: AsyncMongoClient[Document] = AsyncMongoClient(server.url)
    async with dead, dead.start_session() as session:
        known = {"session": session.session_id["id"].as_uuid()}
        options: CodecOptions[Document] = CodecOptions(
            uuid_representation=UuidRepresentation.STANDARD
        )
        behind.with_options(options).workflows.update_one({}, {"$set": known})
        await session.start_transaction()
        lock = {"$inc": {"transactions": 1}}
        await dead[behind.name].workflows.update_one({}, lock, session=session)
        (owner,) = await store.claim(
            ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=1)
        )
        assert (owner.workflow_id, owner.number) == (claim.workflow_id, 2)
        found = behind.workflows.find_one({})
        assert found is not None
        assert "session" not in found
        with pytest.raises(OperationFailure):
            await session.commit_transaction()


async def test_a_start_in_a_transaction_is_heard_of_by_push(
    server: FallibleServer, store: MongoStore, behind: Database[Document], clock: ManualClock
) -> None:
    bluestreak = Bluestreak(store, poll_interval=3600)
    client: AsyncMongoClient[Document] = AsyncMongoClient(server.url)
    outside = Bluestreak(MongoStore.from_database(client[behind.name], clock=clock))

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return "done"

    await bluestreak.init()
    async with client, polling(bluestreak), outside, client.start_session() as session:
        await clock.until_sleeping(3600 * SECOND)
        async with await session.start_transaction():
            assert await outside.start("w", "h", session=session)
        assert await bluestreak.wait("w") == "done"


@pytest.fixture(scope="module")
def standalone() -> Iterator[str]:
    with LocalMongo(replica_set=False, authorization=False) as local:
        yield local.url


async def test_a_standalone_server_has_no_transactions_and_says_so_before_anything_is_called(
    standalone: str, clock: ManualClock
) -> None:
    calls: list[None] = []
    store = MongoStore(standalone, database=f"test-{uuid4().hex[:12]}", clock=clock)
    bluestreak = Bluestreak(store, max_failures=0)

    async def book(session: Any) -> None:
        calls.append(None)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.transaction("book", book)

    async with bluestreak:
        await bluestreak.start("w", "h")
        poll = asyncio.create_task(bluestreak.poll())
        with pytest.raises(
            WorkflowAborted, match=r"ctx.transaction\(\) is not possible here: .* standalone"
        ):
            await bluestreak.wait("w")
        client: AsyncMongoClient[Document] = AsyncMongoClient(standalone)
        async with client, client.start_session() as session:
            with pytest.raises(Unsupported, match=r"start\(session=\)"):
                await bluestreak.start("v", "h", session=session)
            with pytest.raises(Unsupported, match=r"cancel\(session=\)"):
                await bluestreak.cancel("w", session=session)
        bluestreak.stop()
        await poll
    assert calls == []


async def test_a_session_of_another_client_is_refused(
    server: FallibleServer, store: MongoStore
) -> None:
    bluestreak = Bluestreak(store)
    await bluestreak.init()
    other: AsyncMongoClient[Document] = AsyncMongoClient(server.url)
    async with other, other.start_session() as session, await session.start_transaction():
        with pytest.raises(Exception, match="expected a session of the store's client"):
            await bluestreak.start("w", "h", session=session)
    assert await store.create(new("w"))


async def test_what_fails_while_a_loss_is_looked_into_is_the_stores_error(
    server: FallibleServer, store: MongoStore, behind: Database[Document], clock: ManualClock
) -> None:
    claim = await claimed(store)
    await store.control("w", Transition.CANCEL, NOW)
    book = Booking(behind.name)
    # A write has the server look for its own session, which is no affair of this test's.
    place = f"{behind.name}.workflows"
    failing = server.failing("find", 1, errorCode=13, namespace=place)
    with failing, pytest.raises(StoreRefused):
        await store.transact(claim, "s", book, clock.now)
    with pytest.raises(ClaimLost):
        await store.transact(claim, "s", book, clock.now)
    assert book.calls == 0


async def _cancelled_at_the_first(
    command: str, sent: Sent, transacting: Coroutine[Any, Any, object]
) -> None:
    """Cancel a transaction as soon as such a command is under way, and wait until it has ended."""
    begun = asyncio.Event()
    sent.before[command] = begun.set
    transaction = asyncio.create_task(transacting)
    await begun.wait()
    transaction.cancel()
    await asyncio.wait({transaction})
    assert transaction.cancelled()

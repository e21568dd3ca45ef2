"""Where a MongoStore gets its database from, and what it shows of that."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote_plus

import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from bluestreak_core import (
    Bluestreak,
    InvalidArgument,
    StoreRefused,
    StoreUnavailable,
    SystemClock,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.connection import OwnClient
from tests.engine.bad_input import LyingStr, Raises
from tests.mongo.arrange import LEASE, NOW, Document, claimed, whole_life

pytestmark = pytest.mark.asyncio

SECRET = "s3cr3t"
PASSWORD = f"{SECRET}@home/{SECRET}"
QUOTED = quote_plus(PASSWORD)


# URLs and names ----------------------------------------------------------------------------------

WITH_SECRETS = {
    "password": f"mongodb://ada:{SECRET}@h:27017/db",
    "quoted password": f"mongodb://ada:{QUOTED}@h:27017",
    "password and options": f"mongodb://ada:{SECRET}@h:27017/db?appName=shop&tls=true",
    "several hosts": f"mongodb://ada:{SECRET}@h:27017,i:27018/?replicaSet=rs",
    "session token": "mongodb://h:27017/?authMechanism=MONGODB-AWS"
    f"&authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}",
    "key password": f"mongodb://h:27017/?tls=true&tlsCertificateKeyFilePassword={SECRET}",
    "an option with an @": "mongodb://h:27017/?appName=me@home"
    f"&tls=true&tlsCertificateKeyFilePassword={SECRET}",
}


@pytest.mark.parametrize("url", WITH_SECRETS.values(), ids=WITH_SECRETS)
async def test_a_store_shows_its_server_and_no_secret(url: str) -> None:
    store = MongoStore(url, database="shop")
    for shown in (repr(store), str(store), repr(Bluestreak(store))):
        assert "h:27017" in shown
        assert "'shop'" in shown
        assert SECRET not in shown
        assert "ada" not in shown


async def test_a_store_in_a_given_database_shows_its_name() -> None:
    url = f"mongodb://ada:{SECRET}@h:27017"
    async with AsyncMongoClient[Document](url) as client:
        assert repr(MongoStore.from_database(client["shop"])) == (
            "<MongoStore at given database 'shop'>"
        )


async def test_the_defaults_are_a_server_on_this_machine() -> None:
    assert repr(MongoStore()) == (
        "<MongoStore at mongodb://localhost:27017, database 'bluestreak'>"
    )


BAD_URLS: list[Any] = [
    *("", None, 7, True, b"mongodb://h", ["mongodb://h"], {"host": "h"}, LyingStr(""), Raises()),
    *("http://localhost", "mongodb:/h", "mongodb://", "mongodb://h:0x1", "mongodb:///no.sock/?"),
    *("mongodb://h:0", "mongodb://h:65536", "mongodb://h:-1", "mongodb://,", "mongodb://h,,i"),
    *("mongodb://[::1", "mongodb://h/a b", "mongodb://@", "mongodb://h/?w"),
    *("mongodb://h/?tls=perhaps", "mongodb://h/?tsl=true", "mongodb://h/?maxPoolSize=-1"),
    *("mongodb://h/?authMechanism=NONE", "mongodb://h/?replicaSet=a&directConnection=perhaps"),
    *("mongodb://\ud800", "mongodb://h/\0", "mongodb://h/?tls=true&tlsCAFile=/no/such/file"),
]


def _type_name(value: object) -> str:
    return type(value).__name__


# As they are outside of tests.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("url", BAD_URLS, ids=_type_name)
async def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(InvalidArgument, match="url") as refused:
        MongoStore(url)
    assert refused.value.name == "url"


async def test_an_option_that_the_driver_would_go_on_without_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match=r"not take one of its options .*, of tsl, w$"):
        MongoStore(f"mongodb://ada:{SECRET}@h/?w=1&tsl=true")


@pytest.mark.parametrize("value", ["datetime_ms", "DATETIME_MS", "DATETIME_AUTO", "3", "local"])
async def test_how_dates_are_read_is_not_for_the_url_to_choose(value: str) -> None:
    with pytest.raises(InvalidArgument, match="datetime_conversion") as refused:
        MongoStore(f"mongodb://ada:{SECRET}@h/?datetime_conversion={value}")
    assert refused.value.name == "url"
    assert refused.value.__context__ is None


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "url",
    [
        f"mongodb://ada:{SECRET}@",
        f"mongodb://ada:{SECRET}@h:99999",
        f"mongodb://ada:{SECRET}@h:27017/?authMechanism",
        f"mongodb://ada:my@{SECRET}@h:27017",
        f"mongodb://ada:my/{SECRET}@h:27017",
        f"mongodb://ada:my?{SECRET}@h:27017",
        f"mongodb://ada:my%{SECRET}@h:27017",
        f"mongodb+srv://ada:{SECRET}@h:27017",
        f"mongodb://h:27017/?tls=false&tlsCertificateKeyFilePassword={SECRET}",
        f"mongodb://h:27017/?authMechanismProperties=AWS_SESSION_TOKEN={SECRET}",
        f"mongodb://h:27017/?tls={SECRET}",
        f"mongodb://h:27017/?tlsCertificateKeyFilePasswort={SECRET}",
        f"mongodb://h:27017/?authMechanism=MONGODB-AWS&authMechanismProperties=X:{SECRET}",
        f"mongodb://ada:{SECRET}",
        f"ada:{SECRET}@h:27017",
    ],
)
async def test_the_refusal_of_a_url_shows_no_secret(
    url: str, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        MongoStore(url)
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    assert SECRET not in repr(refused.value.args)
    assert refused.value.__context__ is None
    assert [str(warning.message) for warning in recwarn if SECRET in str(warning.message)] == []


BAD_NAMES: list[Any] = [
    *("", None, 7, True, b"a", ["a"], {"$gt": ""}, LyingStr(""), LyingStr("a.b"), Raises()),
    *("a.b", "a b", "a/b", "a\\b", "$a", 'a"', "a\0", "\ud800", "."),
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=_type_name)
async def test_what_cannot_name_a_database_is_refused(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="database") as refused:
        MongoStore(database=name)
    assert refused.value.name == "database"
    assert refused.value.value is name or refused.value.value == name


async def test_what_is_no_database_is_refused(mongodb: MongoClient[Document]) -> None:
    client: Any
    async with AsyncMongoClient[Document]("mongodb://h") as client:
        collection = client["shop"]["workflows"]
        bad: list[Any] = [None, "shop", 7, {}, object(), Raises(), AsyncDatabase, MongoStore]
        for database in [*bad, client, collection, mongodb["shop"], mongodb, MongoStore()]:
            with pytest.raises(InvalidArgument, match=r"^database "):
                MongoStore.from_database(database)


@pytest.mark.parametrize("clock", [0, "", False, SystemClock, time.time, Raises()], ids=_type_name)
async def test_what_is_no_clock_is_refused(clock: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^clock "):
        MongoStore(clock=clock)


@pytest.mark.server
async def test_a_name_that_the_server_does_not_take_is_refused(mongodb_url: str) -> None:
    store = MongoStore(mongodb_url, database="a" * 64)
    with pytest.raises(StoreRefused, match="InvalidNamespace"):
        await store.init()


# Options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "seconds"),
    [
        ("mongodb://h", (5, 5, 5, 15)),
        ("mongodb://h/?serverSelectionTimeoutMS=1000", (1, 5, 5, 15)),
        ("mongodb://h/?socketTimeoutMS=60000&connectTimeoutMS=9000", (5, 9, 5, 60)),
        ("mongodb://h/?appName=x&heartbeatfrequencyms=10000", (5, 5, 10, 15)),
        ("mongodb://h/?socketTimeoutMS=0", (5, 5, 5, None)),
    ],
)
async def test_waiting_for_a_server_is_bounded_unless_the_url_says_otherwise(
    url: str, seconds: tuple[float | None, ...]
) -> None:
    options = OwnClient(url, "db").open().client.options
    connecting, reading = options.pool_options.connect_timeout, options.pool_options.socket_timeout
    assert (
        options.server_selection_timeout,
        connecting,
        options.heartbeat_frequency,
        reading,
    ) == seconds


TAKEN = [
    *("w=0", "journal=false", "wtimeoutMS=1", "readPreference=secondary", "readConcernLevel=local"),
    *("readPreference=secondary&maxStalenessSeconds=90", "retryWrites=false", "retryReads=false"),
    *("tz_aware=true", "uuidRepresentation=pythonLegacy", "unicode_decode_error_handler=ignore"),
    *("maxPoolSize=1", "maxPoolSize=2&waitQueueTimeoutMS=5000", "minPoolSize=3", "maxConnecting=1"),
    *("compressors=zlib", "timeoutMS=9000", "socketTimeoutMS=9000", "serverMonitoringMode=poll"),
    *("maxIdleTimeMS=1", "localThresholdMS=0", "connect=false", "datetime_conversion=DATETIME"),
]
"""Options that are used as they are, or that have no say in what Bluestreak does."""


@pytest.mark.server
@pytest.mark.parametrize("option", TAKEN)
async def test_a_workflow_has_the_same_life_whatever_the_url_says(
    option: str, mongodb_url: str, empty_database: str, clock: ManualClock
) -> None:
    url = f"{mongodb_url}{'&' if '?' in mongodb_url else '?'}{option}"
    store = MongoStore(url, database=empty_database, clock=clock)
    await whole_life(store, clock)


# Databases ---------------------------------------------------------------------------------------


@pytest.mark.server
async def test_a_store_uses_an_applications_database_and_leaves_it_open(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> None:
    async with AsyncMongoClient[Document](mongodb_url) as client:
        store = MongoStore.from_database(client[empty_database], clock=clock)
        await whole_life(store, clock)
        await store.close()
        assert await client[empty_database].workflows.count_documents({}) == 1


@pytest.mark.server
async def test_a_store_uses_a_motor_database_and_leaves_it_open(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> None:
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(mongodb_url)
    try:
        store = MongoStore.from_database(client[empty_database], clock=clock)
        await whole_life(store, clock)
        await store.close()
        assert await client[empty_database].workflows.count_documents({}) == 1
    finally:
        client.close()


@pytest.mark.server
async def test_a_store_keeps_the_time_of_a_motor_database(
    mongodb_url: str, empty_database: str
) -> None:
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(mongodb_url)
    try:
        store = MongoStore.from_database(client[empty_database])
        await store.init()
        assert (
            list(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)))
            == []
        )
    finally:
        client.close()


@pytest.mark.server
async def test_a_standalone_server_will_do(clock: ManualClock) -> None:
    async with LocalMongo(replica_set=False) as server:
        await whole_life(MongoStore(server.url, clock=clock), clock)


# Servers that do not serve -----------------------------------------------------------------------


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that nobody listens on, nor can for as long as the test lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def failure_of_init(store: MongoStore, kind: type[Exception]) -> str:
    """All that a log would show of it."""
    with pytest.raises(kind) as raised:
        await store.init()
    return "".join(traceback.format_exception(raised.value))


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_server_that_is_not_there_is_unavailable_as_soon_as_the_url_says(
    closed_port: int,
) -> None:
    url = f"mongodb://ada:{SECRET}@127.0.0.1:{closed_port}/?serverSelectionTimeoutMS=50"
    shown = await failure_of_init(MongoStore(url), StoreUnavailable)
    assert "Timeout: 0.05s" in shown
    assert f"127.0.0.1:{closed_port}" in shown
    assert SECRET not in shown
    assert asyncio.all_tasks() == {asyncio.current_task()}, "the client has been left open"
    gc.collect()  # PyMongo forgets the socket of an attempt to connect that its close() cancels


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_an_init_that_has_failed_may_be_repeated_in_another_event_loop(
    closed_port: int,
) -> None:
    store = MongoStore(f"mongodb://127.0.0.1:{closed_port}/?serverSelectionTimeoutMS=50")
    await failure_of_init(store, StoreUnavailable)
    await asyncio.to_thread(asyncio.run, failure_of_init(store, StoreUnavailable))
    gc.collect()  # as above


@pytest.fixture(scope="module")
def guarded_url() -> Iterator[str]:
    """A server that wants credentials, with `user:password` where they belong."""
    with LocalMongo(replica_set=False, authorization=False, arguments=["--auth"]) as server:
        url = server.url.replace("//", "//user:password@")
        with MongoClient[Document](server.url) as client:
            client.admin.command("createUser", "ada", pwd=PASSWORD, roles=["root"])
        with MongoClient[Document](url.replace("user:password", f"ada:{QUOTED}")) as client:
            client.admin.command("createUser", "eve", pwd=PASSWORD, roles=["readAnyDatabase"])
        yield url


@pytest.mark.server
async def test_credentials_in_the_url_are_used(guarded_url: str, clock: ManualClock) -> None:
    store = MongoStore(guarded_url.replace("user:password", f"ada:{QUOTED}"), clock=clock)
    await whole_life(store, clock)


@pytest.mark.server
@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        (f"ada:not-{SECRET}@", "Authentication failed"),
        (f"nobody:{SECRET}@", "Authentication failed"),
        (f"eve:{QUOTED}@", "not authorized"),
        ("", "requires authentication"),
    ],
)
async def test_a_server_that_says_no_refuses(
    guarded_url: str, credentials: str, reason: str
) -> None:
    store = MongoStore(guarded_url.replace("user:password@", credentials))
    shown = await failure_of_init(store, StoreRefused)
    assert reason in shown
    assert SECRET not in shown
    assert asyncio.all_tasks() == {asyncio.current_task()}, "the client has been left open"


@pytest.mark.server
async def test_a_thread_that_renews_leases_uses_the_credentials_too(
    guarded_url: str, clock: ManualClock
) -> None:
    def url(credentials: str) -> str:
        return guarded_url.replace("user:password", credentials)

    store = MongoStore(url(f"ada:{QUOTED}"), database="renewals", clock=clock)
    await store.init()
    claim = await claimed(store)
    with closing(store.renewer()) as renewer:
        assert renewer.renew([claim], NOW, LEASE) == []
    for credentials in (f"eve:{QUOTED}", f"ada:not-{SECRET}"):
        other = MongoStore(url(credentials), database="renewals")
        with closing(other.renewer()) as renewer, pytest.raises(StoreRefused) as refused:
            renewer.renew([claim], NOW, LEASE)
        assert SECRET not in "".join(traceback.format_exception(refused.value))
    await store.close()

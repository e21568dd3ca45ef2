"""Workflows in virtual time, on each store, that leave memory at each wait, however short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from bluestreak_core import Clock, Store
from bluestreak_core.testing import Environment
from bluestreak_memory import MemoryStore
from bluestreak_mongo import MongoStore
from tests.conformance.arrange import SealingCodec
from tests.conformance.server import ServerStore, StoreThread

STORES = ["memory", pytest.param("mongo", marks=pytest.mark.server)]


@pytest.fixture(autouse=True)
def _unmeasured(unmeasured: None) -> None:
    """The engine's own tests reach all that these do."""


@pytest.fixture(scope="package")
def mongo_thread(mongodb_url: str, shared_database: str) -> Iterator[StoreThread]:
    """A store on the server, for all tests of this folder."""
    thread = StoreThread(
        lambda clock: MongoStore(mongodb_url, database=shared_database, clock=clock)
    )
    yield thread
    thread.close()


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest) -> Callable[[Clock], Store]:
    """Makes an empty store of each kind for an environment's clock."""
    if request.param == "memory":
        return lambda clock: MemoryStore(clock=clock)
    request.getfixturevalue("empty_database")
    thread: StoreThread = request.getfixturevalue("mongo_thread")
    return lambda clock: ServerStore(thread, clock)


@pytest.fixture
def environment(make_store: Callable[[Clock], Store]) -> Iterator[Callable[..., Environment]]:
    """Makes environments in which each wait ends the run, so that what follows is a replay."""
    with ExitStack() as environments:

        def make(**settings: Any) -> Environment:
            new = Environment(store=make_store, park_after=0, **settings)
            return environments.enter_context(new)

        yield make


@pytest.fixture
def env(environment: Callable[..., Environment]) -> Environment:
    return environment()


@pytest.fixture
def sealing(environment: Callable[..., Environment]) -> Environment:
    """One whose codec stores each `Sealed` in an envelope."""
    return environment(codec=SealingCodec())

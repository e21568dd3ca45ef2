"""Each test on a console over each store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bluestreak_core import Store
from bluestreak_memory import MemoryStore
from bluestreak_mongo import MongoStore
from tests.console.arrange import Console, console


@pytest.fixture(params=["memory", pytest.param("mongo", marks=pytest.mark.server)])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store."""
    if request.param == "memory":
        return MemoryStore()
    url = request.getfixturevalue("mongodb_url")
    return MongoStore(url, database=request.getfixturevalue("empty_database"))


@pytest_asyncio.fixture
async def site(store: Store) -> AsyncIterator[Console]:
    """A console over that store, with a worker beside it."""
    async with console(store) as found:
        yield found

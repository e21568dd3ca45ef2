"""MongoStore without a server. What is skipped here is run by `test_mongo_store.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, cast
from uuid import UUID

import pytest
import pytest_asyncio

from bluestreak_core import (
    Store,
    SupportsChildren,
    SupportsMessages,
    SupportsPublishing,
    SupportsThreadRenewal,
    SupportsTransactions,
)
from bluestreak_core.testing import ManualClock, StoreContract
from bluestreak_core.testing.contract import VALUES
from bluestreak_mongo import MongoStore
from tests.contract.mongomock_database import MongomockDatabase

pytestmark = pytest.mark.usefixtures("unmeasured")

if TYPE_CHECKING:
    from pymongo.asynchronous.database import AsyncDatabase

NO_UUID = pytest.mark.skip(reason="mongomock refuses the codec option that a UUID is stored by")
NO_TZINFO = pytest.mark.skip(reason="mongomock refuses the codec option that makes a date UTC's")
NO_DEPTH = pytest.mark.skip(reason="mongomock has no limit on nesting; the server has")


def _value(given: Any, stored: Any) -> Any:
    skips: dict[type, pytest.MarkDecorator] = {UUID: NO_UUID, datetime: NO_TZINFO}
    marks = [skip for kind, skip in skips.items() if _holds(stored, kind)]
    return pytest.param(given, stored, marks=marks)


def _holds(value: Any, kind: type) -> bool:
    """Whether a value, or one inside it, is of a type."""
    inside = value.values() if isinstance(value, dict) else value
    is_container = isinstance(value, dict | list)
    return isinstance(value, kind) or (is_container and any(_holds(item, kind) for item in inside))


@pytest.mark.slow
class TestMongoStoreOnMongomock(StoreContract):
    unproved: ClassVar[Mapping[type, str]] = {
        SupportsMessages: "mongomock's bulk_write of updates fails with current PyMongo",
        SupportsChildren: "mongomock's bulk_write of updates fails with current PyMongo",
        SupportsPublishing: "mongomock cannot measure a document",
        SupportsTransactions: "mongomock has no sessions",
        SupportsThreadRenewal: "there is no server that a thread could connect to",
    }

    @pytest_asyncio.fixture
    async def store(self) -> AsyncIterator[MongoStore]:
        database = cast("AsyncDatabase[Any]", MongomockDatabase())
        # mongomock knows no `hello`, which is sent for the server's time only.
        store = MongoStore.from_database(database, clock=ManualClock())
        await store.init()
        yield store
        await store.close()

    @pytest.mark.parametrize(("given", "stored"), [_value(*pair) for pair in VALUES], ids=repr)
    async def test_a_value_is_the_same_on_every_path(
        self, store: Store, given: Any, stored: Any
    ) -> None:
        await super().test_a_value_is_the_same_on_every_path(store, given, stored)

    @pytest.mark.parametrize("depth", [pytest.param(300, marks=NO_DEPTH), 5000])
    async def test_a_value_nested_too_deep_is_refused(self, store: Store, depth: int) -> None:
        await super().test_a_value_nested_too_deep_is_refused(store, depth)

    @pytest.mark.skip(reason="mongomock's bulk_write of updates fails with current PyMongo")
    async def test_claims_that_end_together_share_no_fate(self, store: Store) -> None: ...

    @pytest.mark.skip(reason="mongomock has no limit on the size of a document; the server has")
    async def test_a_result_has_the_room_that_the_input_leaves(self, store: Store) -> None: ...

    @pytest.mark.skip(reason="mongomock's bulk_write of updates fails with current PyMongo")
    async def test_calls_that_race_end_as_one_after_the_other_would(
        self, *args: Any, **kwargs: Any
    ) -> None: ...

    @pytest.mark.skip(reason="mongomock's bulk_write of updates fails with current PyMongo")
    async def test_a_promise_is_kept_beside_one_that_is_refused(self, store: Store) -> None: ...

    @pytest.mark.skip(reason="mongomock's bulk_write of updates fails with current PyMongo")
    async def test_a_restart_comes_before_or_after_another_call(
        self, *args: Any, **kwargs: Any
    ) -> None: ...

"""The collections, with the concerns that the guarantees rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import IndexModel, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from bluestreak_core.errors import StoreRefused
from bluestreak_mongo.bson_rules import CODEC, TOLERANT
from bluestreak_mongo.driver import store_errors
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.inspection import build_info, check_collections, check_server
from bluestreak_mongo.schema import MESSAGES, NAPS, STEPS, WORKERS, WORKFLOWS, Document
from bluestreak_mongo.schema.index import INDEXES, WORKER_INDEXES

WRITE_CONCERN = WriteConcern("majority", j=True)
"""An acknowledged write is on disk at a majority of the members, so no failover takes it back."""

READ_CONCERN = ReadConcern("majority")
"""What is read cannot be rolled back. A replay over a rolled-back step would be another run."""

SNAPSHOT = ReadConcern("snapshot")
"""A command sees the database as it was at one moment. Standalone servers refuse it."""

CONCERNS: dict[str, Any] = {
    "codec_options": CODEC,
    "read_preference": ReadPreference.PRIMARY,
    "write_concern": WRITE_CONCERN,
    "read_concern": READ_CONCERN,
}
"""What each collection is used with, whatever the client's URL says."""

# CannotCreateIndex, IndexOptionsConflict, IndexKeySpecsConflict, DuplicateKey.
_INDEX_CONFLICTS = frozenset({67, 85, 86, 11000})


class Database:
    """An application's database, as this store uses it.

    The concerns are set here, whatever the client's URL says: they are not a matter of taste.
    """

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self._database = database
        self.workflows = self._collection(WORKFLOWS)
        self.steps = self._collection(STEPS)
        self.naps = self._collection(NAPS)
        self.messages = self._collection(MESSAGES)
        self.workers = self._collection(WORKERS)
        self.tolerant_workflows = self._collection(WORKFLOWS, codec_options=TOLERANT)
        self.snapshot_workflows = self._collection(WORKFLOWS, read_concern=SNAPSHOT)
        self.is_routed = False
        """Whether the client is connected to a router of a sharded cluster; `init` finds out."""

    @property
    def name(self) -> str:
        """The name of the database."""
        return self._database.name

    @property
    def client(self) -> Any:
        """The client, of PyMongo or of Motor."""
        return self._database.client

    async def hello(self) -> Mapping[str, Any]:
        """What the server says of itself."""
        answer: Mapping[str, Any] = await self._database.command("hello")
        return answer

    async def server_time(self) -> datetime:
        """The server's time of day."""
        with store_errors():
            hello = await self.hello()
        server_time: datetime = hello["localTime"]
        return server_time

    async def check_server(self, hello: Mapping[str, Any]) -> None:
        """Refuse a server that is known not to do."""
        build = await build_info(self._database)
        check_server(hello, build, [host for host, _ in self.client.nodes])

    async def check_collections(self) -> None:
        """Refuse collections that are known not to do."""
        await check_collections(self._database)

    async def create_indexes(self) -> None:
        """Create the indexes that are missing; the JavaScript library creates the same ones.

        Raises `StoreRefused` where documents or indexes that are there already do not allow one.
        """
        for collection in (self.workflows, self.steps, self.naps, self.messages):
            await _create_indexes(collection, INDEXES[collection.name])

    async def create_worker_indexes(self) -> None:
        """Create the indexes of the workers, which only workers need. Raises `StoreRefused`."""
        await _create_indexes(self.workers, WORKER_INDEXES)

    def _collection(self, name: str, **options: Any) -> AsyncCollection[Document]:
        return self._database.get_collection(name, **(CONCERNS | options))


async def _create_indexes(
    collection: AsyncCollection[Document], indexes: Sequence[IndexModel]
) -> None:
    try:
        await collection.create_indexes(indexes)
    except OperationFailure as error:
        if error.code not in _INDEX_CONFLICTS:
            raise
        raise StoreRefused(f"collection {collection.name!r}: {shown(error)}") from error

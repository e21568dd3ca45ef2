"""A database in memory, behind the part of PyMongo's asynchronous interface that MongoStore uses.

mongomock stores Python objects instead of BSON, so what rests on the encoding cannot be shown on
it. `test_mongomock_store.py` names what that is.
"""

from __future__ import annotations

from typing import Any

from bson import CodecOptions
from mongomock_motor import AsyncMongoMockClient
from pymongo import IndexModel

_PARTIAL = "partialFilterExpression"


class MongomockDatabase:
    """An empty database; each has a server of its own."""

    name = "mongomock"

    def __init__(self) -> None:
        self._database: Any = AsyncMongoMockClient()[self.name]

    async def command(self, name: str, **_: Any) -> dict[str, Any]:
        """What `init` asks the server: what it is, and what is there already, which is nothing."""
        assert name in ("hello", "listCollections")
        return {"cursor": {"firstBatch": []}} if name == "listCollections" else {}

    def get_collection(
        self, name: str, *, codec_options: CodecOptions[dict[str, Any]], **options: Any
    ) -> Any:
        """A collection with these options, as far as mongomock knows them."""
        # It raises NotImplementedError for any uuid_representation and any tzinfo.
        known = CodecOptions[dict[str, Any]](tz_aware=codec_options.tz_aware)
        collection = self._database.get_collection(name, codec_options=known, **options)
        create_indexes = collection.create_indexes

        async def create_whole_indexes(indexes: list[IndexModel]) -> None:
            # It takes a partial index for one of all documents, which would refuse most of them.
            whole = [index for index in indexes if _PARTIAL not in index.document]
            await create_indexes(whole)

        collection.create_indexes = create_whole_indexes
        return collection

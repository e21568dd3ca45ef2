"""Deleting what the earlier generations of a restarted workflow have recorded.

They are not read any more, so nothing depends on when that is done, or whether. Records are deleted
by their keys, once it is known that their workflow was still there after they were read: one that
is stalled in between does not delete what the next workflow of the same id records.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.record import WORKFLOW_CREATED_AT, Owner

logger = logging.getLogger(__name__)

AT_ONCE = 1000
"""Records that one command deletes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Leftovers:
    """Deletes the records that are older than a generation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @writes
    async def delete(self, owner: Owner) -> None:
        """Delete what was recorded before this generation of a restarted workflow.

        In an outage, or without the privilege, it is left to a later call; that is logged.
        """
        try:
            for collection in (self._database.steps, self._database.naps):
                while await self._delete_some(collection, owner):
                    pass
        except PyMongoError as error:
            logger.info(
                "workflow %r: records from before its restart are deleted later: %s",
                *(owner.workflow_id, shown(error)),
                extra={"workflow_id": owner.workflow_id},
            )

    async def _delete_some(self, collection: AsyncCollection[Document], owner: Owner) -> bool:
        """Whether there may be more."""
        key = {wf.WORKFLOW_ID: owner.workflow_id}
        # Without the field are those of the JavaScript library.
        older = key | {WORKFLOW_CREATED_AT: {"$not": {"$gte": owner.begun_ms}}}
        found = await collection.find(older, {"_id": 1}).limit(AT_ONCE).to_list(None)
        if not found or not await self._is_there(owner):
            return False
        keys = [record["_id"] for record in found]
        await collection.delete_many(key | {"_id": {"$in": keys}})
        return len(found) == AT_ONCE

    async def _is_there(self, owner: Owner) -> bool:
        """Whether the workflow is in this generation or a later one."""
        begun_at = _EPOCH + timedelta(milliseconds=owner.begun_ms or 0)
        ours = {wf.WORKFLOW_ID: owner.workflow_id, wf.RESTARTED_AT: {"$gte": begun_at}}
        return await self._database.workflows.find_one(ours, {"_id": 1}) is not None

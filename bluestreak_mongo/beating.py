"""Signs of life of callbacks, which their workflows keep: the last one of each."""

from __future__ import annotations

from datetime import datetime

from pymongo.errors import WriteError

from bluestreak_core.errors import WorkflowEnded, WorkflowNotFound
from bluestreak_core.store import ENDED
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.outcome import check_moved
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.beat import AT
from bluestreak_mongo.schema.step import STEP_ID


class Beating:
    """Keeps signs of life; the method is that of `SupportsMessages`."""

    def __init__(self, database: Database) -> None:
        self._workflows = database.workflows

    @writes
    async def beat(self, workflow_id: str, step_id: str, now: datetime) -> None:
        """See `SupportsMessages.beat`."""
        key = {wf.WORKFLOW_ID: workflow_id, wf.PRUNED_AT: None}
        alive = key | {wf.STATUS: {"$nin": [status.value for status in ENDED]}}
        try:
            beaten = await self._workflows.update_one(alive, _beat(step_id, now))
        except WriteError as error:
            check_moved(error, workflow_id)
            raise
        if beaten.matched_count:
            return
        if await self._workflows.find_one(key, {"_id": 1}) is None:
            raise WorkflowNotFound(workflow_id)
        raise WorkflowEnded(workflow_id)


def _beat(step_id: str, now: datetime) -> list[Document]:
    """Replaces the entry of a step by one that is not older."""
    kept = {"$ifNull": [f"${wf.BEATS}", []]}
    is_of_step = {"$eq": [f"$$beat.{STEP_ID}", {"$literal": step_id}]}
    others = {"$filter": {"input": kept, "as": "beat", "cond": {"$not": [is_of_step]}}}
    of_step = {"$filter": {"input": kept, "as": "beat", "cond": is_of_step}}
    before = {"$map": {"input": of_step, "as": "beat", "in": f"$$beat.{AT}"}}
    entry = {STEP_ID: {"$literal": step_id}, AT: {"$max": [{"$max": before}, now]}}
    return [{"$set": {wf.BEATS: {"$concatArrays": [others, [entry]]}}}]

"""Forking a workflow, in steps of which each may be the last one of its process.

The new workflow is created as `paused`, so nobody claims it, then it gets its records, and only
then is it resumed. A fork that was broken off is completed by the same call. If its source
is being deleted meanwhile, it may lack some records, and is marked for deletion itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from bluestreak_core import machine
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import StepNotRecorded, WorkflowNotFound
from bluestreak_core.machine import Event
from bluestreak_core.model import Status, Workflow
from bluestreak_mongo import documents as doc
from bluestreak_mongo import transitions
from bluestreak_mongo.bulk import insert_each
from bluestreak_mongo.database import Database
from bluestreak_mongo.documents import Document

_AT_ONCE = 500
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

Place = tuple[datetime, Any]
"""Where a record stands among those of its workflow."""


async def fork(
    database: Database, workflow_id: str, new_id: str, before: str | None, now: datetime
) -> bool:
    """See `Forks.fork`."""
    found = await database.workflows.find_one({doc.WORKFLOW_ID: workflow_id})
    if found is None or doc.to_workflow(found).pruned_at is not None:
        raise WorkflowNotFound(workflow_id)
    source = doc.to_workflow(found)
    until = None if before is None else await _place_of(database, source, before)
    forked = machine.fork(source, new_id, now, before=until and until[0])
    document = doc.from_workflow(forked) | {doc.STATUS: Status.PAUSED.value}
    try:
        await database.workflows.insert_one(document)
    except DuplicateKeyError:
        if not await _is_broken_off(database, forked):
            return False
    for collection in (database.steps, database.naps):
        await _copy(collection, workflow_id, new_id, until)
    key = {doc.WORKFLOW_ID: new_id}
    if not await _is_still_whole(database, found):
        await database.workflows.update_one(key, transitions.discard(now))
        raise WorkflowNotFound(workflow_id)
    ((accepted, update),) = transitions.control(Event.RESUME, now, None)
    await database.workflows.update_one(key | accepted, update)
    return True


async def _is_still_whole(database: Database, source: Document) -> bool:
    """Whether nobody has begun to delete a workflow, so that no record of it was missing."""
    same = {doc.WORKFLOW_ID: source[doc.WORKFLOW_ID], "_id": source["_id"], doc.PRUNED_AT: None}
    return await database.workflows.find_one(same, {"_id": 1}) is not None


async def _place_of(database: Database, source: Workflow, step_id: str) -> Place:
    for failed in source.failed_steps:
        if failed.step_id == step_id:
            return failed.failed_at, None
    key = {doc.WORKFLOW_ID: source.workflow_id, doc.STEP_ID: step_id}
    step = await database.steps.find_one(key, {doc.SAVED_AT: 1})
    if step is None:
        raise StepNotRecorded(source.workflow_id, step_id)
    return _place(step)


async def _is_broken_off(database: Database, forked: Workflow) -> bool:
    ours = {doc.WORKFLOW_ID: forked.workflow_id, doc.FORKED_FROM: forked.forked_from}
    untouched = {doc.STATUS: Status.PAUSED.value, doc.CLAIMS: 0}
    return await database.workflows.find_one(ours | untouched, {"_id": 1}) is not None


async def _copy(
    collection: AsyncCollection[Document], workflow_id: str, new_id: str, until: Place | None
) -> None:
    """Copy what was recorded before; what is there already, of an earlier call, stays."""
    part: list[Document] = []
    theirs = {doc.WORKFLOW_ID: workflow_id, doc.ATTEMPT: None}
    async for record in collection.find(theirs, batch_size=_AT_ONCE):
        if until is None or _is_before(_place(record), until):
            part.append(record | {"_id": ObjectId(), doc.WORKFLOW_ID: new_id})
        if len(part) == _AT_ONCE:
            await _insert(collection, part)
            part = []
    if part:
        await _insert(collection, part)


async def _insert(collection: AsyncCollection[Document], part: list[Document]) -> None:
    for outcome in await insert_each(collection, part):
        if outcome is not None and not isinstance(outcome, DuplicateKeyError):
            raise outcome


def _place(record: Mapping[str, Any]) -> Place:
    """When it was recorded; JavaScript says so by the `_id` alone, to the second."""
    saved_at, key = record.get(doc.SAVED_AT), record["_id"]
    if isinstance(saved_at, datetime):
        return in_milliseconds(saved_at), key
    return (key.generation_time if isinstance(key, ObjectId) else _LONG_AGO), key


def _is_before(place: Place, until: Place) -> bool:
    """Of records of one instant, the key tells, as far as it is known."""
    if place[0] != until[0]:
        return place[0] < until[0]
    comparable = isinstance(place[1], ObjectId) and isinstance(until[1], ObjectId)
    return comparable and place[1] < until[1]

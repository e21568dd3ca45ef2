"""Forking a workflow, in steps of which each may be the last one of its process.

The new workflow is created as `paused` and marked as being forked, so it can be neither claimed nor
resumed. It then gets its records, and only then do the mark and the pause go. The same call
completes a fork that was broken off. If its source is being deleted meanwhile, the fork may lack
some records, and is marked for deletion itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bson
from bson import ObjectId
from pymongo import ASCENDING
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from bluestreak_core import machine
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import StepNotRecorded, TransitionRefused, WorkflowNotFound
from bluestreak_core.model import FailedStep, Status, Workflow
from bluestreak_core.store import Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import CODEC
from bluestreak_mongo.bulk import insert_each
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.outcome import check_written
from bluestreak_mongo.schema import FIRST_DATE, Document, Index
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.index import BY_NAP, BY_STEP
from bluestreak_mongo.schema.message import MESSAGE_ID
from bluestreak_mongo.schema.nap import ATTEMPT
from bluestreak_mongo.schema.record import (
    SAVED_AT,
    WORKFLOW_CREATED_AT,
    Owner,
    own_id,
    recorded_at,
)
from bluestreak_mongo.schema.step import STEP_ID

_AT_ONCE = 500
_DATED: Document = {SAVED_AT: 1, WORKFLOW_CREATED_AT: 1}
BYTES_AT_ONCE = 16 * 1024 * 1024
"""Of records that are held in memory, before the last one of them."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a record stands among those of its workflow, by when it was made and by its key."""

    recorded_at: datetime
    key: Any = None

    def is_before(self, other: _Place) -> bool:
        """By the instant, and for records of the same instant by the key, if it is known."""
        if self.recorded_at != other.recorded_at:
            return self.recorded_at < other.recorded_at
        comparable = isinstance(self.key, ObjectId) and isinstance(other.key, ObjectId)
        return comparable and bool(self.key < other.key)


@dataclass(frozen=True, slots=True)
class _Part:
    """Which records of a workflow are copied: all before a place, or up to it."""

    place: _Place
    including: bool = False

    def has(self, place: _Place) -> bool:
        return not self.place.is_before(place) if self.including else place.is_before(self.place)


class Forking:
    """Forks workflows."""

    def __init__(self, database: Database, hints: Hints) -> None:
        self._database = database
        self._hints = hints

    @writes
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        """See `SupportsForks.fork`."""
        forked = await _fork(self._database, workflow_id, new_id, before, now)
        if forked:
            self._hints.due(now)
        return forked


async def _fork(
    database: Database, workflow_id: str, new_id: str, before: str | None, now: datetime
) -> bool:
    found = await _find_source(database, workflow_id)
    source = wf.to_workflow(found)
    machine.check_fork(source, before)
    part = await _part(database, source, before)
    given_up = await _given_up(database, source, before, part)
    forked = machine.fork(source, new_id, now, given_up)
    is_new = await _create(database, forked, before, part, source)
    if not is_new:
        begun = await _find_begun(database, forked, before, source)
        if begun is None:
            return False
        forked, part = begun
    for collection, index in ((database.steps, BY_STEP), (database.naps, BY_NAP)):
        await _copy(collection, index, source, forked, part)
    key = {wf.WORKFLOW_ID: new_id}
    whole = await _find_unpruned(database, found)
    if whole is None or whole.get(wf.RESTARTED_AT) != found.get(wf.RESTARTED_AT):
        await database.workflows.update_one(key, transitions.discard(now))
        if whole is None:
            raise WorkflowNotFound(workflow_id)
        raise TransitionRefused(workflow_id, machine.RESTARTED, "fork")
    completed = await database.workflows.update_one(
        key | _being_forked(before, source), transitions.complete_fork(now)
    )
    # Somebody else has completed it, or has cancelled it meanwhile.
    return bool(completed.matched_count) or (is_new and await _is_unfinished(database, new_id))


async def _find_source(database: Database, workflow_id: str) -> Document:
    found = await database.workflows.find_one({wf.WORKFLOW_ID: workflow_id})
    if found is None or wf.to_workflow(found).pruned_at is not None:
        raise WorkflowNotFound(workflow_id)
    if found.get(wf.FORKING) is not None:
        raise TransitionRefused(workflow_id, machine.FORKING, "fork")
    return found


async def _create(
    database: Database, forked: Workflow, before: str | None, part: _Part, source: Workflow
) -> bool:
    place = {SAVED_AT: part.place.recorded_at, wf.FORKING_KEY: part.place.key}
    generation = {wf.GENERATION: source.generation} if source.generation else {}
    mark = {wf.FORKING: {wf.FORKING_BEFORE: before} | place | generation}
    document = wf.from_workflow(forked) | {wf.STATUS: Status.PAUSED.value} | mark
    (outcome,) = await insert_each(database.workflows, [document])
    if isinstance(outcome, DuplicateKeyError):
        return False
    check_written(outcome, forked.input, f"input of workflow {forked.workflow_id!r}")
    return True


def _being_forked(before: str | None, source: Workflow) -> Document:
    """Matches a fork that the same call has begun, and that is neither completed nor cancelled.

    It is not the same call if the source has restarted since.
    """
    mark = {
        wf.FORKING: {"$ne": None},
        f"{wf.FORKING}.{wf.FORKING_BEFORE}": before,
        f"{wf.FORKING}.{wf.GENERATION}": source.generation or None,
    }
    return {wf.STATUS: Status.PAUSED.value} | mark


async def _find_begun(
    database: Database, forked: Workflow, before: str | None, source: Workflow
) -> tuple[Workflow, _Part] | None:
    """A fork that was broken off, to be completed by this call, and which part it was to have."""
    ours = {wf.WORKFLOW_ID: forked.workflow_id, wf.FORKED_FROM: forked.forked_from}
    begun = await database.workflows.find_one(ours | _being_forked(before, source))
    if begun is None:
        return None
    mark = begun[wf.FORKING]
    place = _Place(in_milliseconds(mark[SAVED_AT]), mark[wf.FORKING_KEY])
    return wf.to_workflow(begun), _Part(place, including=before is None)


async def _is_unfinished(database: Database, new_id: str) -> bool:
    ours = {wf.WORKFLOW_ID: new_id, wf.FORKING: {"$ne": None}}
    return await database.workflows.find_one(ours, {"_id": 1}) is not None


async def _find_unpruned(database: Database, source: Document) -> Document | None:
    """The same workflow as it is now, unless it is being deleted.

    If it is, or if it restarts, some of its records may have been missing.
    """
    same = {wf.WORKFLOW_ID: source[wf.WORKFLOW_ID], "_id": source["_id"], wf.PRUNED_AT: None}
    return await database.workflows.find_one(same, {wf.RESTARTED_AT: 1})


async def _part(database: Database, source: Workflow, before: str | None) -> _Part:
    """What is recorded before a step, or what is recorded by now, while the source may go on."""
    owner, key = Owner.of(source), {wf.WORKFLOW_ID: source.workflow_id}
    if before is None:
        last = _Place(FIRST_DATE)
        for collection in (database.steps, database.naps):
            async for record in collection.find(key, _DATED):
                place = _place(record)
                is_later = owner.owns(record) and last.is_before(place)
                last = place if is_later else last
        return _Part(last, including=True)
    for failed in source.failed_steps:
        if failed.step_id == before:
            return _Part(_Place(failed.failed_at))
    places = [before, owner.id_beside(before)]
    found = database.steps.find(key | {STEP_ID: {"$in": places}}, _DATED)
    step = next(filter(owner.owns, await found.to_list(None)), None)
    if step is None:
        raise StepNotRecorded(source.workflow_id, before)
    return _Part(_place(step))


async def _given_up(
    database: Database, source: Workflow, before: str | None, part: _Part
) -> tuple[FailedStep, ...]:
    """Of the steps that were given up those that are in the part.

    While the part was determined, more may have been, whose compensation is in it.
    """
    now = await database.workflows.find_one({wf.WORKFLOW_ID: source.workflow_id})
    given_up = source.failed_steps if now is None else wf.to_workflow(now).failed_steps
    # One that ends just as a step is recorded has come before it: a later one takes two writes.
    until = part.place.recorded_at
    return tuple(
        failed
        for failed in given_up
        if failed.step_id != before
        and (failed.failed_at <= until or (before is None and failed in source.failed_steps))
    )


async def _copy(
    collection: AsyncCollection[Document],
    index: Index,
    source: Workflow,
    forked: Workflow,
    part: _Part,
) -> None:
    """Copy some records, in their order; what is there already, of an earlier call, stays."""
    owner = Owner.of(source)
    copies: list[Document] = []
    size = 0
    theirs = {wf.WORKFLOW_ID: source.workflow_id, ATTEMPT: None}
    id_field = index[-1][0]
    # Without the hint, the server may well look for them among all that there is, in this order.
    found = collection.find(theirs, batch_size=_AT_ONCE).hint(index).sort("_id", ASCENDING)
    async for record in found:
        place = _place(record)
        if not part.has(place) or not owner.owns(record):
            continue
        # With the time, a copy of what JavaScript has recorded keeps its place under another key.
        dated = {} if place.recorded_at == FIRST_DATE else {SAVED_AT: place.recorded_at}
        own = {"_id": ObjectId(), **Owner.of(forked).stamp}
        if isinstance(record.get(id_field), str):
            own[id_field] = own_id(record, record[id_field])
        record.pop(MESSAGE_ID, None)  # the fork has a mailbox of its own
        copies.append(dated | record | own)
        size += len(bson.encode(record, codec_options=CODEC))
        if len(copies) == _AT_ONCE or size >= BYTES_AT_ONCE:
            await _insert(collection, copies)
            copies, size = [], 0
    if copies:
        await _insert(collection, copies)


async def _insert(collection: AsyncCollection[Document], copies: list[Document]) -> None:
    for copy, outcome in zip(copies, await insert_each(collection, copies), strict=True):
        if not isinstance(outcome, DuplicateKeyError):
            name, workflow_id = collection.name, copy[wf.WORKFLOW_ID]
            check_written(outcome, copy, f"a copy in {name!r} for workflow {workflow_id!r}")


def _place(record: Mapping[str, Any]) -> _Place:
    return _Place(recorded_at(record), record["_id"])

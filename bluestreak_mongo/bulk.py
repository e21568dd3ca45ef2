"""Bulk writes, and what came of each of their parts.

A server answers an unordered bulk of inserts with the errors of the single documents, and one of
updates with how many have matched. Where that is not enough, and where there was no answer, the
documents are read back. Where a command is refused as a whole, for one document that the server
cannot even read, its halves are sent again: each part of a bulk may be repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from pymongo import UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteError,
)

from bluestreak_core import machine
from bluestreak_core.adapter import GroupCommit, Outcome
from bluestreak_core.errors import CorruptDocument, StoreUnavailable
from bluestreak_core.machine import Change
from bluestreak_core.model import Claim, Workflow
from bluestreak_mongo import transitions
from bluestreak_mongo.database import Database
from bluestreak_mongo.delivery import count_each, deliver_each
from bluestreak_mongo.driver import is_passing, translated
from bluestreak_mongo.duplicate import is_foreign, single_told_apart, told_apart
from bluestreak_mongo.error_code import (
    is_about_sender,
    is_code_about_document,
    is_labelled_passing,
)
from bluestreak_mongo.routing import write_each
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.index import KEYS

Item = TypeVar("Item")

_TELLING = {"_id": 0} | dict.fromkeys((*wf.STATE_FIELDS, wf.COMPENSATES, wf.UNSETTLED), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One call that ends a claim."""

    claim: Claim
    change: Change
    update: Document | list[Document] | None = None
    """What carries it out, if that depends on the workflow; else the change alone does."""
    only_if: Document = field(default_factory=dict)
    """What the workflow has to match besides."""


class Groups:
    """The writes that the calls of one store share, by what can be written together."""

    def __init__(self, database: Database) -> None:
        self.workflows = GroupCommit(partial(insert_each, database.workflows))
        self.steps = GroupCommit(partial(insert_each, database.steps))
        self.naps = GroupCommit(partial(insert_each, database.naps))
        self.endings = GroupCommit(partial(end_each, database.workflows))
        self.messages = GroupCommit(partial(insert_each, database.messages))
        self.deliveries = GroupCommit(partial(deliver_each, database.workflows))
        self.counts = GroupCommit(partial(count_each, database.workflows))
        self.receipts = GroupCommit(partial(mark_each, database.messages))
        self.settlements = GroupCommit(partial(mark_each, database.workflows))


async def mark_each(
    collection: AsyncCollection[Document], marks: Sequence[tuple[Document, Document]]
) -> list[Outcome]:
    """Carry out updates that are mere notes: each may be repeated, or match nothing."""
    try:
        await write_each(collection, [UpdateOne(*mark) for mark in marks])
    except PyMongoError as error:
        return [translated(error) for _ in marks]
    return [None] * len(marks)


async def insert_each(
    collection: AsyncCollection[Document], documents: Sequence[Document]
) -> list[Outcome]:
    """Insert documents. A `DuplicateKeyError` says that one of the same id was there before."""

    async def retry(part: Sequence[Document]) -> list[Outcome]:
        return await insert_each(collection, part)

    try:
        if len(documents) == 1:
            await collection.insert_one(documents[0])
        else:
            await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        outcomes = _outcomes(error, len(documents), collection.name)
        is_kept = not error.details.get("writeConcernErrors")
    except WriteError as error:
        if is_passing(error):
            return await _found_inserted(collection, documents, error)
        outcomes = [single_told_apart(error, collection.name)]
        is_kept = False  # the driver does not say whether the write concern failed, too
    except PyMongoError as error:
        if is_passing(error) and not _may_be_of_one(error, documents):
            return await _found_inserted(collection, documents, error)
        return await _apart(retry, documents, error)
    else:
        return [None] * len(documents)
    outcomes = await _first_by_id(collection, documents, outcomes)
    return outcomes if is_kept else await _kept_by_majority(collection, documents, outcomes)


async def end_each(
    workflows: AsyncCollection[Document], endings: Sequence[Ending]
) -> list[Outcome]:
    """End claims. A `ClaimLost` says that a claim is not in force, and that nothing was written."""

    async def retry(part: Sequence[Ending]) -> list[Outcome]:
        return await end_each(workflows, part)

    outcomes: list[Outcome] = [None] * len(endings)
    try:
        matched = await _update(workflows, endings)
    except BulkWriteError as error:
        outcomes = _outcomes(error, len(endings), None)
        matched = error.details["nMatched"]
    except PyMongoError as error:
        if is_passing(error) and not _may_be_of_one(error, endings):
            return await _found_ended(workflows, endings, error)
        return await _apart(retry, endings, error)
    if matched == outcomes.count(None):
        return outcomes
    found = await _found_ended(workflows, endings, None)
    return [outcome or found[place] for place, outcome in enumerate(outcomes)]


async def _update(workflows: AsyncCollection[Document], endings: Sequence[Ending]) -> int:
    """How many of the claims were in force."""
    updates = [
        (
            transitions.in_force(ending.claim) | ending.only_if,
            ending.update or transitions.update(ending.change),
        )
        for ending in endings
    ]
    if len(updates) == 1:
        return (await workflows.update_one(*updates[0])).matched_count
    bulk = [UpdateOne(*update) for update in updates]
    return (await workflows.bulk_write(bulk, ordered=False)).matched_count


async def _apart(
    retry: Callable[[Sequence[Item]], Awaitable[list[Outcome]]],
    items: Sequence[Item],
    error: PyMongoError,
) -> list[Outcome]:
    """What comes of the parts of a command that was refused as a whole."""
    if len(items) == 1:
        return [error]
    if isinstance(error, OperationFailure) and is_about_sender(error):
        return [translated(error) for _ in items]
    half = len(items) // 2
    return [*await retry(items[:half]), *await retry(items[half:])]


def _may_be_of_one(error: PyMongoError, items: Sequence[Any]) -> bool:
    """Whether one of several may be what the server met an assertion at."""
    if len(items) == 1 or not isinstance(error, OperationFailure) or is_labelled_passing(error):
        return False
    return is_code_about_document(error.code)


def _outcomes(error: BulkWriteError, count: int, collection: str | None) -> list[Outcome]:
    """What a server has said of the parts of a bulk, each error an object of its own.

    `collection` is where they are inserted; an update has no id that could be a duplicate.
    """
    unsure = error.details.get("writeConcernErrors")
    outcomes: list[Outcome] = [
        StoreUnavailable(unsure[0]["errmsg"]) if unsure else None for _ in range(count)
    ]
    for refused in error.details["writeErrors"]:
        outcomes[refused["index"]] = (
            WriteError(refused["errmsg"], refused["code"])
            if collection is None
            else told_apart(refused, collection)
        )
    return outcomes


async def _first_by_id(
    collection: AsyncCollection[Document],
    documents: Sequence[Document],
    outcomes: list[Outcome],
) -> list[Outcome]:
    """Say of those of an id that was there before that they are, whichever index has said no.

    The server names the first index that refuses a document, which may be an application's.
    """
    for place, outcome in enumerate(outcomes):
        if is_foreign(outcome):
            there = DuplicateKeyError(str(outcome))
            outcomes[place] = await _by_id(collection, documents[place], there, outcome)
    return outcomes


async def _kept_by_majority(
    collection: AsyncCollection[Document],
    documents: Sequence[Document],
    outcomes: list[Outcome],
) -> list[Outcome]:
    """Say of those that were there before that they are, only if a majority has them.

    What an earlier call has left on a primary that is cut off may be rolled back yet.
    """
    for place, outcome in enumerate(outcomes):
        if isinstance(outcome, DuplicateKeyError):
            missing = StoreUnavailable(f"not replicated yet: {outcome}")
            outcomes[place] = await _by_id(collection, documents[place], outcome, missing)
    return outcomes


async def _by_id(
    collection: AsyncCollection[Document], document: Document, there: Outcome, missing: Outcome
) -> Outcome:
    """One of two outcomes, by whether a document of the same id is there."""
    key = {field: document[field] for field in KEYS[collection.name]}
    try:
        found = await collection.find_one(key, {"_id": 1})
    except PyMongoError as unread:
        return translated(unread)
    return missing if found is None else there


async def _found_inserted(
    collection: AsyncCollection[Document], documents: Sequence[Document], error: PyMongoError
) -> list[Outcome]:
    """The outcomes of an insert without an answer, by the documents that are there."""
    ids = [document.get("_id") for document in documents]
    ours = {
        wf.WORKFLOW_ID: {"$in": [document[wf.WORKFLOW_ID] for document in documents]},
        "_id": {"$in": ids},
    }
    try:
        found = {document["_id"] async for document in collection.find(ours, {"_id": 1})}
    except PyMongoError:
        found = set()  # the first error says more than this one
    return [None if key in found else translated(error) for key in ids]


async def _found_ended(
    workflows: AsyncCollection[Document], endings: Sequence[Ending], error: PyMongoError | None
) -> list[Outcome]:
    """Which claims have been ended by these calls, these very ones or the same ones before."""
    theirs = {wf.WORKFLOW_ID: {"$in": [ending.claim.workflow_id for ending in endings]}}
    try:
        found = {
            document[wf.WORKFLOW_ID]: document
            async for document in workflows.find(theirs, _TELLING)
        }
    except PyMongoError as unread:
        return [translated(error or unread) for _ in endings]
    return [_outcome(ending, found.get(ending.claim.workflow_id), error) for ending in endings]


def _outcome(ending: Ending, found: dict[str, Any] | None, error: PyMongoError | None) -> Outcome:
    claim = ending.claim
    workflow: Workflow | None = None
    try:
        workflow = None if found is None else wf.to_workflow(found)
    except CorruptDocument as corrupt:
        return corrupt
    if machine.in_force(workflow, claim):
        if machine.is_noted(workflow, ending.change):
            return None
        return translated(error) if error else undecided("workflow", claim.workflow_id)
    if machine.has_ended_by(workflow, claim, ending.change.event):
        return None
    return machine.lost(workflow, claim)


def undecided(kind: str, name: str) -> StoreUnavailable:
    """A write was refused for what a majority does not show yet; a later call finds out."""
    return StoreUnavailable(f"{kind} {name!r} was written by another, and is not committed yet")

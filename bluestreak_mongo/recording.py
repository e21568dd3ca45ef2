"""Steps, naps and failed attempts: each recorded once, by whoever is first, and read back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from bson.errors import InvalidBSON
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import DuplicateKeyError, OperationFailure

from bluestreak_core import machine
from bluestreak_core.adapter import GroupCommit, Outcome
from bluestreak_core.model import Attempt, Claim, FailedStep, History, Nap, Step
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Groups, undecided
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import reads, writes
from bluestreak_mongo.outcome import check_written
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.error import from_error
from bluestreak_mongo.schema.nap import (
    NAP_ID,
    from_attempt,
    from_nap,
    to_attempt,
    to_nap,
    to_replayed,
)
from bluestreak_mongo.schema.record import SAVED_AT, WORKFLOW_CREATED_AT, Owner, own_id
from bluestreak_mongo.schema.step import STEP_ID, from_step, to_step
from bluestreak_mongo.unreadable import UnreadableDocuments, read_each, undecodable

T = TypeVar("T")

_PAGE = 10_000
"""Records that a history is read by at once; the server sends no more than 16 MB at once."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is recorded alike."""

    name: str
    group: GroupCommit[Document]
    collection: AsyncCollection[Document]
    id_field: str


class Recording:
    """What workflows record. Its methods are those of the Store protocol."""

    def __init__(
        self, database: Database, groups: Groups, rules: BsonRules, unreadable: UnreadableDocuments
    ) -> None:
        self._database = database
        self._steps = _Kind("step", groups.steps, database.steps, STEP_ID)
        self._naps = _Kind("nap", groups.naps, database.naps, NAP_ID)
        self._rules = rules
        self._unreadable = unreadable

    @reads
    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        """See `Store.find_step`."""
        found = await self._find(self._database.steps, workflow_id, STEP_ID, step_id)
        return None if found is None else to_step(found)

    @reads
    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        """See `Store.find_nap`."""
        found = await self._find(self._database.naps, workflow_id, NAP_ID, nap_id)
        return None if found is None else to_nap(found)

    @reads
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        """See `Store.history`."""
        histories = {claim.workflow_id: History() for claim in claims}
        owners = {claim.workflow_id: Owner.of(claim.workflow) for claim in claims}
        fields = {SAVED_AT: 0}
        for step in await self._records(self._steps, owners, fields, to_step):
            histories[step.workflow_id].steps[step.step_id] = step.output
        attempts: dict[str, list[Attempt]] = {}
        for record in await self._records(self._naps, owners, None, to_replayed):
            if isinstance(record, Attempt):
                attempts.setdefault(record.workflow_id, []).append(record)
            else:
                histories[record.workflow_id].naps[record.nap_id] = record.wake_up_at
        for claim in claims:
            made = attempts.get(claim.workflow_id, ())
            latest = machine.latest_attempts(made, claim.workflow.retries)
            histories[claim.workflow_id].attempts.update(latest)
        return histories

    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        """See `Store.save_step`."""
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        value, size = self._rules.round_trip(output, what)
        document = from_step(claim.workflow, step_id, value, now)
        outcome, winner = await self._insert(self._steps, claim, document, size)
        if winner is not None:
            return to_step(winner).output
        check_written(outcome, value, what)
        return value

    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        """See `Store.save_nap`."""
        document = from_nap(claim.workflow, nap_id, wake_up_at, now)
        outcome, winner = await self._insert(self._naps, claim, document, 0)
        if winner is not None:
            return to_nap(winner).wake_up_at
        check_written(outcome, wake_up_at, f"nap {nap_id!r} of workflow {claim.workflow_id!r}")
        return wake_up_at

    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        """See `Store.save_attempt`."""
        document = from_attempt(claim.workflow, attempt)
        size = len(attempt.error.traceback)
        outcome, winner = await self._insert(self._naps, claim, document, size)
        if winner is not None:
            return to_attempt(winner)
        what = f"attempt of step {attempt.step_id!r} of workflow {attempt.workflow_id!r}"
        check_written(outcome, from_error(attempt.error), what)
        return attempt

    @writes
    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        """See `Store.fail_step`."""
        workflows = self._database.workflows
        ours = transitions.without_failed_step(claim, failed.step_id)
        try:
            given_up = await workflows.update_one(ours, transitions.fail_step(failed))
        except OperationFailure as error:
            what = f"error of step {failed.step_id!r} of workflow {claim.workflow_id!r}"
            check_written(error, from_error(failed.error), what, beside=claim.workflow.input)
            raise
        if given_up.matched_count:
            return
        found = await find_one(workflows, {wf.WORKFLOW_ID: claim.workflow_id})
        workflow = None if found is None else wf.to_workflow(found)
        if not machine.in_force(workflow, claim):
            raise machine.lost(workflow, claim)

    async def _insert(
        self, kind: _Kind, claim: Claim, document: Document, size: int
    ) -> tuple[Outcome, Document | None]:
        """Record something; what came of that, and what was recorded before, if there was.

        What a deleted workflow of the same id has left in the place is neither: the record is kept
        beside it.
        """
        outcome = await self._with_progress(claim, kind.group.call(document, size))
        if not isinstance(outcome, DuplicateKeyError):
            return outcome, None
        name = document[kind.id_field]
        winner = await self._find_winner(kind, claim.workflow_id, name)
        if winner is None:
            raise undecided(kind.name, own_id(document, name)) from outcome
        owner = Owner.of(claim.workflow)
        if owner.owns(winner):
            return None, winner
        beside = owner.id_beside(name)
        copy = {field: document[field] for field in document if field != "_id"}
        return await self._insert(kind, claim, copy | {kind.id_field: beside}, size)

    @reads
    async def _find_winner(self, kind: _Kind, workflow_id: str, name: str) -> Document | None:
        key = {wf.WORKFLOW_ID: workflow_id, kind.id_field: name}
        return await find_one(kind.collection, key)

    async def _find(
        self, collection: AsyncCollection[Document], workflow_id: str, id_field: str, name: str
    ) -> Document | None:
        """A record of the workflow that there is, and not of a deleted one that had its id."""
        key = {wf.WORKFLOW_ID: workflow_id}
        found = await find_one(collection, key | {id_field: name})
        if found is None or WORKFLOW_CREATED_AT not in found:
            return found
        workflow = await find_one(self._database.workflows, key, fields={wf.CREATED_AT: 1})
        if workflow is None:
            return None
        owner = Owner.created(workflow_id, workflow.get(wf.CREATED_AT))
        if owner.owns(found):
            return found
        return await find_one(collection, key | {id_field: owner.id_beside(name)})

    async def _records(
        self,
        kind: _Kind,
        owners: Mapping[str, Owner],
        fields: Document | None,
        read: Callable[[Document], T],
    ) -> list[T]:
        """The steps or the naps of some workflows by their ids, and not of deleted ones.

        Raises `CorruptDocument` for the first unreadable one. A record whose id no handler can ask
        for is passed over.
        """

        def query(records: AsyncCollection[Document]) -> AsyncCursor[Document]:
            theirs = {wf.WORKFLOW_ID: {"$in": list(owners)}}
            return records.find(theirs, fields, batch_size=_PAGE)

        def read_own(document: Document) -> T | None:
            workflow_id = document[wf.WORKFLOW_ID]
            is_known = isinstance(workflow_id, str)  # else it is refused, by its name
            is_own = not is_known or owners[workflow_id].owns(document)
            return read(document) if is_own else None

        found, unreadable = await read_each(kind.collection, query, read_own)
        for document in unreadable:
            if document.error.field != kind.id_field:
                raise document.error
            self._unreadable.report(document, "it is passed over")
        return [one for one in found if one is not None]

    def _with_progress(
        self, claim: Claim, insert: Coroutine[Any, Any, Outcome]
    ) -> Coroutine[Any, Any, Outcome]:
        """Record something, and if there were crashes before, count them afresh."""
        return self._count_progress(claim, insert) if claim.workflow.crashes else insert

    @writes
    async def _count_progress(self, claim: Claim, insert: Coroutine[Any, Any, Outcome]) -> Outcome:
        outcome = await insert
        if outcome is None:
            ours = transitions.in_force(claim)
            await self._database.workflows.update_one(ours, transitions.progress())
        return outcome


async def find_one(
    collection: AsyncCollection[Document],
    key: Document,
    session: Any = None,
    fields: Document | None = None,
) -> Document | None:
    """A document by its key. Raises `CorruptDocument` for what is no valid BSON."""
    try:
        return await collection.find_one(key, fields, session=session)
    except InvalidBSON as error:
        raise undecodable(collection.name, key[wf.WORKFLOW_ID], error) from error


async def find_place(
    collection: AsyncCollection[Document],
    claim: Claim,
    id_field: str,
    name: str,
    session: Any = None,
) -> tuple[str, Document | None]:
    """Under which id a claim is to record something, and what is recorded there."""
    key = {wf.WORKFLOW_ID: claim.workflow_id}
    owner = Owner.of(claim.workflow)
    found = await collection.find_one(key | {id_field: name}, session=session)
    if found is None or owner.owns(found):
        return name, found
    beside = owner.id_beside(name)
    return beside, await collection.find_one(key | {id_field: beside}, session=session)

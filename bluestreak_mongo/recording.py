"""Steps, naps and failed attempts: each recorded once, by whoever is first, and read back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from bson.errors import InvalidBSON
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import DuplicateKeyError, OperationFailure

from bluestreak_core import machine
from bluestreak_core.model import Attempt, Claim, FailedStep, History, Nap, Step
from bluestreak_mongo import documents as doc
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Groups, undecided
from bluestreak_mongo.database import Database
from bluestreak_mongo.documents import Document
from bluestreak_mongo.driver import reads, writes
from bluestreak_mongo.group_commit import Outcome
from bluestreak_mongo.outcome import check_written
from bluestreak_mongo.stray import Strays, read_each, undecodable

T = TypeVar("T")

_PAGE = 10_000
"""Records that a history is read by at once; the server sends no more than 16 MB at once."""


class Recording:
    """What workflows record. Its methods are those of the Store protocol."""

    def __init__(
        self, database: Database, groups: Groups, rules: BsonRules, strays: Strays
    ) -> None:
        self._database = database
        self._groups = groups
        self._rules = rules
        self._strays = strays

    @reads
    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        """See `Store.find_step`."""
        key = {doc.WORKFLOW_ID: workflow_id, doc.STEP_ID: step_id}
        found = await find_one(self._database.steps, key)
        return None if found is None else doc.to_step(found)

    @reads
    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        """See `Store.find_nap`."""
        found = await self._find_nap(workflow_id, nap_id)
        return None if found is None else doc.to_nap(found)

    @reads
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        """See `Store.history`."""
        histories = {claim.workflow_id: History() for claim in claims}
        database, theirs = self._database, list(histories)
        fields = {doc.SAVED_AT: 0}
        for step in await self._records(database.steps, theirs, doc.STEP_ID, fields, doc.to_step):
            histories[step.workflow_id].steps[step.step_id] = step.output
        attempts: dict[str, list[Attempt]] = {}
        for record in await self._records(database.naps, theirs, doc.NAP_ID, None, doc.to_record):
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
        document = doc.from_step(claim.workflow_id, step_id, value, now)
        insert = self._groups.steps.call(document, size)
        outcome = await self._with_progress(claim, insert)
        if isinstance(outcome, DuplicateKeyError):
            winner = await self.find_step(claim.workflow_id, step_id)
            if winner is None:
                raise undecided("step", step_id) from outcome
            return winner.output
        check_written(outcome, value, what)
        return value

    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        """See `Store.save_nap`."""
        document = doc.from_nap(claim.workflow_id, nap_id, wake_up_at, now)
        insert = self._groups.naps.call(document, 0)
        outcome = await self._with_progress(claim, insert)
        if isinstance(outcome, DuplicateKeyError):
            winner = await self.find_nap(claim.workflow_id, nap_id)
            if winner is None:
                raise undecided("nap", nap_id) from outcome
            return winner.wake_up_at
        check_written(outcome, wake_up_at, f"nap {nap_id!r} of workflow {claim.workflow_id!r}")
        return wake_up_at

    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        """See `Store.save_attempt`."""
        document = doc.from_attempt(attempt)
        insert = self._groups.naps.call(document, len(attempt.error.traceback))
        outcome = await self._with_progress(claim, insert)
        if isinstance(outcome, DuplicateKeyError):
            winner = await self._find_attempt(attempt)
            if winner is None:
                raise undecided("attempt of step", attempt.step_id) from outcome
            return winner
        what = f"attempt of step {attempt.step_id!r} of workflow {attempt.workflow_id!r}"
        check_written(outcome, doc.from_error(attempt.error), what)
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
            check_written(error, doc.from_error(failed.error), what, beside=claim.workflow.input)
            raise
        if given_up.matched_count:
            return
        found = await find_one(workflows, {doc.WORKFLOW_ID: claim.workflow_id})
        workflow = None if found is None else doc.to_workflow(found)
        if not machine.in_force(workflow, claim):
            raise machine.lost(workflow, claim)

    @reads
    async def _find_attempt(self, attempt: Attempt) -> Attempt | None:
        nap_id = doc.attempt_id(attempt.step_id, attempt.round, attempt.number)
        found = await self._find_nap(attempt.workflow_id, nap_id)
        return None if found is None else doc.to_attempt(found)

    async def _find_nap(self, workflow_id: str, nap_id: str) -> Document | None:
        key = {doc.WORKFLOW_ID: workflow_id, doc.NAP_ID: nap_id}
        return await find_one(self._database.naps, key)

    async def _records(
        self,
        collection: AsyncCollection[Document],
        workflow_ids: list[str],
        id_field: str,
        fields: Document | None,
        read: Callable[[Document], T],
    ) -> list[T]:
        """The steps or the naps of some workflows. Raises `CorruptDocument` for the first stray.

        One that no handler can ask for is passed over: it is nobody's.
        """

        def query(records: AsyncCollection[Document]) -> AsyncCursor[Document]:
            theirs = {doc.WORKFLOW_ID: {"$in": workflow_ids}}
            return records.find(theirs, fields, batch_size=_PAGE)

        found, strays = await read_each(collection, query, read)
        for stray in strays:
            if stray.error.field != id_field:
                raise stray.error
            self._strays.meet(stray, "it is passed over")
        return found

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
    collection: AsyncCollection[Document], key: Document, session: Any = None
) -> Document | None:
    """A document by its key. Raises `CorruptDocument` for what is no valid BSON."""
    try:
        return await collection.find_one(key, session=session)
    except InvalidBSON as error:
        raise undecodable(collection.name, key[doc.WORKFLOW_ID], error) from error

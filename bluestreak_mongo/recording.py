"""Recording steps, naps and failed attempts: the first call records, the others read that back."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, OperationFailure

from bluestreak_core import machine
from bluestreak_core.adapter import GroupCommit, Outcome
from bluestreak_core.model import Attempt, Claim, FailedStep
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Groups, undecided
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import reads, writes
from bluestreak_mongo.finding import find_one, find_workflow
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
)
from bluestreak_mongo.schema.record import Owner, own_id
from bluestreak_mongo.schema.step import STEP_ID, from_step, to_step


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of record."""

    name: str
    group: GroupCommit[Document]
    collection: AsyncCollection[Document]
    id_field: str


class Recording:
    """Records what workflows do; the methods are those of the Store protocol."""

    def __init__(self, database: Database, groups: Groups, rules: BsonRules) -> None:
        self._database = database
        self._steps = _Kind("step", groups.steps, database.steps, STEP_ID)
        self._naps = _Kind("nap", groups.naps, database.naps, NAP_ID)
        self._rules = rules

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

    async def save_received(
        self, claim: Claim, document: Document, size: int
    ) -> tuple[Outcome, Document | None]:
        """Record a step that has received something: the outcome, and the step of its id if any."""
        return await self._insert(self._steps, claim, document, size)

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
        workflow = await find_workflow(self._database, claim.workflow_id)
        if not machine.in_force(workflow, claim):
            raise machine.lost(workflow, claim)

    async def _insert(
        self, kind: _Kind, claim: Claim, document: Document, size: int
    ) -> tuple[Outcome, Document | None]:
        """Insert a record. Returns the outcome, and the record that was there before, if any.

        A record of a deleted workflow of the same id is neither: the new one is kept beside it.
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

"""Reading what workflows have recorded: for a replay, or to show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core import machine
from bluestreak_core.model import Attempt, Claim, History, Nap
from bluestreak_core.store import Records
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import reads
from bluestreak_mongo.finding import OWNER_FIELDS, owner_of
from bluestreak_mongo.leftovers import Leftovers
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.index import KEYS
from bluestreak_mongo.schema.nap import to_record, to_replayed
from bluestreak_mongo.schema.record import SAVED_AT, Owner, recorded_at
from bluestreak_mongo.schema.step import to_step
from bluestreak_mongo.unreadable import Cursor, UnreadableDocuments, read_each

T = TypeVar("T")

_PAGE = 10_000
"""Records that one answer of the server holds; it is no larger than 16 MB."""


class Histories:
    """Reads the records of workflows, and none of deleted workflows of the same ids."""

    def __init__(
        self, database: Database, unreadable: UnreadableDocuments, leftovers: Leftovers
    ) -> None:
        self._database = database
        self._unreadable = unreadable
        self._leftovers = leftovers

    @reads
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        """See `Store.history`."""
        histories = {claim.workflow_id: History() for claim in claims}
        owners = {claim.workflow_id: Owner.of(claim.workflow) for claim in claims}
        steps, left = self._database.steps, set[Owner]()
        for step in await self._replayed(steps, owners, left, to_step, {SAVED_AT: 0}):
            history = histories[step.workflow_id]
            history.steps[step.step_id] = step.output
            if step.receipt is not None:
                history.receipts[step.step_id] = step.receipt
        attempts: dict[str, list[Attempt]] = {}
        for record in await self._replayed(self._database.naps, owners, left, to_replayed):
            if isinstance(record, Attempt):
                attempts.setdefault(record.workflow_id, []).append(record)
            else:
                histories[record.workflow_id].naps[record.nap_id] = record.wake_up_at
        for claim in claims:
            made = attempts.get(claim.workflow_id, ())
            latest = machine.latest_attempts(made, claim.workflow.retries)
            histories[claim.workflow_id].attempts.update(latest)
        for owner in left:
            await self._leftovers.delete(owner)
        return histories

    @reads
    async def records(self, workflow_id: str) -> Records:
        """See `SupportsSearch.records`."""
        key = {wf.WORKFLOW_ID: workflow_id}
        workflow = await self._database.workflows.find_one(key, OWNER_FIELDS)
        owner = owner_of(workflow_id, workflow)
        steps = await self._shown(self._database.steps, owner, to_step)
        naps = await self._shown(self._database.naps, owner, to_record)
        return Records(
            steps=tuple(steps),
            naps=tuple(record for record in naps if isinstance(record, Nap)),
            attempts=tuple(record for record in naps if isinstance(record, Attempt)),
        )

    async def _replayed(
        self,
        collection: AsyncCollection[Document],
        owners: Mapping[str, Owner],
        left: set[Owner],
        read: Callable[[Document], T],
        fields: Document | None = None,
    ) -> list[T]:
        """The steps or the naps of some workflows by their ids.

        Raises `CorruptDocument` for the first unreadable one. A record whose id no handler can ask
        for is passed over. Restarted workflows that others have left records beside go into `left`.
        """

        def query(records: AsyncCollection[Any]) -> Cursor:
            theirs = {wf.WORKFLOW_ID: {"$in": list(owners)}}
            return records.find(theirs, fields, batch_size=_PAGE)

        def read_own(document: Document) -> T | None:
            workflow_id = document[wf.WORKFLOW_ID]
            is_known = isinstance(workflow_id, str)  # else it is refused, by its name
            if not is_known or (owner := owners[workflow_id]).owns(document):
                return read(document)
            if owner.is_restarted:
                left.add(owner)
            return None

        _, id_field = KEYS[collection.name]
        found, unreadable = await read_each(collection, query, read_own)
        for document in unreadable:
            if document.error.field != id_field:
                raise document.error
            self._unreadable.report(document, "it is passed over")
        return [record for record in found if record is not None]

    async def _shown(
        self, collection: AsyncCollection[Document], owner: Owner, read: Callable[[Document], T]
    ) -> list[T]:
        """The steps or the naps of a workflow, the oldest first, as far as they can be read."""

        def query(records: AsyncCollection[Any]) -> Cursor:
            return records.find({wf.WORKFLOW_ID: owner.workflow_id}, batch_size=_PAGE)

        def dated(document: Document) -> tuple[tuple[datetime, str], T] | None:
            if not owner.owns(document):
                return None
            return (recorded_at(document), str(document["_id"])), read(document)

        found, unreadable = await read_each(collection, query, dated)
        for document in unreadable:
            self._unreadable.report(document, "it is passed over")
        own = [place_and_record for place_and_record in found if place_and_record is not None]
        return [record for _, record in sorted(own, key=lambda dated: dated[0])]

"""Reading a single workflow, step or nap by its id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.errors import InvalidBSON
from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core.model import Claim, Nap, Step, Workflow
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import reads
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.nap import NAP_ID, to_nap
from bluestreak_mongo.schema.record import WORKFLOW_CREATED_AT, Owner
from bluestreak_mongo.schema.step import STEP_ID, to_step
from bluestreak_mongo.unreadable import undecodable

OWNER_FIELDS: Document = {wf.CREATED_AT: 1, wf.RESTARTED_AT: 1}


class Finding:
    """Finds workflows and their records; the methods are those of the Store protocol."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @reads
    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        """See `Store.find_workflow`."""
        return await find_workflow(self._database, workflow_id)

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

    async def _find(
        self, collection: AsyncCollection[Document], workflow_id: str, id_field: str, name: str
    ) -> Document | None:
        """A record of the workflow that there is, as it is now, and not of a deleted one."""
        key = {wf.WORKFLOW_ID: workflow_id}
        workflow = await find_one(self._database.workflows, key, fields=OWNER_FIELDS)
        owner = owner_of(workflow_id, workflow)
        found = await find_one(collection, key | {id_field: owner.place_of(name)})
        if found is None or WORKFLOW_CREATED_AT not in found:
            return found
        if workflow is None:
            return None
        if owner.owns(found):
            return found
        return await find_one(collection, key | {id_field: owner.id_beside(name)})


def owner_of(workflow_id: str, workflow: Mapping[str, Any] | None) -> Owner:
    """The owner of the records of a workflow, from its document with the `OWNER_FIELDS`."""
    found = {} if workflow is None else workflow
    return Owner.stored(workflow_id, found.get(wf.CREATED_AT), found.get(wf.RESTARTED_AT))


async def find_workflow(
    database: Database, workflow_id: str, session: Any = None
) -> Workflow | None:
    """A workflow by its id. Raises `CorruptDocument` for one that cannot be read."""
    found = await find_one(database.workflows, {wf.WORKFLOW_ID: workflow_id}, session)
    return None if found is None else wf.to_workflow(found)


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
    place = owner.place_of(name)
    found = await collection.find_one(key | {id_field: place}, session=session)
    if found is None or owner.owns(found):
        return place, found
    beside = owner.id_beside(name)
    return beside, await collection.find_one(key | {id_field: beside}, session=session)

"""What workflows publish, which is kept in their documents.

It takes no more room there than an input may: the rest is needed to claim and to end a workflow.
"""

from __future__ import annotations

from collections.abc import Sequence

import bson
from pymongo.errors import OperationFailure

from bluestreak_core import machine
from bluestreak_core.errors import ValueTooLarge
from bluestreak_core.model import Claim, Published
from bluestreak_core.store import MAX_VALUE_BYTES
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import CODEC
from bluestreak_mongo.bulk import undecided
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.finding import find_workflow
from bluestreak_mongo.outcome import check_written
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf

_BEFORE: Document = {"$bsonSize": {wf.PUBLISHED: f"${wf.PUBLISHED}"}}
_ROOM: Document = {
    "$subtract": [MAX_VALUE_BYTES, {"$subtract": [{"$bsonSize": "$$ROOT"}, _BEFORE]}]
}
"""The bytes that a workflow may publish, beside all else that is in its document."""
_LEFT = "left"


class Publishing:
    """Publishes; the methods are those of `SupportsPublishing`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @writes
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        """See `SupportsPublishing.publish`."""
        ours, update = transitions.in_force(claim), transitions.publish(published)
        workflows = self._database.workflows
        what = f"what workflow {claim.workflow_id!r} has published"
        size = len(bson.encode(update["$set"], codec_options=CODEC))
        fitting = {"$expr": {"$gte": [_ROOM, size]}}
        try:
            written = await workflows.update_one(ours | fitting, update)
        except OperationFailure as error:
            values = {latest.name: latest.value for latest in published}
            check_written(error, values, what, beside=claim.workflow.input)
            raise
        if written.matched_count:
            return
        found = await workflows.find_one(ours, {"_id": 0, _LEFT: _ROOM})
        if found is not None and found[_LEFT] < size:
            raise ValueTooLarge(what, size, max(0, found[_LEFT]))
        workflow = await find_workflow(self._database, claim.workflow_id)
        if machine.in_force(workflow, claim):
            raise undecided("workflow", claim.workflow_id)
        raise machine.lost(workflow, claim)

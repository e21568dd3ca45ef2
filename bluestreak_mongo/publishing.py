"""What workflows publish, which is kept in their documents."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo.errors import OperationFailure

from bluestreak_core import machine
from bluestreak_core.model import Claim, Published
from bluestreak_mongo import transitions
from bluestreak_mongo.bulk import undecided
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.finding import find_workflow
from bluestreak_mongo.outcome import check_written


class Publishing:
    """Publishes; the methods are those of `SupportsPublishing`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @writes
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        """See `SupportsPublishing.publish`."""
        ours, update = transitions.in_force(claim), transitions.publish(published)
        try:
            written = await self._database.workflows.update_one(ours, update)
        except OperationFailure as error:
            what = f"what workflow {claim.workflow_id!r} has published"
            values = {latest.name: latest.value for latest in published}
            check_written(error, values, what, beside=claim.workflow.input)
            raise
        if written.matched_count:
            return
        workflow = await find_workflow(self._database, claim.workflow_id)
        if machine.in_force(workflow, claim):
            raise undecided("workflow", claim.workflow_id)
        raise machine.lost(workflow, claim)

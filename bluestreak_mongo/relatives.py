"""The children of workflows, and what is left to be done for the relatives of what has ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core.machine import change
from bluestreak_core.model import Claim, Standing
from bluestreak_core.store import Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.address import Address
from bluestreak_mongo.bulk import Ending, Groups
from bluestreak_mongo.database import Database
from bluestreak_mongo.delivery import Delivery, Unreachable
from bluestreak_mongo.driver import reads
from bluestreak_mongo.outcome import check_moved
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.index import BY_PARENT, BY_UNSETTLED
from bluestreak_mongo.shared_read import SharedRead
from bluestreak_mongo.unreadable import Cursor, UnreadableDocuments, read_first

_WITHOUT_VALUES: Document = {wf.INPUT: 0, wf.RESULT: 0}


class Relatives:
    """Does what `SupportsChildren` asks for."""

    def __init__(
        self,
        database: Database,
        groups: Groups,
        addresses: SharedRead[Address],
        unreadable: UnreadableDocuments,
        hints: Hints,
    ) -> None:
        self._workflows = database.workflows
        self._groups = groups
        self._addresses = addresses
        self._unreadable = unreadable
        self._hints = hints

    async def adopt(self, claim: Claim) -> None:
        """See `SupportsChildren.adopt`."""
        adoption = Ending(claim=claim, change=change.adopt())
        check_moved(await self._groups.endings.call(adoption, 0), claim.workflow_id)

    @reads
    async def find_children(
        self, workflow_id: str, created_at: datetime | None, limit: int
    ) -> Sequence[str]:
        """See `SupportsChildren.find_children`."""
        live = transitions.live_children(workflow_id, created_at)

        def look(workflows: AsyncCollection[Any], count: int) -> Cursor:
            found = workflows.find(live, {wf.WORKFLOW_ID: 1}, batch_size=count)
            return found.hint(BY_PARENT).limit(count)

        found, _ = await read_first(self._workflows, look, wf.to_workflow_id, limit)
        return found

    async def find_mail(self, workflow_id: str) -> int:
        """See `SupportsChildren.find_mail`."""
        address = await self._addresses.find(workflow_id)
        return 0 if address is None else address.mail

    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        """See `SupportsChildren.nudge`."""
        delivery = Delivery(workflow_id=workflow_id, created_at=created_at, name=name, sent_at=now)
        outcome = await self._groups.deliveries.call(delivery, 0)
        if not isinstance(outcome, Unreachable):
            check_moved(outcome, workflow_id)
        self._hints.delivered(workflow_id)
        self._hints.due(now)  # where there is no change stream, nothing else tells

    @reads
    async def find_unsettled(self, limit: int) -> Sequence[Standing]:
        """See `SupportsChildren.find_unsettled`."""

        def look(workflows: AsyncCollection[Any], count: int) -> Cursor:
            left = transitions.unsettled()
            found = workflows.find(left, _WITHOUT_VALUES, batch_size=count)
            return found.hint(BY_UNSETTLED).limit(count)

        found, unreadable = await read_first(self._workflows, look, _to_standing, limit)
        for document in unreadable:
            self._unreadable.report(document, "its relatives are not seen to")
        return found

    async def settle(self, seen: Standing) -> None:
        """See `SupportsChildren.settle`."""
        note = (transitions.settled_by(seen), transitions.settle())
        check_moved(await self._groups.settlements.call(note, 0), seen.workflow_id)


def _to_standing(document: Document) -> Standing:
    return wf.to_workflow(document).standing

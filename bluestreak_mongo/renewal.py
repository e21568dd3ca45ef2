"""Renewing leases, also by blocking calls for a thread beside an event loop that is blocked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pymongo
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database as BlockingDatabase
from pymongo.errors import BulkWriteError, WriteError
from typing_extensions import override

from bluestreak_core.errors import CorruptDocument
from bluestreak_core.model import Claim
from bluestreak_core.run import RENEWALS_PER_LEASE
from bluestreak_core.store import Renewer
from bluestreak_mongo import transitions
from bluestreak_mongo.connection import GOODBYE, Connection
from bluestreak_mongo.database import CONCERNS, Database
from bluestreak_mongo.driver import Unauthenticated, store_errors, writes
from bluestreak_mongo.error_code import is_about_document, reason_of
from bluestreak_mongo.routing import first_failure, write_each
from bluestreak_mongo.schema import WORKFLOWS, Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.unreadable import Unreadable, UnreadableDocuments


class Renewal:
    """Renews leases on the store's own connection."""

    def __init__(self, database: Database, unreadable: UnreadableDocuments) -> None:
        self._workflows = database.workflows
        self._is_routed = database.is_routed
        self._unreadable = unreadable

    @writes
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        """See `Store.renew`."""
        return await self._renew(claims, transitions.renew(now, lease)) if claims else []

    async def _renew(self, claims: Sequence[Claim], update: Document) -> list[Claim]:
        """The claims that are lost. A workflow that cannot be changed keeps no other from it."""
        try:
            renewed = await self._update(claims, update)
        except WriteError as error:
            if not is_about_document(error):
                raise
            if len(claims) == 1:
                unrenewable = _unrenewable(claims[0], error)
                self._unreadable.report(unrenewable, "its lease cannot be renewed")
                return list(claims)
            return [lost for claim in claims for lost in await self._renew([claim], update)]
        if renewed == len(claims):
            return []
        ours = transitions.any_in_force(claims)
        held = [found async for found in self._workflows.find(ours, transitions.HELD)]
        return transitions.lost(claims, held)

    async def _update(self, claims: Sequence[Claim], update: Document) -> int:
        """How many of the workflows were matched."""
        if self._is_routed:
            each = [UpdateOne(transitions.in_force(claim), update) for claim in claims]
            return (await write_each(self._workflows, each)).matched_count
        ours = transitions.any_in_force(claims)
        return (await self._workflows.update_many(ours, update)).matched_count


def _unrenewable(claim: Claim, error: WriteError) -> Unreadable:
    reason = f"cannot be written: {reason_of(error)}"
    refused = CorruptDocument(WORKFLOWS, claim.workflow_id, wf.TIMEOUT_AT, reason)
    return Unreadable(key=claim.workflow_id, error=refused)


class BlockingRenewer(Renewer):
    """Renews leases on a connection of its own, which the first call makes; for any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._database: BlockingDatabase[Document] | None = None

    @override
    def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        """`Store.renew`, given up after a third of the lease."""
        try:
            with store_errors(), pymongo.timeout(lease.total_seconds() / RENEWALS_PER_LEASE):
                update = transitions.renew(now, lease)
                each = [UpdateOne(transitions.in_force(claim), update) for claim in claims]
                workflows = self._workflows()
                if _matched(workflows, each) == len(claims):
                    return []
                ours = transitions.any_in_force(claims)
                return transitions.lost(claims, workflows.find(ours, transitions.HELD))
        except Unauthenticated:
            self.close()  # the next call has another connection
            raise

    @override
    def close(self) -> None:
        """Close the client, if there is one."""
        database, self._database = self._database, None
        if database is not None:
            with pymongo.timeout(GOODBYE):
                database.client.close()

    def _workflows(self) -> Collection[Document]:
        if self._database is None:
            self._database = self._connection.open_blocking()
        return self._database.get_collection(WORKFLOWS, **CONCERNS)


def _matched(workflows: Collection[Document], updates: list[UpdateOne]) -> int:
    try:
        return workflows.bulk_write(updates, ordered=False).matched_count
    except BulkWriteError as error:
        raise first_failure(error) from error

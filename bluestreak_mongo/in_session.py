"""Calls that are part of a transaction of the caller's.

The driver's errors pass as they are, since the caller's `with_transaction` goes by them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bluestreak_core.machine import Transition
from bluestreak_core.model import NewWorkflow, Workflow
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.control import Control
from bluestreak_mongo.database import Database
from bluestreak_mongo.finding import find_workflow
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.starting import new_document
from bluestreak_mongo.transactions import check_session


class InSession:
    """Starts, reads and moves workflows in a session's transaction."""

    def __init__(self, database: Database, rules: BsonRules, control: Control) -> None:
        self._database = database
        self._rules = rules
        self._control = control

    async def create(self, session: Any, new: NewWorkflow) -> bool:
        """See `SupportsTransactions.create_in`."""
        document, _ = new_document(new, self._rules)
        check_session(session, self._database)
        workflows = self._database.workflows
        # A duplicate would not only be refused, it would end the caller's transaction.
        key = {wf.WORKFLOW_ID: new.workflow_id}
        if await workflows.find_one(key, {"_id": 1}, session=session) is not None:
            return False
        await workflows.insert_one(document, session=session)
        return True

    async def find(self, session: Any, workflow_id: str) -> Workflow | None:
        """See `SupportsTransactions.find_in`."""
        check_session(session, self._database)
        return await find_workflow(self._database, workflow_id, session)

    async def control(
        self, session: Any, workflow_id: str, event: Transition, now: datetime, reason: str | None
    ) -> None:
        """See `SupportsTransactions.control_in`."""
        check_session(session, self._database)
        await self._control.move_in(session, workflow_id, event, now, reason)

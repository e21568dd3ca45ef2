"""What is done to a workflow from outside, and how its worker finds out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pymongo.errors import WriteError

from bluestreak_core import machine
from bluestreak_core.errors import TransitionRefused, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.store import Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.outcome import check_moved
from bluestreak_mongo.schema import WORKFLOWS, Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.reader import Reader

_LATE = timedelta(seconds=1)
"""By how much the clock of another process may differ from ours."""


_DECIDING = (wf.WORKFLOW_ID, wf.STATUS, wf.PRUNED_AT, wf.FORKING, wf.COMPENSATES, wf.OUTCOME)
"""What decides whether a transition is refused."""


class Control:
    """Moves workflows without a claim."""

    def __init__(self, database: Database, hints: Hints) -> None:
        self._workflows = database.workflows
        self._tolerant_workflows = database.tolerant_workflows
        self._hints = hints

    @writes
    async def move(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None
    ) -> None:
        """See `Store.control`."""
        await self.move_in(None, workflow_id, event, now, reason)
        if machine.target(event).ended:
            self._hints.ended(workflow_id)
        if event in (Transition.CANCEL, Transition.PAUSE):
            self._hints.controlled()
        if event is not Transition.PAUSE:  # a cancelled one may be due to compensate
            self._hints.due(now)

    async def move_in(
        self, session: Any, workflow_id: str, event: Transition, now: datetime, reason: str | None
    ) -> None:
        """See `SupportsTransactions.control_in`; without a transaction if `session` is None."""
        key = {wf.WORKFLOW_ID: workflow_id}
        fields = dict.fromkeys(_DECIDING, 1)
        changes = transitions.control(event, now, reason)
        while not await self._apply_one(workflow_id, changes, session):
            found = await self._workflows.find_one(key, fields, session=session)
            if found is None:
                raise WorkflowNotFound(workflow_id)
            if (status := _refusing(found, event)) is not None:
                raise TransitionRefused(workflow_id, status, event)
            if found.get(wf.COMPENSATES) is not None:
                Reader(WORKFLOWS, found).flag(wf.COMPENSATES)  # no change is for another value
            # Else it was moved just then.

    # Not broken off when the last run ends, since PyMongo leaks the socket of a connection that is
    # broken off while it is made.
    @writes
    async def has_taken_from(self, worker: str, since: datetime, now: datetime) -> bool:
        """Whether somebody may have cancelled or paused what this worker has had a claim on."""
        taken = transitions.taken_from(worker, since - _LATE, now + _LATE)
        return await self._tolerant_workflows.find_one(taken, {"_id": 1}) is not None

    async def _apply_one(
        self,
        workflow_id: str,
        changes: Sequence[tuple[Document, Document | list[Document]]],
        session: Any,
    ) -> bool:
        """Whether a workflow was in one of the states that are moved from."""
        for accepted, update in changes:
            ours = {wf.WORKFLOW_ID: workflow_id} | accepted
            try:
                moved = await self._workflows.update_one(ours, update, session=session)
            except WriteError as error:
                if session is None:
                    check_moved(error, workflow_id)
                raise
            if moved.matched_count:
                return True
        return False


def _refusing(found: Document, event: Transition) -> str | None:
    """The state that a workflow is in, or is said to be in, if that refuses an event."""
    if found.get(wf.PRUNED_AT) is not None:
        return machine.PRUNED
    if found.get(wf.FORKING) is not None and event is not Transition.CANCEL:
        return machine.FORKING
    status = found.get(wf.STATUS)
    if status not in machine.sources(event):
        return str(status)
    is_over = event is Transition.RETRY and found.get(wf.OUTCOME) is not None
    return machine.COMPENSATED if is_over else None

"""Ending claims: a workflow is parked, released, finished or failed under its claim."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bluestreak_core import machine
from bluestreak_core.adapter import Outcome
from bluestreak_core.errors import UnstorableValue, ValueTooLarge
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, Failure
from bluestreak_core.store import Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Ending, Groups
from bluestreak_mongo.outcome import check_moved, check_written
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema.error import from_error


class Endings:
    """Ends claims; the methods are those of the Store protocol."""

    def __init__(self, groups: Groups, rules: BsonRules, hints: Hints) -> None:
        self._groups = groups
        self._rules = rules
        self._hints = hints

    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        """See `Store.park`."""
        await self._make_due(claim, Transition.PARK, wake_up_at)

    async def release(self, claim: Claim, now: datetime) -> None:
        """See `Store.release`."""
        await self._make_due(claim, Transition.RELEASE, now)

    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        """See `Store.finish`."""
        what = f"result of workflow {claim.workflow_id!r}"
        value, size = self._rules.round_trip(result, what)
        update = transitions.finish(value, now)
        outcome = await self._end(claim, Transition.FINISH, update, size)
        check_written(outcome, value, what, beside=claim.workflow.input)
        self._hints.ended(claim.workflow_id)

    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        """See `Store.fail`."""
        event = machine.failure_transition(failure)
        outcome = await self._end(claim, event, transitions.fail(failure, now))
        what = f"error of workflow {claim.workflow_id!r}"
        try:
            check_written(outcome, from_error(failure.error), what)
        except (UnstorableValue, ValueTooLarge):  # an index or a validator refuses the error
            without_error = transitions.fail_without_error(failure, now)
            check_moved(await self._end(claim, event, without_error), claim.workflow_id)
        if failure.retry_at is None:
            self._hints.ended(claim.workflow_id)
        else:
            self._hints.due(failure.retry_at)

    async def _make_due(self, claim: Claim, event: Transition, due_at: datetime) -> None:
        outcome = await self._end(claim, event, transitions.make_due(event, due_at))
        check_moved(outcome, claim.workflow_id)
        self._hints.due(due_at)

    async def _end(
        self, claim: Claim, event: Transition, update: Document, size: int = 0
    ) -> Outcome:
        return await self._groups.endings.call(
            Ending(claim=claim, event=event, update=update), size
        )

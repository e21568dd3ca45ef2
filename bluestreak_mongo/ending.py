"""Ending claims: a workflow is parked, released, finished or failed under its claim."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from bluestreak_core.adapter import Outcome
from bluestreak_core.errors import UnstorableValue, ValueTooLarge
from bluestreak_core.machine import Change, change
from bluestreak_core.model import Claim, ErrorRecord, Failure
from bluestreak_core.store import Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Ending, Groups
from bluestreak_mongo.outcome import check_moved, check_written
from bluestreak_mongo.schema.error import from_error


class Endings:
    """Ends claims; the methods are those of the Store protocol."""

    def __init__(self, groups: Groups, rules: BsonRules, hints: Hints) -> None:
        self._groups = groups
        self._rules = rules
        self._hints = hints

    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        """See `Store.park`."""
        await self.make_due(claim, change.park(wake_up_at), wake_up_at)

    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        """See `SupportsMessages.park_until_message`."""
        ending = Ending(
            claim=claim,
            change=change.wait(wake_up_at, tuple(names)),
            update=transitions.wait(wake_up_at, names, mail, now),
        )
        check_moved(await self._groups.endings.call(ending, 0), claim.workflow_id)
        self._hints.due(now)  # if a message has come

    async def release(self, claim: Claim, now: datetime) -> None:
        """See `Store.release`."""
        await self.make_due(claim, change.release(now), now)

    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        """See `Store.finish`."""
        what = f"result of workflow {claim.workflow_id!r}"
        value, size = self._rules.round_trip(result, what)
        outcome = await self._end(claim, change.finish(value, now), size)
        check_written(outcome, value, what, beside=claim.workflow.input)
        self._hints.ended(claim.workflow_id)

    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        """See `Store.fail`."""
        await self.end_with_error(claim, change.fail(failure, now), failure.error)
        if failure.retry_at is None:
            self._hints.ended(claim.workflow_id)
        else:
            self._hints.due(failure.retry_at)

    async def end_with_error(self, claim: Claim, failed: Change, error: ErrorRecord) -> None:
        """End a claim by a change that has an error."""
        outcome = await self._end(claim, failed)
        what = f"error of workflow {claim.workflow_id!r}"
        try:
            check_written(outcome, from_error(error), what)
        except (UnstorableValue, ValueTooLarge):  # an index or a validator refuses the error
            check_moved(await self._end(claim, _without_error(failed)), claim.workflow_id)

    async def make_due(self, claim: Claim, moved: Change, due_at: datetime) -> None:
        """End a claim by a change after which the workflow is due at an instant."""
        await self.move(claim, moved)
        self._hints.due(due_at)

    async def end_for_good(self, claim: Claim, moved: Change) -> None:
        """End a claim by a change that ends the workflow, too."""
        await self.move(claim, moved)
        self._hints.ended(claim.workflow_id)

    async def move(self, claim: Claim, moved: Change) -> None:
        """Carry out a change that holds no value of the application, whether it ends the claim."""
        check_moved(await self._end(claim, moved), claim.workflow_id)

    async def _end(self, claim: Claim, moved: Change, size: int = 0) -> Outcome:
        return await self._groups.endings.call(Ending(claim=claim, change=moved), size)


def _without_error(failed: Change) -> Change:
    """The same failure, for a document that cannot hold its error."""
    kept = {name: value for name, value in failed.set.items() if name != "error"}
    return failed._replace(set=kept, clear=("error",))

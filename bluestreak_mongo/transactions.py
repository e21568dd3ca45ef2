"""Steps inside MongoDB transactions, and starts and cancellations inside the caller's."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ReadPreference
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost, InvalidArgument, Unsupported
from bluestreak_core.model import Claim, Step
from bluestreak_mongo import documents as doc
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.database import WRITE_CONCERN, Database
from bluestreak_mongo.documents import Document
from bluestreak_mongo.driver import is_passing, translated

SNAPSHOT = ReadConcern("snapshot")

_REPLICA_SET_OR_ROUTER = ("setName", "msg")
"""What `hello` answers where there are transactions: a set's name, or a router's greeting."""


class _Lost(Exception):
    """The claim is not in force: nothing may be committed."""


class Transactions:
    """The transactions of one store."""

    def __init__(self, database: Database, rules: BsonRules) -> None:
        self._database = database
        self._rules = rules
        self._are_possible: bool | None = None

    async def check_possible(self, call: str) -> None:
        """Raise `Unsupported` on a standalone server."""
        if self._are_possible is None:
            hello = await self._database.hello()
            self._are_possible = any(field in hello for field in _REPLICA_SET_OR_ROUTER)
        if not self._are_possible:
            raise Unsupported(call, "the server is standalone, a replica set has transactions")

    def check_session(self, session: Any) -> None:
        """Refuse what is no session of this client with a transaction under way."""
        if getattr(session, "client", None) is not self._database.client:
            raise InvalidArgument("session", session, "expected a session of the store's client")
        if not session.in_transaction:
            raise InvalidArgument("session", session, "it has no transaction under way")

    async def step(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        """The recorded output: of this call, or of whoever was first."""
        attempt = _Attempt(
            database=self._database,
            rules=self._rules,
            claim=claim,
            step_id=step_id,
            fn=fn,
            now=now,
        )
        session = self._database.client.start_session()
        if inspect.isawaitable(session):  # Motor's
            session = await session
        try:
            async with session:
                await self._announce(claim, session)
                return await session.with_transaction(
                    attempt.run,
                    read_concern=SNAPSHOT,
                    write_concern=WRITE_CONCERN,
                    read_preference=ReadPreference.PRIMARY,
                )
        except _Lost:
            raise await self._loss(claim) from None
        except PyMongoError as error:
            if error is attempt.error_of_fn and not is_passing(error):
                raise
            # It may have been committed all the same, or another one's record was first.
            if (step := await self._recorded(claim, step_id)) is not None:
                return step.output
            raise translated(error) from error

    async def _announce(self, claim: Claim, session: Any) -> None:
        """So that whoever takes over can end the transaction, if this process dies in it."""
        session_id = session.session_id["id"].as_uuid()
        announced = await self._database.workflows.update_one(
            transitions.in_force(claim), transitions.announce(session_id)
        )
        if not announced.matched_count:
            raise _Lost

    async def _recorded(self, claim: Claim, step_id: str) -> Step | None:
        key = {doc.WORKFLOW_ID: claim.workflow_id, doc.STEP_ID: step_id}
        try:
            found = await self._database.steps.find_one(key)
        except PyMongoError:
            return None  # the first error tells more than that this one came on top of it
        return None if found is None else doc.to_step(found)

    async def _loss(self, claim: Claim) -> ClaimLost:
        found = await self._database.workflows.find_one({doc.WORKFLOW_ID: claim.workflow_id})
        return machine.lost(None if found is None else doc.to_workflow(found), claim)


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """A step's function with what is committed beside it. It may be run several times."""

    database: Database
    rules: BsonRules
    claim: Claim
    step_id: str
    fn: Callable[[Any], Awaitable[Any]]
    now: Callable[[], datetime]
    error_of_fn: PyMongoError | None = None

    async def run(self, session: Any) -> Any:
        key = {doc.WORKFLOW_ID: self.claim.workflow_id, doc.STEP_ID: self.step_id}
        recorded = await self.database.steps.find_one(key, session=session)
        if recorded is not None:
            return doc.to_step(recorded).output
        try:
            returned = await self.fn(session)
        except PyMongoError as error:
            self.error_of_fn = error
            raise
        what = f"output of step {self.step_id!r} of workflow {self.claim.workflow_id!r}"
        output, _ = self.rules.round_trip(returned, what)
        await self.database.steps.insert_one(self._document(output), session=session)
        # Last, so that the workflow is locked for as short as can be. The update has to change
        # something: else it would not meet that of another who takes the claim meanwhile.
        ours = transitions.in_force(self.claim)
        checked = await self.database.workflows.update_one(
            ours, transitions.in_transaction(), session=session
        )
        if not checked.matched_count:
            raise _Lost
        return output

    def _document(self, output: Any) -> Document:
        return doc.from_step(
            Step(
                workflow_id=self.claim.workflow_id,
                step_id=self.step_id,
                output=output,
                saved_at=self.now(),
            )
        )

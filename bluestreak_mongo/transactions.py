"""Steps inside MongoDB transactions, and starts and cancellations inside the caller's."""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from bson.errors import InvalidBSON
from pymongo import ReadPreference
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from bluestreak_core import machine
from bluestreak_core.concurrency import cancel_once, finish_despite_cancel
from bluestreak_core.errors import ClaimLost, InvalidArgument, Unsupported, UsageError
from bluestreak_core.model import Claim, Step
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import undecided
from bluestreak_mongo.contention import Turns
from bluestreak_mongo.database import SNAPSHOT, WRITE_CONCERN, Database
from bluestreak_mongo.driver import reads, store_errors
from bluestreak_mongo.duplicate import is_duplicate_id
from bluestreak_mongo.error_code import is_about_document
from bluestreak_mongo.finding import find_place
from bluestreak_mongo.outcome import refusal
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.step import STEP_ID, from_step, to_step

_MAX_TIME_EXPIRED = 50
_TRANSIENT = "TransientTransactionError"

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
        self._turns: defaultdict[str, Turns] = defaultdict(Turns)

    @reads
    async def check_possible(self, call: str) -> None:
        """Raise `Unsupported` on a standalone server."""
        if self._are_possible is None:
            hello = await self._database.hello()
            self._are_possible = any(field in hello for field in _REPLICA_SET_OR_ROUTER)
        if not self._are_possible:
            raise Unsupported(call, "the server is standalone, a replica set has transactions")

    async def step(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        """The recorded output, of this call or of an earlier one.

        A cancellation cancels the function, and rolls all back. A commit that has been sent goes on
        to its end.
        """
        attempt = _Attempt(
            database=self._database,
            rules=self._rules,
            claim=claim,
            step_id=step_id,
            fn=fn,
            now=now,
        )
        try:
            return await finish_despite_cancel(
                self._carry_out(attempt), on_cancel=attempt.break_off
            )
        except _Lost:
            raise await self._loss(claim, attempt) from None
        except (PyMongoError, InvalidBSON) as error:
            if error is attempt.error_of_fn:
                raise
            # It may have been committed all the same, or another one's record was first.
            if (step := await self._recorded(claim, step_id)) is not None:
                return step.output
            if attempt.refusal is not None and attempt.refusal.__cause__ is error:
                raise attempt.refusal from error
            if isinstance(error, DuplicateKeyError):
                raise undecided("step", step_id) from error
            with store_errors():
                raise

    async def _carry_out(self, attempt: _Attempt) -> Any:
        session = self._database.client.start_session()
        if inspect.isawaitable(session):  # Motor's
            session = await session
        async with session:
            try:
                await self._announce(attempt.claim, session)
                return await self._until_committed(attempt, session)
            finally:
                if not attempt.is_committing:
                    await self._retract(attempt.claim, session)

    async def _until_committed(self, attempt: _Attempt, session: Any) -> Any:
        """Try until it is committed or cancelled, again after each conflict."""
        turns = self._turns[attempt.claim.workflow.handler_id]
        with attempt.waiting():
            turn = await turns.take()
        try:
            while True:
                try:
                    output = await attempt.make(session)
                except PyMongoError as error:
                    if not error.has_error_label(_TRANSIENT):
                        raise
                else:
                    turns.committed()
                    return output
                with attempt.waiting():
                    turn = await turns.after_conflict(turn)
        finally:
            turns.release(turn)

    async def _announce(self, claim: Claim, session: Any) -> None:
        """Store the session, by which the next claim ends the transaction if this process dies."""
        announced = await self._database.workflows.update_one(
            transitions.in_force(claim), transitions.announce(_id_of(session))
        )
        if not announced.matched_count:
            raise _Lost

    async def _retract(self, claim: Claim, session: Any) -> None:
        """Remove the session of a transaction that is rolled back: the driver reuses it."""
        announced = transitions.announced(claim.workflow_id, _id_of(session))
        with suppress(PyMongoError):  # the first error says more
            await self._database.workflows.update_one(announced, transitions.RETRACT)

    async def _recorded(self, claim: Claim, step_id: str) -> Step | None:
        try:
            _, found = await find_place(self._database.steps, claim, STEP_ID, step_id)
        except PyMongoError:
            return None  # the first error says more than this one
        return None if found is None else to_step(found)

    async def _loss(self, claim: Claim, attempt: _Attempt) -> ClaimLost | InvalidArgument:
        with store_errors():
            found = await self._database.workflows.find_one({wf.WORKFLOW_ID: claim.workflow_id})
        workflow = None if found is None else wf.to_workflow(found)
        if attempt.has_called and machine.in_force(workflow, claim):  # so it was lost within only
            reason = "its function has ended the claim of its own workflow"
            return InvalidArgument("transaction", attempt.step_id, reason)
        return machine.lost(workflow, claim)


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """A step's function with what is committed beside it. It may be run several times."""

    database: Database
    rules: BsonRules
    claim: Claim
    step_id: str
    fn: Callable[[Any], Awaitable[Any]]
    now: Callable[[], datetime]
    error_of_fn: BaseException | None = None
    refusal: UsageError | None = None
    """Why the output cannot be recorded, caused by an error of the driver."""
    is_committing: bool = False
    """Whether a commit has been sent whose outcome may be unknown."""
    has_called: bool = False
    _is_broken_off: bool = False
    _calling: asyncio.Task[Any] | None = None

    def break_off(self) -> None:
        """Cancel the function, and make no other attempt."""
        self._is_broken_off = True
        if self._calling is not None:
            cancel_once(self._calling)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """`break_off` cancels what this block awaits."""
        if self._is_broken_off:
            raise asyncio.CancelledError
        self._calling = asyncio.current_task()
        try:
            yield
        finally:
            self._calling = None

    async def make(self, session: Any) -> Any:
        """Make one attempt, of which nothing is left if it fails."""
        started = session.start_transaction(
            read_concern=SNAPSHOT,
            write_concern=WRITE_CONCERN,
            read_preference=ReadPreference.PRIMARY,
        )
        if inspect.isawaitable(started):  # not Motor's
            await started
        try:
            return await self._run(session)
        finally:
            if session.in_transaction:
                await session.abort_transaction()

    async def _run(self, session: Any) -> Any:
        """What is done in the transaction, with the commit at its end."""
        steps = self.database.steps
        place, recorded = await find_place(steps, self.claim, STEP_ID, self.step_id, session)
        if recorded is not None:
            return to_step(recorded).output
        returned = await self._call(session)
        if self._is_broken_off:  # which the function has swallowed
            raise asyncio.CancelledError
        if not session.in_transaction:
            raise InvalidArgument("session", session, "its function has ended the transaction")
        output = await self._record(returned, place, session)
        # Last, so that the workflow is locked for as short as can be. The update has to change
        # something, to conflict with the update of another worker that takes the claim meanwhile.
        ours = transitions.in_force(self.claim)
        checked = await self.database.workflows.update_one(
            ours, transitions.in_transaction(), session=session
        )
        if not checked.matched_count:
            raise _Lost
        await self._commit(session)
        return output

    async def _call(self, session: Any) -> Any:
        with self.waiting():
            self.has_called = True
            try:
                return await self.fn(session)
            except BaseException as error:
                self.error_of_fn = error
                raise

    async def _record(self, returned: Any, place: str, session: Any) -> Any:
        what = f"output of step {self.step_id!r} of workflow {self.claim.workflow_id!r}"
        output, _ = self.rules.round_trip(returned, what)
        steps = self.database.steps
        try:
            document = from_step(self.claim.workflow, self.step_id, output, self.now())
            document[STEP_ID] = place
            await steps.insert_one(document, session=session)
        except OperationFailure as error:
            if is_about_document(error) and not is_duplicate_id(error, steps.name):
                self.refusal = refusal(error, output, what)
                self.refusal.__cause__ = error
            raise
        return output

    async def _commit(self, session: Any) -> None:
        """Commit until the outcome is known, or the call is cancelled."""
        self.is_committing = True
        while True:
            try:
                await session.commit_transaction()
            except PyMongoError as error:
                if error.has_error_label(_TRANSIENT):
                    self.is_committing = False
                if self._is_broken_off or not _may_be_committed(error):
                    raise
            else:
                return


def check_session(session: Any, database: Database) -> None:
    """Refuse what is no session of the database's client with a transaction under way."""
    if getattr(session, "client", None) is not database.client:
        raise InvalidArgument("session", session, "expected a session of the store's client")
    if not session.in_transaction:
        raise InvalidArgument("session", session, "it has no transaction under way")


def _may_be_committed(error: PyMongoError) -> bool:
    """Whether a commit is to be sent again, as MongoDB prescribes."""
    is_late = isinstance(error, OperationFailure) and error.code == _MAX_TIME_EXPIRED
    return error.has_error_label("UnknownTransactionCommitResult") and not is_late


def _id_of(session: Any) -> UUID:
    session_id: UUID = session.session_id["id"].as_uuid()
    return session_id

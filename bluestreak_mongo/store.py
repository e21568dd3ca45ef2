"""MongoStore: the state machine on three collections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, cast

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure
from typing_extensions import override

from bluestreak_core import machine
from bluestreak_core.cancellation import see_through
from bluestreak_core.clock import Clock
from bluestreak_core.errors import NotInitialised, StoreUnavailable, ValueTooLarge
from bluestreak_core.hints import Hints
from bluestreak_core.machine import Event
from bluestreak_core.model import Claim, Failure, History, Nap, NewWorkflow, Step, Workflow
from bluestreak_core.store import Store
from bluestreak_core.values import MAX_VALUE_BYTES
from bluestreak_mongo import documents as doc
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules, unstorable
from bluestreak_mongo.claiming import Claiming
from bluestreak_mongo.connection import Connection, GivenDatabase, OwnClient
from bluestreak_mongo.database import Database, check_version
from bluestreak_mongo.documents import Document
from bluestreak_mongo.driver import reads, store_errors, writes
from bluestreak_mongo.server_clock import ServerClock

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorDatabase

DEFAULT_URL = "mongodb://localhost:27017"
DEFAULT_DATABASE = "bluestreak"

_TOO_DEEP = 15
_TOO_LARGE = (10334, 17419, 17420)


class MongoStore(Store):
    """The production store: MongoDB 6.0 or newer, standalone or replica set.

    `MongoStore(url, database=...)` owns its client. Any option of the driver goes into the URL;
    read and write concerns are set by the store and cannot be weakened. `clock` replaces the
    server's time, for tests.

    Raises `InvalidArgument` for a URL or a name that MongoDB cannot have.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        database: str = DEFAULT_DATABASE,
        clock: Clock | None = None,
    ) -> None:
        self._set_up(OwnClient(url, database), clock)

    def _set_up(self, connection: Connection, clock: Clock | None) -> None:
        self._connection = connection
        self._clock: Clock = clock or ServerClock()
        self._rules = BsonRules()
        self._open: Database | None = None
        self._claiming: Claiming | None = None
        self._hints = Hints(self._clock)

    @classmethod
    def from_database(
        cls,
        database: AsyncDatabase[Any] | AsyncIOMotorDatabase[Any],
        *,
        clock: Clock | None = None,
    ) -> Self:
        """A store in a database that the application has open, and that the store never closes.

        A PyMongo `AsyncDatabase`, or a Motor database for an application that is still on Motor.
        """
        store = cls.__new__(cls)
        # A Motor database has the same methods, as far as they are used here.
        given = GivenDatabase(cast("AsyncDatabase[Document]", database))
        store._set_up(given, clock)  # noqa: SLF001 - a constructor of this class
        return store

    def __repr__(self) -> str:
        return f"<MongoStore at {self._connection}>"

    @property
    @override
    def clock(self) -> Clock:
        return self._clock

    @override
    async def init(self) -> None:
        if self._open is None:
            with store_errors():
                await see_through(self._connect())

    async def _connect(self) -> None:
        database = Database(self._connection.open())
        try:
            if isinstance(self._clock, ServerClock):
                check_version(await database.measure(self._clock))
            await database.create_indexes()
        except BaseException:
            await self._connection.close()
            raise
        self._open = database
        self._claiming = Claiming(database.workflows)

    @override
    async def close(self) -> None:
        self._open = self._claiming = None
        await self._connection.close()

    @override
    @writes
    async def create(self, new: NewWorkflow) -> bool:
        what = f"input of workflow {new.workflow_id!r}"
        value, _ = self._rules.round_trip(new.input, what)
        document = doc.from_workflow(machine.create(new)) | {doc.INPUT: value}
        try:
            async with self._fitting(value, what):
                await self._database.workflows.insert_one(document)
        except DuplicateKeyError:
            return False
        self._hints.due(new.created_at)
        return True

    @override
    @reads
    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        found = await self._database.workflows.find_one({doc.WORKFLOW_ID: workflow_id})
        return None if found is None else doc.to_workflow(found)

    @override
    @reads
    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        key = {doc.WORKFLOW_ID: workflow_id, doc.STEP_ID: step_id}
        found = await self._database.steps.find_one(key)
        return None if found is None else doc.to_step(found)

    @override
    @reads
    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        key = {doc.WORKFLOW_ID: workflow_id, doc.NAP_ID: nap_id}
        found = await self._database.naps.find_one(key)
        return None if found is None else doc.to_nap(found)

    @override
    @writes
    async def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        handlers: Collection[str] | None,
    ) -> Sequence[Claim]:
        self._hints.looking(now)
        if isinstance(self._clock, ServerClock) and self._clock.is_stale:
            await self._database.measure(self._clock)
        if self._claiming is None:
            raise NotInitialised("claim()")
        return await self._claiming.claim(worker, now, lease, limit, handlers)

    @override
    @reads
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        histories = {claim.workflow_id: History() for claim in claims}
        theirs = {doc.WORKFLOW_ID: {"$in": list(histories)}}
        async for found in self._database.steps.find(theirs):
            step = doc.to_step(found)
            histories[step.workflow_id].steps[step.step_id] = step.output
        async for found in self._database.naps.find(theirs):
            nap = doc.to_nap(found)
            histories[nap.workflow_id].naps[nap.nap_id] = nap.wake_up_at
        return histories

    @override
    @writes
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        ours = transitions.any_in_force(claims)
        workflows = self._database.workflows
        renewed = await workflows.update_many(ours, transitions.renew(now, lease))
        if renewed.matched_count == len(claims):
            return []
        fields = {doc.WORKFLOW_ID: 1, doc.CLAIM: 1}
        held = {
            (found[doc.WORKFLOW_ID], found[doc.CLAIM])
            async for found in workflows.find(ours, fields)
        }
        return [claim for claim in claims if claim.key not in held]

    @override
    @writes
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(output, what)
        step = Step(workflow_id=claim.workflow_id, step_id=step_id, output=value, saved_at=now)
        try:
            async with self._fitting(value, what):
                await self._database.steps.insert_one(doc.from_step(step))
        except DuplicateKeyError as error:
            winner = await self.find_step(claim.workflow_id, step_id)
            if winner is None:
                raise _undecided("step", step_id) from error
            return winner.output
        await self._count_progress(claim)
        return value

    @override
    @writes
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        nap = Nap(workflow_id=claim.workflow_id, nap_id=nap_id, wake_up_at=wake_up_at, saved_at=now)
        try:
            await self._database.naps.insert_one(doc.from_nap(nap))
        except DuplicateKeyError as error:
            winner = await self.find_nap(claim.workflow_id, nap_id)
            if winner is None:
                raise _undecided("nap", nap_id) from error
            return winner.wake_up_at
        await self._count_progress(claim)
        return wake_up_at

    @override
    @writes
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._end(claim, Event.PARK, transitions.give_back(Event.PARK, wake_up_at))
        self._hints.due(wake_up_at)

    @override
    @writes
    async def release(self, claim: Claim, now: datetime) -> None:
        await self._end(claim, Event.RELEASE, transitions.give_back(Event.RELEASE, now))
        self._hints.due(now)

    @override
    @writes
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        what = f"result of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(result, what)
        async with self._fitting(value, what, beside=claim.workflow.input):
            await self._end(claim, Event.FINISH, transitions.finish(value, now))
        self._hints.ended(claim.workflow_id)

    @override
    @writes
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        event = machine.failure_event(failure)
        await self._end(claim, event, transitions.fail(failure, now))
        if failure.retry_at is None:
            self._hints.ended(claim.workflow_id)
        else:
            self._hints.due(failure.retry_at)

    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        await self._hints.wait_for_work(timeout)

    @override
    async def wait_for_end(self, workflow_id: str, timeout: timedelta) -> None:
        await self._hints.wait_for_end(workflow_id, timeout)

    # What the methods above share --------------------------------------------------------------

    @property
    def _database(self) -> Database:
        if self._open is None:
            raise NotInitialised("a MongoStore")
        return self._open

    async def _end(self, claim: Claim, event: Event, update: Document) -> None:
        """Move a workflow under its claim, or find out why that cannot be."""
        done = await self._database.workflows.update_one(transitions.in_force(claim), update)
        if done.matched_count == 1:
            return
        workflow = await self.find_workflow(claim.workflow_id)
        if machine.in_force(workflow, claim):
            raise _undecided("workflow", claim.workflow_id)
        if not machine.has_ended_by(workflow, claim, event):
            raise machine.lost(workflow, claim)

    async def _count_progress(self, claim: Claim) -> None:
        if claim.workflow.crashes:
            ours = transitions.in_force(claim)
            await self._database.workflows.update_one(ours, transitions.progress())

    @asynccontextmanager
    async def _fitting(self, value: Any, what: str, beside: Any = None) -> AsyncIterator[None]:
        """Tell what the server refuses about a value that the rules have let pass."""
        try:
            yield
        except OperationFailure as error:
            if error.code == _TOO_DEEP:
                raise unstorable(value, what, "it is nested too deep") from error
            if error.code in _TOO_LARGE:
                _, size = self._rules.round_trip(value, what)
                _, taken = self._rules.round_trip(beside, what)
                raise ValueTooLarge(what, size, MAX_VALUE_BYTES - taken) from error
            raise


def _undecided(kind: str, name: str) -> StoreUnavailable:
    """A write was refused for what a majority does not show yet; asking again will tell."""
    return StoreUnavailable(f"{kind} {name!r} was written by another, and is not committed yet")

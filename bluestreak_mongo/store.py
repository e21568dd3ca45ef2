"""MongoStore: the state machine on three collections."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from typing_extensions import override

from bluestreak_core import machine
from bluestreak_core.adapter import JUMP, ServerClock, Timekeeper
from bluestreak_core.argument import check_implements
from bluestreak_core.clock import Clock, in_milliseconds
from bluestreak_core.concurrency import HomeLoop, finish_despite_cancel, pauses
from bluestreak_core.errors import NotInitialised, StoreRefused, UnstorableValue, ValueTooLarge
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    FailedStep,
    Failure,
    History,
    Nap,
    NewWorkflow,
    Standing,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.store import (
    CountBy,
    Hints,
    ListPosition,
    Pruned,
    Query,
    Records,
    Store,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
    SupportsThreadRenewal,
    SupportsTransactions,
    WorkflowSummary,
)
from bluestreak_mongo import transitions
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Ending, Groups, insert_each
from bluestreak_mongo.claiming import Claiming
from bluestreak_mongo.connection import Connection, GivenDatabase, OwnClient
from bluestreak_mongo.control import Control
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import Unauthenticated, reads, store_errors, writes
from bluestreak_mongo.feed import Feed
from bluestreak_mongo.forking import fork
from bluestreak_mongo.listing import Listing
from bluestreak_mongo.outcome import check_moved, check_written
from bluestreak_mongo.pruning import Pruning
from bluestreak_mongo.recording import Recording, find_one
from bluestreak_mongo.renewal import BlockingRenewer, renew
from bluestreak_mongo.routing import is_router
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.error import from_error
from bluestreak_mongo.standing import Standings
from bluestreak_mongo.transactions import Transactions
from bluestreak_mongo.unreadable import UnreadableDocuments

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorDatabase

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_URL = "mongodb://localhost:27017"
DEFAULT_DATABASE = "bluestreak"

_INSERTED_AT_ONCE = 1000

_LISTEN_FOR_CONTROL = timedelta(milliseconds=500)


def _pace() -> Iterator[timedelta]:
    """Pauses between looks for work, while each finds none."""
    return pauses(timedelta(days=1))


def by_any_connection(
    method: Callable[Concatenate[MongoStore, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[MongoStore, P], Coroutine[Any, Any, T]]:
    """A call that is made once more, by a new client, where its connection has lost its user."""

    @functools.wraps(method)
    async def call(self: MongoStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        opened = self._opened
        try:
            return await method(self, *args, **kwargs)
        except Unauthenticated as error:
            await finish_despite_cancel(self._reopen(opened, error))
            return await method(self, *args, **kwargs)

    return call


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What `init` makes and `close` lets go of."""

    database: Database
    unreadable: UnreadableDocuments
    claiming: Claiming
    groups: Groups
    recording: Recording
    control: Control
    transactions: Transactions
    feed: Feed
    standings: Standings
    listing: Listing
    pruning: Pruning
    timekeeper: Timekeeper | None
    reopening: asyncio.Lock

    async def close(self) -> None:
        """End what goes on in the background."""
        await self.feed.close()
        if self.timekeeper is not None:
            await self.timekeeper.close()


class MongoStore(
    Store,
    SupportsThreadRenewal,
    SupportsForks,
    SupportsTransactions,
    SupportsSearch,
    SupportsPruning,
):
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
        self._former: Connection | None = None
        self._clock: Clock = ServerClock() if clock is None else clock
        check_implements("clock", self._clock, Clock)
        self._rules = BsonRules()
        self._opened: _Opened | None = None
        self._hints = Hints(self._clock)
        self._pace = _pace()
        self._home = HomeLoop()

    @classmethod
    def from_database(
        cls,
        database: AsyncDatabase[Any] | AsyncIOMotorDatabase[Any],
        *,
        renewal_url: str | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """A store in a database that the application has open, and that the store never closes.

        A PyMongo `AsyncDatabase`, or a Motor database for an application that is still on Motor.

        `renewal_url` leads to the same server, for the one connection by which leases are renewed
        while the event loop is blocked. Without it, a blocked event loop loses its leases. Raises
        `InvalidArgument` for what is no URL.
        """
        store = cls.__new__(cls)
        # A Motor database has the same methods, as far as they are used here.
        given = GivenDatabase(cast("AsyncDatabase[Document]", database), renewal_url)
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
        if self._opened is not None:
            self._home.check("init()")
            return
        self._home.enter("init()")
        try:
            self._opened = await finish_despite_cancel(self._connect(self._connection))
        except BaseException as error:
            self._home.leave()
            if isinstance(error, Unauthenticated):  # at once, so there are no credentials
                raise StoreRefused(str(error)) from error.__cause__
            raise

    async def _connect(self, connection: Connection) -> _Opened:
        with store_errors():
            return await self._open_by(connection)

    async def _open_by(self, connection: Connection) -> _Opened:
        database = Database(connection.open())
        timekeeper: Timekeeper | None = None
        try:
            if isinstance(self._clock, ServerClock):
                await self._clock.measure(database.server_time)
                timekeeper = Timekeeper(self._clock, database.server_time)
            hello = await database.hello()
            database.is_routed = is_router(hello)
            if timekeeper is not None:
                await database.check_server(hello)
            await database.check_collections()
            await database.create_indexes()
        except BaseException:
            await connection.close()
            raise
        unreadable, groups = UnreadableDocuments(), Groups(database)
        feed = Feed(database.tolerant_workflows, self._hints, self._clock)
        return _Opened(
            database=database,
            unreadable=unreadable,
            claiming=Claiming(database.workflows, unreadable, is_routed=database.is_routed),
            groups=groups,
            recording=Recording(database, groups, self._rules, unreadable),
            control=Control(database),
            transactions=Transactions(database, self._rules),
            feed=feed,
            standings=Standings(database.workflows, feed),
            listing=Listing(database, unreadable),
            pruning=Pruning(database),
            timekeeper=timekeeper,
            reopening=asyncio.Lock(),
        )

    async def _reopen(self, opened: _Opened | None, error: Unauthenticated) -> None:
        """Make the client anew, unless another call has done so."""
        if opened is None:
            return
        async with opened.reopening:
            if self._opened is not opened:
                return
            connection = self._connection.anew()
            if connection is None:
                raise StoreRefused(str(error)) from error.__cause__
            reopened = await self._connect(connection)
            if self._opened is not opened:  # but closed meanwhile
                await reopened.close()
                await connection.close()
                return
            # Other calls may still be under way by the former client: it is closed later.
            former, self._former = self._former, self._connection
            self._opened, self._connection = reopened, connection
        await opened.close()
        if former is not None:
            await former.close()

    @override
    async def close(self) -> None:
        if self._opened is not None:
            self._home.check("close()")
        self._home.leave()
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()
        await self._connection.close()
        former, self._former = self._former, None
        if former is not None:
            await former.close()

    @override
    @by_any_connection
    async def create(self, new: NewWorkflow) -> bool:
        self._look_at_clock()
        what = f"input of workflow {new.workflow_id!r}"
        value, size = self._rules.round_trip(new.input, what)
        document = wf.from_workflow(machine.create(new)) | {wf.INPUT: value}
        outcome = await self._open.groups.workflows.call(document, size)
        if isinstance(outcome, DuplicateKeyError):
            return False
        check_written(outcome, value, what)
        self._hints.due(new.start_at or new.created_at)
        return True

    @override
    @by_any_connection
    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        self._look_at_clock()
        documents: dict[str, Document] = {}
        for one in new:
            value, _ = self._rules.round_trip(one.input, f"input of workflow {one.workflow_id!r}")
            document = wf.from_workflow(machine.create(one)) | {wf.INPUT: value}
            documents.setdefault(one.workflow_id, document)
        created = await self._insert_all(list(documents.values()))
        for one in new:
            if one.workflow_id in created:
                self._hints.due(one.start_at or one.created_at)
        firsts = {one.workflow_id: one for one in reversed(new)}
        return [one.workflow_id in created and firsts[one.workflow_id] is one for one in new]

    @writes
    async def _insert_all(self, documents: Sequence[Document]) -> set[str]:
        """Insert workflows, a thousand at once; the ids of those that were not there before."""
        created: set[str] = set()
        for start in range(0, len(documents), _INSERTED_AT_ONCE):
            part = documents[start : start + _INSERTED_AT_ONCE]
            outcomes = await insert_each(self._open.database.workflows, part)
            for document, outcome in zip(part, outcomes, strict=True):
                if outcome is None:
                    created.add(document[wf.WORKFLOW_ID])
                elif not isinstance(outcome, DuplicateKeyError):
                    what = f"input of workflow {document[wf.WORKFLOW_ID]!r}"
                    check_written(outcome, document[wf.INPUT], what)
        return created

    @override
    @by_any_connection
    @reads
    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        found = await find_one(self._open.database.workflows, {wf.WORKFLOW_ID: workflow_id})
        return None if found is None else wf.to_workflow(found)

    @override
    @by_any_connection
    def find_standing(self, workflow_id: str) -> Coroutine[Any, Any, Standing | None]:
        return self._open.standings.find(workflow_id)

    @override
    def find_step(self, workflow_id: str, step_id: str) -> Coroutine[Any, Any, Step | None]:
        return self._open.recording.find_step(workflow_id, step_id)

    @override
    def find_nap(self, workflow_id: str, nap_id: str) -> Coroutine[Any, Any, Nap | None]:
        return self._open.recording.find_nap(workflow_id, nap_id)

    @override
    @by_any_connection
    @writes
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        known = self._hints.looking(request.now)
        self._open.feed.rivalry.knows(request.worker)
        timekeeper = self._open.timekeeper
        if timekeeper is not None and abs(await timekeeper.refresh()) >= JUMP:
            # By `now`, other workflows are due, and leases would end at another time than meant.
            self._hints.due(self._clock.now())
            return []
        claiming, claims = self._open.claiming, None
        if known == 1 and claiming.was_in_vain:
            claims = await claiming.claim_one(request)
        claims = claims or await claiming.claim(request)
        if claims:
            self._pace = _pace()
        return claims

    @override
    def history(self, claims: Sequence[Claim]) -> Coroutine[Any, Any, Mapping[str, History]]:
        return self._open.recording.history(claims)

    @override
    @by_any_connection
    @writes
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        self._look_at_clock()
        opened = self._open
        workflows, is_routed = opened.database.workflows, opened.database.is_routed
        return await renew(workflows, opened.unreadable, claims, now, lease, is_routed=is_routed)

    @override
    def renewer(self) -> BlockingRenewer:
        """Renews leases on a connection of its own; see `SupportsThreadRenewal`.

        It is refused in a database that was given without a `renewal_url`.
        """
        return BlockingRenewer(self._connection)

    @override
    def save_step(
        self, claim: Claim, step_id: str, output: Any, now: datetime
    ) -> Coroutine[Any, Any, Any]:
        return self._open.recording.save_step(claim, step_id, output, now)

    @override
    def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> Coroutine[Any, Any, datetime]:
        return self._open.recording.save_nap(claim, nap_id, wake_up_at, now)

    @override
    def save_attempt(self, claim: Claim, attempt: Attempt) -> Coroutine[Any, Any, Attempt]:
        return self._open.recording.save_attempt(claim, attempt)

    @override
    def fail_step(self, claim: Claim, failed: FailedStep) -> Coroutine[Any, Any, None]:
        return self._open.recording.fail_step(claim, failed)

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._end(claim, Transition.PARK, transitions.make_due(Transition.PARK, wake_up_at))
        self._hints.due(wake_up_at)

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        await self._end(claim, Transition.RELEASE, transitions.make_due(Transition.RELEASE, now))
        self._hints.due(now)

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        what = f"result of workflow {claim.workflow_id!r}"
        value, size = self._rules.round_trip(result, what)
        ending = Ending(claim=claim, event=Transition.FINISH, update=transitions.finish(value, now))
        outcome = await self._open.groups.endings.call(ending, size)
        check_written(outcome, value, what, beside=claim.workflow.input)
        self._hints.ended(claim.workflow_id)

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        event, what = (
            machine.failure_transition(failure),
            f"error of workflow {claim.workflow_id!r}",
        )
        ending = Ending(claim=claim, event=event, update=transitions.fail(failure, now))
        outcome = await self._open.groups.endings.call(ending, 0)
        try:
            check_written(outcome, from_error(failure.error), what)
        except (UnstorableValue, ValueTooLarge):  # by another's hand: ours can be stored
            await self._end(claim, event, transitions.fail_without_error(failure, now))
        if failure.retry_at is None:
            self._hints.ended(claim.workflow_id)
        else:
            self._hints.due(failure.retry_at)

    @override
    @by_any_connection
    @writes
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        self._look_at_clock()
        await self._open.control.move(workflow_id, event, now, reason)
        self._tell(workflow_id, event, now)

    @override
    @by_any_connection
    @reads
    async def check_transactions(self, call: str) -> None:
        await self._open.transactions.check_possible(call)

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        return await self._open.transactions.step(claim, step_id, fn, now)

    @override
    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        self._look_at_clock()
        value, _ = self._rules.round_trip(new.input, f"input of workflow {new.workflow_id!r}")
        self._open.transactions.check_session(session)
        workflows = self._open.database.workflows
        # A duplicate would not only be refused, it would end the caller's transaction.
        key = {wf.WORKFLOW_ID: new.workflow_id}
        if await workflows.find_one(key, {"_id": 1}, session=session) is not None:
            return False
        document = wf.from_workflow(machine.create(new)) | {wf.INPUT: value}
        await workflows.insert_one(document, session=session)
        return True

    @override
    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        self._open.transactions.check_session(session)
        key = {wf.WORKFLOW_ID: workflow_id}
        found = await find_one(self._open.database.workflows, key, session)
        return None if found is None else wf.to_workflow(found)

    @override
    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        self._look_at_clock()
        self._open.transactions.check_session(session)
        await self._open.control.move(workflow_id, event, now, reason, session)

    @override
    @by_any_connection
    @writes
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        self._look_at_clock()
        forked = await fork(self._open.database, workflow_id, new_id, before, now)
        if forked:
            self._hints.due(now)
        return forked

    @override
    @by_any_connection
    async def wait_for_work(self, timeout: timedelta) -> None:
        feed, arrivals = self._open.feed, self._hints.arrivals
        with feed.waiting():
            await self._inspect()
            await self._hear_of_next_due(timeout)
            # Without news of what others do: the more often, the more there was to do lately.
            pause = timeout if feed.is_live else min(timeout, next(self._pace))
            await self._hints.wait_for_work(pause, arrivals)

    @override
    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        feed = self._open.feed
        with feed.waiting_for(workflow_id):
            pause = min(timeout, feed.look_again_after)
            return await self._hints.wait_for_end(workflow_id, since, pause)

    @override
    @by_any_connection
    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        until = self._clock.now() + timeout
        was_read = False
        while True:
            is_read = self._open.feed.is_read
            # Once more when the stream has opened, for what was done just before.
            if not (was_read and is_read) and await self._was_taken_from(worker, since):
                return True
            was_read = is_read
            left = until - self._clock.now()
            if await self._hints.wait_for_control(since, min(left, _LISTEN_FOR_CONTROL)):
                return True
            if left <= _LISTEN_FOR_CONTROL:
                return False

    @override
    @by_any_connection
    @reads
    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        return await self._open.listing.page(query, after, limit)

    @override
    @by_any_connection
    @reads
    async def count(self, by: CountBy) -> Mapping[str, int]:
        return await self._open.listing.count(by)

    @override
    @by_any_connection
    @reads
    async def records(self, workflow_id: str) -> Records:
        return await self._open.listing.records(workflow_id)

    @override
    @by_any_connection
    @writes
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        return await self._open.pruning.prune(ended_before, statuses, limit, now)

    # What the methods above share --------------------------------------------------------------

    def _look_at_clock(self) -> None:
        """Also where nobody claims, as in a process that only starts workflows."""
        if (timekeeper := self._open.timekeeper) is not None:
            timekeeper.refresh_soon()

    def _tell(self, workflow_id: str, event: Transition, now: datetime) -> None:
        """Those in this process who may wait for what has been done from outside."""
        if machine.target(event).ended:
            self._hints.ended(workflow_id)
        if event in (Transition.CANCEL, Transition.PAUSE):
            self._hints.controlled()
        else:
            self._hints.due(now)

    # Seen through, since it is broken off whenever the last run ends, and PyMongo leaks the socket
    # of a connection that is broken off while it is made.
    @writes
    async def _was_taken_from(self, worker: str, since: datetime) -> bool:
        return await self._open.control.has_taken_from(worker, since, self._clock.now())

    @property
    def _open(self) -> _Opened:
        if self._opened is None:
            raise NotInitialised("a MongoStore")
        return self._opened

    @reads
    async def _inspect(self) -> None:
        """Look for what will never be due, from time to time."""
        await self._open.claiming.inspect(self._clock.now())

    @reads
    async def _hear_of_next_due(self, horizon: timedelta) -> None:
        """When the next nap or retry ends, whoever has recorded it."""
        now = self._clock.now()
        soon = transitions.due_between(self._hints.looked_at, now + horizon)
        soon |= self._open.unreadable.excluded(now)
        workflows = self._open.database.tolerant_workflows
        found = await workflows.find_one(
            soon, {"_id": 0, wf.TIMEOUT_AT: 1}, sort=[(wf.TIMEOUT_AT, 1)]
        )
        if found is not None and isinstance(found[wf.TIMEOUT_AT], datetime):
            self._hints.due(in_milliseconds(found[wf.TIMEOUT_AT]))

    async def _end(self, claim: Claim, event: Transition, update: Document) -> None:
        """Move a workflow under its claim, or find out why that cannot be."""
        ending = Ending(claim=claim, event=event, update=update)
        check_moved(await self._open.groups.endings.call(ending, 0), claim.workflow_id)

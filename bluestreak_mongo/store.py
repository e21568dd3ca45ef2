"""MongoStore: the state machine on four collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, cast

from pymongo.asynchronous.database import AsyncDatabase
from typing_extensions import override

from bluestreak_core.clock import Clock
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
    Step,
    Workflow,
)
from bluestreak_core.store import (
    Store,
    SupportsThreadRenewal,
)
from bluestreak_mongo.connection import GivenDatabase, OwnClient
from bluestreak_mongo.opening import Opening
from bluestreak_mongo.powers import Powers
from bluestreak_mongo.renewal import BlockingRenewer
from bluestreak_mongo.schema import Document

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorDatabase

DEFAULT_URL = "mongodb://localhost:27017"
DEFAULT_DATABASE = "bluestreak"


class MongoStore(Powers, Store, SupportsThreadRenewal):
    """The production store: MongoDB 6.0 or newer, standalone or replica set.

    `MongoStore(url, database=...)` owns its client. Any option of the driver goes into the URL;
    read and write concerns are set by the store and cannot be weakened. `clock` replaces the
    server's time, for tests.

    Its many methods are those of the protocols: each is one call of one of its `Parts`, made by its
    `Opening`.

    Raises `InvalidArgument` for a URL or a name that MongoDB cannot have.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        database: str = DEFAULT_DATABASE,
        clock: Clock | None = None,
    ) -> None:
        self._set_up(Opening(OwnClient(url, database), clock))

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
        store._set_up(Opening(given, clock))  # noqa: SLF001 - a constructor of this class
        return store

    def __repr__(self) -> str:
        return f"<MongoStore at {self._opening}>"

    @property
    @override
    def clock(self) -> Clock:
        return self._opening.clock

    @override
    async def init(self) -> None:
        await self._opening.open()

    @override
    async def close(self) -> None:
        await self._opening.close()

    @override
    async def create(self, new: NewWorkflow) -> bool:
        return await self._call(lambda parts: parts.starting.create, new)

    @override
    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        return await self._call(lambda parts: parts.starting.create_many, new)

    @override
    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        return await self._call(lambda parts: parts.finding.find_workflow, workflow_id)

    @override
    async def find_standing(self, workflow_id: str) -> Standing | None:
        return await self._call(lambda parts: parts.standings.find, workflow_id)

    @override
    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        return await self._call(lambda parts: parts.finding.find_step, workflow_id, step_id)

    @override
    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        return await self._call(lambda parts: parts.finding.find_nap, workflow_id, nap_id)

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        return await self._call(lambda parts: parts.work.claim, request)

    @override
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        return await self._call(lambda parts: parts.histories.history, claims)

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        return await self._call(lambda parts: parts.renewal.renew, claims, now, lease)

    @override
    def renewer(self) -> BlockingRenewer:
        """Renews leases on a connection of its own; see `SupportsThreadRenewal`.

        It is refused in a database that was given without a `renewal_url`.
        """
        return self._opening.renewer()

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        return await self._call(
            lambda parts: parts.recording.save_step, claim, step_id, output, now
        )

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        return await self._call(
            lambda parts: parts.recording.save_nap, claim, nap_id, wake_up_at, now
        )

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        return await self._call(lambda parts: parts.recording.save_attempt, claim, attempt)

    @override
    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        await self._call(lambda parts: parts.recording.fail_step, claim, failed)

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._call(lambda parts: parts.endings.park, claim, wake_up_at)

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        await self._call(lambda parts: parts.endings.release, claim, now)

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        await self._call(lambda parts: parts.endings.finish, claim, result, now)

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await self._call(lambda parts: parts.endings.fail, claim, failure, now)

    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        await self._call(lambda parts: parts.control.move, workflow_id, event, now, reason)

    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        await self._call(lambda parts: parts.work.wait, timeout)

    @override
    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        return await self._call(lambda parts: parts.waiting.for_end, workflow_id, since, timeout)

    @override
    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        return await self._call(lambda parts: parts.waiting.for_control, worker, since, timeout)

"""Everything in use at once, in a database whose other half of workers are JavaScript's.

Time is virtual, and passes by some milliseconds with each round trip of a task that does nothing
else. The JavaScript workers claim whatever is due, also what only Python has handlers for, and drop
that; it is due again when their lease has ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from bluestreak_core import (
    Bluestreak,
    Context,
    Retry,
    Start,
    Status,
    TransitionRefused,
    WorkflowAborted,
    WorkflowCancelled,
)
from bluestreak_core.argument import MAX_COUNT
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore
from bluestreak_pydantic import PydanticCodec
from tests.mongo.arrange import AWARE, SECOND, Document, polling
from tests.mongo.javascript_worker import JavaScriptWorker

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.usefixtures("unmeasured")]

TICK = timedelta(milliseconds=20)
REST = 7 * SECOND  # longer than `park_after`
PATIENCE = 60  # real seconds, many times what it takes

ORDERS = [f"order-{number}" for number in range(20)]
TRANSFERS = [f"transfer-{number}" for number in range(12)]
ENDLESS = [f"endless-{number}" for number in range(3)]
FORK = "order-fork"

Ledger = AsyncCollection[Document]


@dataclass
class Order:
    item: str
    amount: int


class Stage(StrEnum):
    RESERVED = "reserved"
    SHIPPED = "shipped"


class OutOfStock(Exception):
    """What the first attempt of a step raises."""


class Fleet:
    """Handlers of both libraries, and what they were seen to do."""

    def __init__(self, database: AsyncDatabase[Document], clock: ManualClock) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.cleaned_up: Counter[str] = Counter()
        self.is_mended = False
        self.clock = clock
        self._database = database
        self._python_works = asyncio.Event()
        self._javascript_works = asyncio.Event()

    def worker(self, store: MongoStore) -> Bluestreak:
        """One of Python's."""
        bluestreak = Bluestreak(
            store,
            codec=PydanticCodec(),
            wait_retry_interval=0,
            max_concurrency=10,
            park_after=1,
        )
        bluestreak.register_handler("order", self.order)
        bluestreak.register_handler("transfer", self.transfer)
        bluestreak.register_handler("endless", self.endless)
        bluestreak.register_handler("broken", self.broken)
        bluestreak.register_handler("hasty", self.hasty, deadline=5)
        return bluestreak

    # Python's -----------------------------------------------------------------------------------

    async def order(self, ctx: Context, order: Order) -> Document:
        self._python_works.set()
        await self._javascript_works.wait()

        async def reserve(order: Order) -> Stage:
            self.calls[ctx.workflow_id, "reserve"] += 1
            if self.calls[ctx.workflow_id, "reserve"] == 1:
                raise OutOfStock(order.item)
            return Stage.RESERVED

        async def ship(stage: Stage) -> Stage:
            assert stage is Stage.RESERVED
            self.calls[ctx.workflow_id, "ship"] += 1
            return Stage.SHIPPED

        retry = Retry(max_attempts=5, initial=2 * SECOND, retry_on=OutOfStock)
        reserved = await ctx.step("reserve", reserve, order, retry=retry, timeout=3)
        await ctx.sleep("rest", REST)
        shipped = await ctx.step("ship", ship, reserved)
        return {"by": "python", "stages": [reserved, shipped]}

    async def transfer(self, ctx: Context, input: None) -> int:
        async def move(session: AsyncClientSession) -> int:
            ledger = session.client[self._database.name]["ledger"]
            await ledger.insert_one({"for": ctx.workflow_id}, session=session)
            return await ledger.count_documents({"for": ctx.workflow_id}, session=session)

        return await ctx.transaction("move", move)

    async def endless(self, ctx: Context, input: None) -> None:
        await ctx.compensate("undo", self.cleaned_up.update, [ctx.workflow_id])
        await ctx.step("wait", asyncio.Event().wait)

    async def broken(self, ctx: Context, input: None) -> str:
        async def work() -> str:
            if not self.is_mended:
                raise OutOfStock
            return "mended"

        return await ctx.step("work", work, retry=Retry(max_attempts=2, initial=1))

    async def hasty(self, ctx: Context, input: None) -> None:
        await ctx.sleep("too long", 3600)

    # JavaScript's -------------------------------------------------------------------------------

    async def work_as_javascript(self, javascript: JavaScriptWorker) -> None:
        failed: set[str] = set()
        while True:
            workflow_id = await javascript.claim()
            if workflow_id is None:
                await self.clock.sleep(5 * TICK)
            elif workflow_id.endswith("7") and workflow_id not in failed:
                failed.add(workflow_id)
                await javascript.fail(workflow_id, retry_in=SECOND)
            elif workflow_id.startswith("order"):  # for the others it has no handler
                await self._javascript_order(javascript, workflow_id)

    async def _javascript_order(self, javascript: JavaScriptWorker, workflow_id: str) -> None:
        self._javascript_works.set()
        await self._python_works.wait()

        def called(step_id: str, output: str) -> str:
            self.calls[workflow_id, step_id] += 1
            return output

        reserved = await javascript.step(
            workflow_id, "reserve", lambda: called("reserve", "reserved")
        )
        await javascript.sleep(workflow_id, "rest", REST)
        shipped = await javascript.step(workflow_id, "ship", lambda: called("ship", "shipped"))
        await javascript.finish(workflow_id, {"by": "javascript", "stages": [reserved, shipped]})

    async def let_time_pass(self) -> None:
        while True:
            await self._database.command("ping")
            self.clock.advance(TICK)


class Customer:
    """Starts workflows of either library, and does to them whatever can be done from outside."""

    def __init__(self, user: Bluestreak, javascript: JavaScriptWorker, fleet: Fleet) -> None:
        self._user = user
        self._javascript = javascript
        self._fleet = fleet

    async def act(self, client: AsyncMongoClient[Document], ledger: Ledger) -> None:
        await self._start_all()
        async with client.start_session() as session, await session.start_transaction():
            await ledger.insert_one({"for": "the caller"}, session=session)
            assert await self._user.start(TRANSFERS[0], "transfer", session=session)
        await asyncio.gather(
            *(self._interrupt(workflow_id) for workflow_id in (*ORDERS[:3], *ORDERS[12:15])),
            *(self._cancel(workflow_id) for workflow_id in ENDLESS),
            self._mend(),
            self._hurry(),
        )
        for workflow_id in ORDERS:
            assert (await self._wait(workflow_id))["stages"] == ["reserved", "shipped"]
        for workflow_id in TRANSFERS:
            assert await self._wait(workflow_id) == 1
        assert await self._user.fork(ORDERS[0], FORK)
        assert (await self._wait(FORK))["stages"] == ["reserved", "shipped"]

    async def _start_all(self) -> None:
        ours = [Start(workflow_id, "order", Order("book", 1)) for workflow_id in ORDERS[:8]]
        later = [
            Start(workflow_id, "order", Order("pen", 2), delay=3) for workflow_id in ORDERS[8:10]
        ]
        assert await self._user.start_many([*ours, *later]) == [True] * 10
        for workflow_id in ORDERS[10:]:
            assert await self._javascript.start(workflow_id, "order", asdict(Order("cup", 3)))
        await self._user.start_many(
            [Start(workflow_id, "transfer") for workflow_id in TRANSFERS[1:]]
        )
        await self._user.start_many([Start(workflow_id, "endless") for workflow_id in ENDLESS])
        await self._user.start("broken", "broken")
        await self._user.start("hasty", "hasty")

    async def _interrupt(self, workflow_id: str) -> None:
        with unless_finished():
            await self._user.pause(workflow_id)
            await self._fleet.clock.sleep(2 * SECOND)
            await self._user.resume(workflow_id)

    async def _cancel(self, workflow_id: str) -> None:
        await self._fleet.clock.sleep(2 * SECOND)
        assert await self._user.cancel(workflow_id, "enough")
        with pytest.raises(WorkflowCancelled, match="enough"):
            await self._wait(workflow_id)

    async def _mend(self) -> None:
        with pytest.raises(WorkflowAborted, match="OutOfStock"):
            await self._wait("broken")
        self._fleet.is_mended = True
        await self._user.retry("broken")
        assert await self._wait("broken") == "mended"

    async def _hurry(self) -> None:
        with pytest.raises(WorkflowAborted, match="DeadlineExceeded"):
            await self._wait("hasty")

    async def _wait(self, workflow_id: str) -> Any:
        # `PATIENCE` ends it: JavaScript's workers may win any number of races for what they lack a
        # handler for, and hold it for a lease each time.
        return await self._user.wait(workflow_id, retries=MAX_COUNT, pause_interval=TICK)


@contextmanager
def unless_finished() -> Iterator[None]:
    """A JavaScript worker does not hear of a pause and ends what it runs."""
    try:
        yield
    except TransitionRefused as refusal:
        if refusal.status != Status.FINISHED:
            raise


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do this for as long as the block lasts; what one of them raises is raised."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in work]
        yield
        for task in tasks:
            task.cancel()


@pytest_asyncio.fixture
async def client(mongodb_url: str) -> AsyncIterator[AsyncMongoClient[Document]]:
    async with AsyncMongoClient[Document](mongodb_url) as client:
        yield client


@pytest_asyncio.fixture
async def fleet(
    client: AsyncMongoClient[Document],
    empty_database: str,
    raw: Database[Document],
    clock: ManualClock,
) -> Fleet:
    raw.create_collection("ledger")
    return Fleet(client[empty_database], clock)


@pytest_asyncio.fixture
async def python(
    mongodb_url: str, client: AsyncMongoClient[Document], empty_database: str, fleet: Fleet
) -> AsyncIterator[tuple[Bluestreak, Bluestreak]]:
    """Two workers, of which one is in the application's own database."""
    given = MongoStore.from_database(client[empty_database], clock=fleet.clock)
    own = MongoStore(mongodb_url, database=empty_database, clock=fleet.clock)
    async with fleet.worker(given) as first, fleet.worker(own) as second:
        yield first, second


async def test_everything_in_use_at_once_beside_javascript_workers(
    client: AsyncMongoClient[Document],
    raw: Database[Document],
    fleet: Fleet,
    python: tuple[Bluestreak, Bluestreak],
) -> None:
    user, _ = python
    database = client.get_database(raw.name, codec_options=AWARE)
    javascript_workers = [JavaScriptWorker(database, fleet.clock) for _ in range(2)]
    async with (
        asyncio.timeout(PATIENCE),
        beside(
            fleet.let_time_pass(),
            *(fleet.work_as_javascript(worker) for worker in javascript_workers),
        ),
        polling(python[0]),
        polling(python[1]),
    ):
        await Customer(user, javascript_workers[0], fleet).act(client, database["ledger"])

    assert Counter(entry["for"] for entry in raw.ledger.find()) == Counter(
        ["the caller", *TRANSFERS]
    )
    assert all("output" in step for step in raw.steps.find())
    assert {
        workflow["result"]["by"] for workflow in raw.workflows.find({"handlerId": "order"})
    } == {
        "python",
        "javascript",
    }
    assert not {step_id for workflow_id, step_id in fleet.calls if workflow_id == FORK}
    assert set(fleet.cleaned_up.values()) <= {1}
    finished = [workflow.workflow_id async for workflow in user.list(status="finished")]
    assert sorted(finished) == sorted([*ORDERS, *TRANSFERS, FORK, "broken"])
    counted = await user.count(by="status")
    assert {status: count for status, count in counted.items() if count} == {
        "finished": len(finished),
        "cancelled": len(ENDLESS),
        "aborted": 1,
    }
    for workflow_id in finished:
        assert (await user.describe(workflow_id)).workflow.status is Status.FINISHED

    fleet.clock.advance(timedelta(hours=1))
    await user.prune(ended_before=fleet.clock.now())
    assert [raw[name].count_documents({}) for name in ("workflows", "steps", "naps")] == [0, 0, 0]

"""News of what other processes do: who hears of it, at what cost, and what happens without it.

Each store below has a client of its own, as a process has. The clock stands still, so whatever
happens without `advance` is not polling's doing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database

from bluestreak_core import Bluestreak, Context, Status, machine
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_mongo import LocalMongo, MongoStore
from tests.arrange import eventually, pass_time
from tests.mongo.arrange import LEASE, NOW, SECOND, Document, Sent, claimed, new, polling

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

HOUR = timedelta(hours=1)
AFTER = NOW + timedelta(milliseconds=1)
"""Later than anything that happens while the clock stands still."""


class Process:
    """A store with a client of its own, and what it sends."""

    def __init__(self, store: MongoStore, sent: Sent) -> None:
        self.store = store
        self.recording = RecordingStore(store)
        self.sent = sent

    def engine(self) -> Bluestreak:
        """An engine that by itself would not look for work twice in a test."""
        bluestreak = Bluestreak(self.recording, poll_interval=1000 * HOUR, timeout_interval=HOUR)

        @bluestreak.handler("h")
        async def handle(ctx: Context, input: float | None) -> str:
            if input is not None:
                await ctx.sleep("nap", input)
            return "done"

        return bluestreak

    async def is_idle(self, after: int = 0) -> None:
        """Its worker waits for work, and hears of what others do."""
        await self.recording.until_begun("wait_for_work", after + 1)
        begun = self.recording.begun
        # The stream is open, and has made the worker look again.
        await eventually(lambda: "getMore" in self.sent.names)
        await eventually(lambda: begun["wait_for_work"] > self.recording.returned["wait_for_work"])

    @property
    def streams(self) -> list[Document]:
        return self.sent.named("aggregate")


@pytest_asyncio.fixture
async def processes(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> AsyncIterator[list[Process]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(_process(mongodb_url, empty_database, clock))
            for _ in range(2)
        ]


class _process:  # noqa: N801 - used like a function
    def __init__(self, url: str, database: str, clock: ManualClock, **options: Any) -> None:
        self._sent = Sent()
        self._client = AsyncMongoClient[Document](url, event_listeners=[self._sent], **options)
        self._store = MongoStore.from_database(self._client[database], clock=clock)

    async def __aenter__(self) -> Process:
        await self._store.init()
        self._sent.commands.clear()
        return Process(self._store, self._sent)

    async def __aexit__(self, *_: object) -> None:
        await self._store.close()
        await self._client.close()


# What is heard of --------------------------------------------------------------------------------


async def test_an_idle_worker_hears_of_work_that_another_process_starts(
    processes: list[Process],
) -> None:
    here, there = processes
    worker = here.engine()
    await worker.init()
    async with polling(worker):
        await here.is_idle()
        await there.store.create(new("w"))
        await eventually(lambda: here.recording.returned["finish"] == 1)
    found = await there.store.find_workflow("w")
    assert found is not None
    assert found.status is Status.FINISHED


async def test_a_wait_hears_of_an_end_in_another_process(processes: list[Process]) -> None:
    here, there = processes
    claim = await claimed(there.store)
    client = here.engine()
    await client.init()
    waiting = asyncio.create_task(client.wait("w", retries=2, pause_interval=HOUR))
    await here.recording.until_begun("wait_for_end", 2)  # looked again as the stream began
    await there.store.finish(claim, "there", NOW)
    assert await waiting == "there"


async def test_an_end_just_before_the_stream_begins_is_not_missed(
    processes: list[Process], raw: Database[Document]
) -> None:
    here, there = processes
    await claimed(there.store)
    here.sent.before["aggregate"] = lambda: raw.workflows.update_one(
        {"workflowId": "w"}, {"$set": {"status": "finished"}}
    )
    await here.store.wait_for_end("w", AFTER, HOUR)


class Stuck:
    """A handler that stays in its step until it is cancelled or let go."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def handle(self, ctx: Context, input: None) -> None:
        self.inside.set()
        try:
            await ctx.step("stuck", self.go_on.wait)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


HEED_AFTER = timedelta(milliseconds=200)
HALF_A_SECOND = timedelta(milliseconds=500)


@pytest.mark.parametrize("event", [Transition.CANCEL, Transition.PAUSE])
async def test_a_worker_hears_of_what_another_process_takes_from_it(
    processes: list[Process], clock: ManualClock, event: Transition
) -> None:
    here, there = processes
    worker, stuck = here.engine(), Stuck()
    worker.register_handler("stuck", stuck.handle)
    await worker.init()
    async with polling(worker):
        await here.is_idle()
        await there.store.create(new("w", "stuck"))
        await stuck.inside.wait()
        await clock.until_sleeping(HEED_AFTER)
        clock.advance(HEED_AFTER)
        await here.recording.until_begun("wait_for_control")
        await there.store.control("w", event, clock.now())
        await eventually(lambda: worker.health().runs == 0)
    found = await there.store.find_workflow("w")
    assert found is not None
    assert found.status is machine.target(event)


async def test_a_worker_without_free_slots_hears_of_it_though_nobody_reads_the_stream(
    processes: list[Process], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestreak_mongo.demand.LINGER", 3600)
    here, there = processes
    stuck = Stuck()
    worker = Bluestreak(here.recording, max_concurrency=1, timeout_interval=HOUR)
    worker.register_handler("stuck", stuck.handle)
    await worker.init()
    async with polling(worker):
        await here.is_idle()
        await there.store.create(new("w", "stuck"))
        await stuck.inside.wait()
        await clock.until_sleeping(HEED_AFTER)
        clock.advance(HEED_AFTER)
        await clock.until_sleeping(HALF_A_SECOND)  # it has looked by itself, and found nothing
        await there.store.create(new("v", "stuck"))  # is read, and nothing after it
        await there.store.control("w", Transition.CANCEL, clock.now())
        await pass_time(clock, stuck.cancelled.is_set)
        found = await there.store.find_workflow("w")
        assert found is not None
        assert found.status is Status.CANCELLED
        assert clock.now() - NOW < HOUR / 10, "it was the next renewal that has told it"


async def test_a_retry_or_a_nap_that_another_process_has_recorded_is_on_time(
    processes: list[Process], clock: ManualClock
) -> None:
    here, there = processes
    before, after = await claimed(there.store, "before"), await claimed(there.store, "after")
    await there.store.park(before, NOW + 5 * SECOND)
    worker = here.engine()
    await worker.init()
    async with polling(worker):
        await here.is_idle()
        await there.store.park(after, NOW + 2 * SECOND)
        await clock.until_sleeping(2 * SECOND)
        for ended, moved in enumerate((2, 3), start=1):
            clock.advance(moved * SECOND)
            await eventually(lambda: here.recording.returned["finish"] == ended)  # noqa: B023


async def test_a_worker_hears_of_a_nap_that_was_parked_before_it_began(
    processes: list[Process], clock: ManualClock
) -> None:
    here, there = processes
    await there.store.park(await claimed(there.store), NOW + 5 * SECOND)
    await here.store.wait_for_work(HOUR)  # returns as the stream begins
    assert (
        await here.store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)) == []
    )
    waiting = asyncio.create_task(here.store.wait_for_work(HOUR))
    await clock.until_sleeping(5 * SECOND)
    clock.advance(5 * SECOND)
    await waiting


async def test_a_workflow_that_is_put_back_after_its_end_is_waited_for_in_peace(
    processes: list[Process], raw: Database[Document]
) -> None:
    here, there = processes
    client = here.engine()
    await client.init()
    await here.store.wait_for_end("other", AFTER, HOUR)  # returns as the stream begins
    # Ends are remembered while somebody waits for a workflow that is not known yet.
    early = asyncio.create_task(here.store.wait_for_end("other", AFTER, HOUR))
    claim = await claimed(there.store)
    known = await claimed(there.store, "known")
    await here.store.find_standing("known")
    heard = asyncio.create_task(here.store.wait_for_end("known", AFTER, HOUR))
    await there.store.finish(claim, None, NOW)
    raw.workflows.update_one({"workflowId": "w"}, {"$set": {"status": "running"}})
    await there.store.finish(known, None, NOW)
    await heard  # and so of the end of "w", which came before
    here.sent.commands.clear()
    waiting = asyncio.create_task(client.wait("w", retries=2, pause_interval=HOUR))
    await eventually(lambda: len(here.sent.named("find")) >= 2)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(here.sent.named("find")) <= 3
    for task in (early, waiting):
        task.cancel()
    await asyncio.gather(early, waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("options", "awaited"),
    [
        ({}, 5000),
        ({"socketTimeoutMS": 0}, 5000),
        ({"socketTimeoutMS": 60_000}, 5000),
        ({"socketTimeoutMS": 3000}, 1500),
        ({"timeoutMS": 0}, 5000),
        ({"timeoutMS": 60_000}, 5000),
        ({"timeoutMS": 3000}, 1500),
        ({"timeoutMS": 3000, "socketTimeoutMS": 2000}, 1000),
    ],
)
async def test_the_server_answers_before_the_client_gives_the_stream_up(
    mongodb_url: str,
    empty_database: str,
    clock: ManualClock,
    options: dict[str, int],
    awaited: int,
) -> None:
    async with _process(mongodb_url, empty_database, clock, **options) as process:
        waiting = asyncio.create_task(process.store.wait_for_end("w", AFTER, HOUR))
        await eventually(lambda: "getMore" in process.sent.names)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert process.sent.named("getMore")[0]["maxTimeMS"] == awaited


async def test_a_stream_outlasts_a_short_time_limit_for_calls(
    mongodb_url: str, empty_database: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with _process(mongodb_url, empty_database, clock, timeoutMS=2000) as process:
        await process.store.wait_for_end("w", AFTER, HOUR)  # the stream has begun
        waiting = asyncio.create_task(process.store.wait_for_end("w", AFTER, HOUR))
        await eventually(lambda: process.sent.names.count("getMore") > 2)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert len(process.streams) == 1
    assert "broke off" not in caplog.text


async def test_an_id_may_be_anything(processes: list[Process], raw: Database[Document]) -> None:
    here, there = processes
    due = {"workflowId": "w", "handlerId": "h", "status": "idle", "timeoutAt": NOW, "failures": 0}
    raw.workflows.insert_one({"_id": {"of": ["them"]}, **due})
    (claim,) = await there.store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    client = here.engine()
    await client.init()
    waiting = asyncio.create_task(client.wait("w", retries=2, pause_interval=HOUR))
    await eventually(lambda: len(here.sent.named("find")) == 2)
    await there.store.finish(claim, "found", NOW)
    assert await waiting == "found"


# What it costs -----------------------------------------------------------------------------------


async def test_there_is_no_stream_while_nobody_waits(processes: list[Process]) -> None:
    here, _ = processes
    await here.store.finish(await claimed(here.store), None, NOW)
    await here.store.find_workflow("w")
    assert here.streams == []


async def test_all_who_wait_share_one_stream(processes: list[Process]) -> None:
    here, _ = processes
    waits = [here.store.wait_for_end(f"w{number}", AFTER, HOUR) for number in range(20)]
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(wait) for wait in waits]
    tasks += [asyncio.create_task(here.store.wait_for_work(HOUR)) for _ in range(2)]
    await eventually(lambda: "getMore" in here.sent.names)
    await asyncio.gather(*tasks)  # they are told to look again, since the stream has just begun
    again = [asyncio.create_task(here.store.wait_for_end(f"w{n}", AFTER, HOUR)) for n in range(20)]
    await asyncio.sleep(0)
    assert len(here.streams) == 1
    for task in again:
        task.cancel()
    await asyncio.gather(*again, return_exceptions=True)


async def test_waiting_asks_the_server_nothing_while_there_is_a_stream(
    processes: list[Process], clock: ManualClock
) -> None:
    here, there = processes
    client = here.engine()
    await client.init()
    claim = await claimed(there.store, "w0")
    for number in range(1, 20):
        await there.store.create(new(f"w{number}"))
    waits = [asyncio.create_task(client.wait(f"w{number}")) for number in range(20)]
    await eventually(lambda: "getMore" in here.sent.names)
    await clock.until_sleeping(30 * SECOND, count=20)
    here.sent.commands.clear()
    clock.advance(20 * SECOND)
    for _ in range(200):
        await asyncio.sleep(0)
    assert here.sent.named("find") == []
    await there.store.finish(claim, "done", clock.now())
    assert await waits[0] == "done"
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


async def test_a_stream_ends_when_nobody_has_waited_for_a_while(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = processes
    monkeypatch.setattr("bluestreak_mongo.demand.LINGER", 0)
    tasks = asyncio.all_tasks()
    await here.store.wait_for_work(HOUR)  # returns as the stream begins
    await there.store.create(new("w"))  # which ends the server's wait for something to tell
    await eventually(lambda: asyncio.all_tasks() == tasks)
    assert "killCursors" in here.sent.names
    await here.store.wait_for_work(HOUR)
    await eventually(lambda: len(here.streams) == 2)


def _feeds() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task.get_name() == "bluestreak feed"}


async def test_closing_the_store_ends_its_stream(processes: list[Process]) -> None:
    here, _ = processes
    others = _feeds()
    await here.store.wait_for_work(HOUR)
    assert len(_feeds() - others) == 1
    await here.store.close()
    assert _feeds() == others


def _looks_for_control(process: Process) -> int:
    filters = [command["filter"] for command in process.sent.named("find")]
    return sum(any("worker" in branch for branch in found.get("$or", [])) for found in filters)


async def test_without_a_stream_a_worker_looks_twice_a_second_for_what_is_taken_from_it(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> None:
    stuck = Stuck()
    async with _process(mongodb_url, empty_database, clock, maxPoolSize=1) as here:
        worker = here.engine()
        worker.register_handler("stuck", stuck.handle)
        await worker.init()
        async with polling(worker):
            await worker.start("w", "stuck")
            await stuck.inside.wait()
            await clock.until_sleeping(HEED_AFTER)
            clock.advance(HEED_AFTER)
            for _ in range(20):
                await clock.until_sleeping(HALF_A_SECOND)
                clock.advance(HALF_A_SECOND)
            await clock.until_sleeping(HALF_A_SECOND)
            assert _looks_for_control(here) == 1 + 20
            stuck.go_on.set()
            await worker.wait("w")
            await eventually(lambda: worker.health().runs == 0)
            await pass_time(clock, lambda: clock.now() > NOW + 20 * SECOND)
            assert _looks_for_control(here) == 1 + 20


async def test_an_idle_worker_looks_twice_a_poll_interval(
    processes: list[Process], clock: ManualClock
) -> None:
    here, _ = processes
    worker = Bluestreak(here.recording, poll_interval=5, timeout_interval=HOUR)
    await worker.init()
    async with polling(worker):
        await here.is_idle()
        for _ in range(3):
            await clock.until_sleeping(5 * SECOND)
            here.sent.commands.clear()
            begun = here.recording.begun["wait_for_work"]
            clock.advance(5 * SECOND)
            await here.recording.until_begun("wait_for_work", begun + 1)
            await clock.until_sleeping(5 * SECOND)
            # One for what is due, and one for what will be.
            assert here.sent.named("find", "aggregate", "update") == here.sent.named("find")
            looks = [look["filter"] for look in here.sent.named("find")]
            left = [look for look in looks if "unsettled" in look]
            assert len(looks) - len(left) == 2
            assert len(left) <= 2  # for what a dead process has left to do


# Without it --------------------------------------------------------------------------------------


class Unwell:
    """A replica set whose change streams can be made to fail."""

    def __init__(self, url: str, client: MongoClient[Document]) -> None:
        self.url = url
        self.database = f"test-{uuid4().hex[:12]}"
        self._client = client

    @contextmanager
    def without_streams(self, code: int, *commands: str) -> Iterator[None]:
        """For as long as this lasts, none can be opened and none can be read."""
        fail_point = {"configureFailPoint": "failCommand"}
        data = {"failCommands": [*(commands or ("aggregate", "getMore"))], "errorCode": code}
        self._client.admin.command({**fail_point, "mode": "alwaysOn", "data": data})
        try:
            yield
        finally:
            self._client.admin.command({**fail_point, "mode": "off"})


@pytest.fixture(scope="module")
def unwell() -> Iterator[Unwell]:
    with (
        LocalMongo(authorization=False, parameters={"enableTestCommands": "1"}) as local,
        MongoClient[Document](local.url) as client,
    ):
        yield Unwell(local.url, client)


async def test_a_stream_that_breaks_off_comes_back_and_polling_goes_on_meanwhile(
    unwell: Unwell, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with _process(unwell.url, unwell.database, clock) as here:
        worker = Bluestreak(here.recording, poll_interval=10, timeout_interval=HOUR)
        worker.register_handler("h", _done)
        await worker.init()
        async with polling(worker):
            with unwell.without_streams(50):  # MaxTimeMSExpired
                await eventually(lambda: "the change stream broke off" in caplog.text)
                await here.store.create(new("w1"))  # heard of inside the process
                await eventually(lambda: here.recording.returned["finish"] == 1)
            async with _process(unwell.url, unwell.database, clock) as there:
                await there.store.create(new("w2"))
                while here.recording.returned["finish"] < 2:
                    clock.advance(SECOND)
                    await asyncio.sleep(0)
                while "the change stream is back" not in caplog.text:
                    clock.advance(SECOND)
                    await asyncio.sleep(0)
                await here.is_idle(here.recording.begun["wait_for_work"] - 1)
                await there.store.create(new("w3"))
                await eventually(lambda: here.recording.returned["finish"] == 3)


async def test_a_collection_that_is_dropped_ends_the_stream_and_not_the_worker(
    processes: list[Process],
    raw: Database[Document],
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    here, there = processes
    waiting = asyncio.create_task(here.store.wait_for_end("w", AFTER, HOUR))
    await eventually(lambda: "getMore" in here.sent.names)
    await waiting  # the stream has begun
    waiting = asyncio.create_task(here.store.wait_for_end("w", AFTER, HOUR))
    await there.store.create(new("w"))
    raw.workflows.drop()
    await eventually(lambda: "its collection is gone" in caplog.text)
    await waiting  # has to poll from now on
    waiting = asyncio.create_task(here.store.wait_for_end("w", AFTER, HOUR))
    await asyncio.sleep(0)
    clock.advance(SECOND)
    await eventually(lambda: "the change stream is back" in caplog.text)
    await waiting


async def test_a_client_with_one_connection_has_none_for_a_stream(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> None:
    url = f"{mongodb_url}{'&' if '?' in mongodb_url else '?'}maxPoolSize=1"
    async with _process(url, empty_database, clock) as here:
        await here.store.wait_for_work(timedelta(0))
        await here.store.create(new("w"))
        assert here.streams == []


@pytest.mark.parametrize("code", [286, 280, 222, 136])
async def test_a_stream_that_ends_for_reasons_of_its_own_is_opened_again(
    unwell: Unwell, clock: ManualClock, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    caplog.set_level(logging.INFO)
    async with _process(unwell.url, unwell.database, clock) as here:
        await here.store.wait_for_end("w", AFTER, HOUR)  # returns as the stream begins
        waiting = asyncio.create_task(here.store.wait_for_end("w", AFTER, HOUR))
        with unwell.without_streams(code, "getMore"):
            await here.store.create(new(f"w{code}"))
            await eventually(lambda: "the change stream broke off" in caplog.text)
            await waiting  # has to poll from now on
        waiting = asyncio.create_task(here.store.wait_for_end("w", AFTER, HOUR))
        await asyncio.sleep(0)
        clock.advance(SECOND)
        await eventually(lambda: "the change stream is back" in caplog.text)
        await waiting


async def test_who_may_not_open_a_stream_polls(
    unwell: Unwell, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with _process(unwell.url, unwell.database, clock) as here:
        with unwell.without_streams(13):  # Unauthorized
            waiting = asyncio.create_task(here.store.wait_for_work(LEASE))
            await eventually(lambda: "polling instead" in caplog.text)
            await clock.until_sleeping()
            clock.advance(LEASE)
            await waiting
        for _ in range(3):
            waiting = asyncio.create_task(here.store.wait_for_work(timedelta(milliseconds=1)))
            await clock.until_sleeping()
            clock.advance(LEASE)
            await waiting
        assert len(here.streams) == 1


@pytest.fixture(scope="module")
def standalone() -> Iterator[str]:
    with LocalMongo(replica_set=False, authorization=False) as local:
        yield local.url


async def test_on_a_standalone_server_waiting_is_polling(
    standalone: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    database = f"test-{uuid4().hex[:12]}"
    async with (
        _process(standalone, database, clock) as here,
        _process(standalone, database, clock) as there,
    ):
        worker = here.engine()
        await worker.init()
        async with polling(worker):
            await here.recording.until_begun("wait_for_work")
            await there.store.create(new("w"))
            while here.recording.returned["finish"] == 0:
                clock.advance(SECOND)
                await asyncio.sleep(0)
        assert len(here.streams) == 1
    assert "The $changeStream stage is only supported on replica sets" in caplog.text
    assert "RawBSONDocument" not in caplog.text


async def test_without_a_stream_pauses_grow_while_there_is_nothing_to_do(
    standalone: str, clock: ManualClock
) -> None:
    async with _process(standalone, f"test-{uuid4().hex[:12]}", clock) as here:

        async def pause() -> float:
            start = clock.monotonic()
            waiting = asyncio.create_task(here.store.wait_for_work(5 * SECOND))
            while not waiting.done():
                clock.advance(timedelta(milliseconds=5))
                await asyncio.sleep(0)
            return clock.monotonic() - start

        pauses = [await pause() for _ in range(12)]
        assert pauses[-1] >= 5
        await claimed(here.store)
        assert await pause() < pauses[-1]


async def test_a_nap_is_on_time_on_a_standalone_server(standalone: str, clock: ManualClock) -> None:
    database = f"test-{uuid4().hex[:12]}"
    async with (
        _process(standalone, database, clock) as here,
        _process(standalone, database, clock) as there,
    ):
        await there.store.park(await claimed(there.store), NOW + timedelta(milliseconds=7))
        waiting = asyncio.create_task(here.store.wait_for_work(HOUR))
        await clock.until_sleeping(timedelta(milliseconds=7))
        clock.advance(timedelta(milliseconds=7))
        await waiting


async def test_what_falls_due_between_a_look_and_the_wait_after_it_is_not_missed(
    standalone: str, clock: ManualClock
) -> None:
    database = f"test-{uuid4().hex[:12]}"
    async with (
        _process(standalone, database, clock) as here,
        _process(standalone, database, clock) as there,
    ):
        await there.store.park(await claimed(there.store), NOW + SECOND)
        assert (
            await here.store.claim(
                ClaimRequest(worker="worker", now=clock.now(), lease=LEASE, limit=1)
            )
            == []
        )
        clock.advance(SECOND)
        await here.store.wait_for_work(HOUR)


async def _done(ctx: Context, input: Any) -> str:
    return "done"

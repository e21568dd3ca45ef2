"""What becomes of a call when the server fails it, its answer is lost, or its caller is cancelled.

The server fails commands by its own `failCommand` fail point. That fails a command before it is
carried out, except with a `writeConcernError`, which comes after; a link loses answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    closing,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database

from bluestreak_core import Bluestreak, Context, StoreError, StoreRefused, StoreUnavailable
from bluestreak_core.adapter import ServerClock
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import LocalMongo, MongoStore
from tests.arrange import eventually
from tests.mongo.arrange import (
    ATTEMPT,
    AWARE,
    CALLS,
    FAILED_STEP,
    LEASE,
    NOW,
    SECOND,
    Application,
    Document,
    Sent,
    claimed,
    message,
    new,
)
from tests.mongo.lossy_link import LossyLink, Passage

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

NOT_REPLICATED = {"code": 64, "errmsg": "waiting for replication timed out"}
UNKNOWN_ASSERTION = 7654321
OVERLOADED = {"errorCode": 2, "errorLabels": ["SystemOverloadedError", "RetryableError"]}
ENDINGS = {"park": "idle", "release": "idle", "finish": "finished", "fail": "failed"}


class FallibleServer:
    """A server that fails the commands that a test chooses."""

    def __init__(self, server: LocalMongo, client: MongoClient[Document]) -> None:
        self.url = server.url
        self.port = server.members[0].port
        self.client = client

    @contextmanager
    def failing(self, *commands: str, **how: Any) -> Iterator[None]:
        """Fail these commands, each time, in this way."""
        with self._failing("alwaysOn", {"failCommands": list(commands), **how}):
            yield

    @contextmanager
    def failing_once(self, *commands: str, **how: Any) -> Iterator[None]:
        """Fail the first of these commands in this way."""
        with self._failing({"times": 1}, {"failCommands": list(commands), **how}):
            yield

    @contextmanager
    def _failing(self, mode: str | Document, data: Document) -> Iterator[None]:
        fail_point = {"configureFailPoint": "failCommand"}
        self.client.admin.command({**fail_point, "mode": mode, "data": data})
        try:
            yield
        finally:
            self.client.admin.command({**fail_point, "mode": "off"})

    @contextmanager
    def blocking_writes(self) -> Iterator[None]:
        """Refuse writes for now, as during a live migration."""
        self.client.admin.command({"setUserWriteBlockMode": 1, "global": True})
        try:
            yield
        finally:
            self.client.admin.command({"setUserWriteBlockMode": 1, "global": False})


@pytest.fixture(scope="module")
def server() -> Iterator[FallibleServer]:
    with (
        LocalMongo(authorization=False, parameters={"enableTestCommands": "1"}) as local,
        MongoClient[Document](local.url) as client,
    ):
        yield FallibleServer(local, client)


@pytest.fixture
def behind(server: FallibleServer) -> Iterator[Database[Document]]:
    """The store's database, for looking behind its back."""
    name = f"test-{uuid4().hex[:12]}"
    yield server.client.get_database(name, codec_options=AWARE)
    server.client.drop_database(name)


@pytest_asyncio.fixture
async def store(
    server: FallibleServer, behind: Database[Document], clock: ManualClock
) -> AsyncIterator[MongoStore]:
    store = MongoStore(server.url, database=behind.name, clock=clock)
    await store.init()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def link(server: FallibleServer) -> AsyncIterator[LossyLink]:
    async with LossyLink(server.port) as link:
        yield link


@pytest_asyncio.fixture
async def distant(
    link: LossyLink, behind: Database[Document], clock: ManualClock
) -> AsyncIterator[MongoStore]:
    """A store at the other end of the link."""
    store = MongoStore(link.url, database=behind.name, clock=clock)
    await store.init()
    yield store
    await store.close()


def documents(behind: Database[Document]) -> dict[str, list[Document]]:
    """All that is stored."""
    return {name: list(behind[name].find()) for name in ("workflows", "steps", "naps")}


# Commands that the server does not carry out -----------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param({"errorCode": 10107}, StoreUnavailable, id="NotWritablePrimary"),
        pytest.param({"errorCode": 189}, StoreUnavailable, id="PrimarySteppedDown"),
        pytest.param({"errorCode": 50}, StoreUnavailable, id="MaxTimeMSExpired"),
        pytest.param({"errorCode": 211}, StoreUnavailable, id="KeyNotFound"),
        pytest.param({"errorCode": 371}, StoreUnavailable, id="UserWritesBlocked"),
        pytest.param({"errorCode": 463}, StoreUnavailable, id="a newer server sheds load"),
        pytest.param({"errorCode": 14031}, StoreUnavailable, id="OutOfDiskSpace"),
        pytest.param({"errorCode": 16500}, StoreUnavailable, id="TooManyRequests"),
        pytest.param({"errorCode": UNKNOWN_ASSERTION}, StoreUnavailable, id="unknown"),
        pytest.param(OVERLOADED, StoreUnavailable, id="labels of an overload"),
        pytest.param({"errorCode": 13}, StoreRefused, id="Unauthorized"),
        pytest.param({"errorCode": 59}, StoreRefused, id="CommandNotFound"),
    ],
)
async def test_answers_of_the_server_are_outages_or_refusals(
    server: FallibleServer,
    behind: Database[Document],
    store: MongoStore,
    answer: dict[str, Any],
    kind: type[StoreError],
) -> None:
    claim = await claimed(store)
    before = documents(behind)
    with server.failing("find", "aggregate", "insert", "update", **answer):
        for call in CALLS.values():
            with pytest.raises(kind, match="failCommand"):
                await call(store, claim)
    assert documents(behind) == before
    await store.finish(claim, None, NOW)


async def test_a_worker_outlasts_times_in_which_writes_are_blocked(
    server: FallibleServer, behind: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    called: list[int] = []
    async with (
        Bluestreak(MongoStore(server.url, database=behind.name)) as bluestreak,
        AsyncExitStack() as blocked,
    ):

        def charge(number: int) -> int:
            called.append(number)
            blocked.enter_context(server.blocking_writes())
            return number

        @bluestreak.handler("h")
        async def handle(ctx: Context, number: int) -> int:
            return await ctx.step("charge", charge, number)

        await bluestreak.start("w", "h", 7)
        with server.blocking_writes():
            poll = asyncio.create_task(bluestreak.poll())
            await eventually(lambda: bluestreak.health().store_failures > 0)
        assert "User writes blocked" in str(bluestreak.health().last_store_error)
        await eventually(lambda: "workflow 'w': store unavailable, trying again" in caplog.text)
        await blocked.aclose()
        assert await bluestreak.wait("w") == 7
        bluestreak.stop()
        await poll
    assert called == [7]


async def test_what_a_server_meets_at_one_of_several_documents_does_not_fail_the_others(
    server: FallibleServer, behind: Database[Document], store: MongoStore
) -> None:
    with server.failing_once("insert", errorCode=UNKNOWN_ASSERTION):
        assert await asyncio.gather(store.create(new("w1")), store.create(new("w2")))
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=2))
    with server.failing_once("update", errorCode=UNKNOWN_ASSERTION):
        await asyncio.gather(*(store.finish(claim, None, NOW) for claim in claims))
    assert behind.workflows.count_documents({"status": "finished"}) == 2


async def test_an_overloaded_server_is_not_asked_for_each_of_several_documents(
    server: FallibleServer, behind: Database[Document], store: MongoStore
) -> None:
    # With RetryableError beside it, the driver would send the whole command again.
    overloaded = {"errorCode": UNKNOWN_ASSERTION, "errorLabels": ["SystemOverloadedError"]}
    with server.failing_once("insert", **overloaded):
        creations = [store.create(new("w1")), store.create(new("w2"))]
        outcomes = await asyncio.gather(*creations, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
    assert behind.workflows.count_documents({}) == 0


@pytest.mark.parametrize("call", ["create", "claim", "finish"])
async def test_a_connection_that_breaks_is_unavailable_and_nothing_is_written(
    server: FallibleServer, behind: Database[Document], store: MongoStore, call: str
) -> None:
    claim = await claimed(store)
    before = documents(behind)
    with (
        server.failing("find", "insert", "update", closeConnection=True),
        pytest.raises(StoreUnavailable, match=r"connection (is already )?closed"),
    ):
        await CALLS[call](store, claim)
    assert documents(behind) == before
    await CALLS[call](store, claim)


async def test_a_history_whose_cursor_is_lost_is_unavailable_and_can_be_read_again(
    server: FallibleServer, behind: Database[Document], store: MongoStore
) -> None:
    claim = await claimed(store)
    behind.steps.insert_many(
        {"workflowId": "w", "stepId": f"step {number}", "output": number}
        for number in range(10_300)
    )
    with (
        server.failing("getMore", errorCode=43),
        pytest.raises(StoreUnavailable, match="failCommand"),
    ):
        await store.history([claim])
    assert len((await store.history([claim]))["w"].steps) == 10_300


async def test_an_init_that_fails_can_be_repeated(
    server: FallibleServer, behind: Database[Document], clock: ManualClock
) -> None:
    store = MongoStore(server.url, database=behind.name, clock=clock)
    with (
        server.failing("createIndexes", writeConcernError=NOT_REPLICATED),
        pytest.raises(StoreUnavailable, match="replication timed out"),
    ):
        await store.init()
    assert asyncio.all_tasks() == {asyncio.current_task()}, "the client has been left open"
    await store.init()
    await claimed(store)
    await store.close()


# Commands that the server carries out, though the caller cannot know -----------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlucky:
    """A store whose writes can be carried out and then be reported as failed."""

    store: MongoStore
    striking: Callable[[str, int], AbstractContextManager[None]]
    """Breaks a command, which the driver tries so many times."""


@pytest_asyncio.fixture(params=["not replicated", "answer lost"])
async def unlucky(
    request: pytest.FixtureRequest,
    server: FallibleServer,
    store: MongoStore,
    link: LossyLink,
    distant: MongoStore,
) -> Unlucky:
    if request.param == "answer lost":
        return Unlucky(
            store=distant, striking=lambda command, tries: link.losing(command, times=tries)
        )
    return Unlucky(
        store=store,
        striking=lambda command, _: server.failing(command, writeConcernError=NOT_REPLICATED),
    )


@pytest.mark.parametrize(("call", "status"), ENDINGS.items())
async def test_an_ending_of_unknown_outcome_can_be_repeated_and_happens_once(
    unlucky: Unlucky, behind: Database[Document], call: str, status: str
) -> None:
    claim = await claimed(unlucky.store)
    with unlucky.striking("update", 2), suppress(StoreUnavailable):
        await CALLS[call](unlucky.store, claim)
    done = documents(behind)
    (workflow,) = done["workflows"]
    assert (workflow["status"], workflow["failures"]) == (status, int(call == "fail"))
    await CALLS[call](unlucky.store, claim)
    assert documents(behind) == done


async def test_a_record_of_unknown_outcome_can_be_repeated_and_the_first_one_wins(
    unlucky: Unlucky, behind: Database[Document]
) -> None:
    store = unlucky.store
    claim = await claimed(store)
    with unlucky.striking("insert", 2), suppress(StoreUnavailable):
        await store.save_step(claim, "s", "first", NOW)
    with unlucky.striking("insert", 2), suppress(StoreUnavailable):
        await store.save_nap(claim, "n", NOW + SECOND, NOW)
    with unlucky.striking("insert", 2), suppress(StoreUnavailable):
        await store.save_attempt(claim, ATTEMPT)
    with unlucky.striking("update", 2), suppress(StoreUnavailable):
        await store.fail_step(claim, FAILED_STEP)
    done = documents(behind)
    assert (len(done["steps"]), len(done["naps"])) == (1, 2)
    assert len(done["workflows"][0]["failedSteps"]) == 1
    assert await store.save_step(claim, "s", "second", NOW + SECOND) == "first"
    assert await store.save_nap(claim, "n", NOW + 2 * SECOND, NOW) == NOW + SECOND
    assert await store.save_attempt(claim, replace(ATTEMPT, saved_at=NOW + SECOND)) == ATTEMPT
    await store.fail_step(claim, FAILED_STEP)
    assert documents(behind) == done


async def test_a_creation_of_unknown_outcome_is_found_by_its_repeat(
    unlucky: Unlucky, behind: Database[Document]
) -> None:
    with unlucky.striking("insert", 2), suppress(StoreUnavailable):
        await unlucky.store.create(new("w", input="first"))
    done = documents(behind)
    assert not await unlucky.store.create(new("w", input="second"))
    assert documents(behind) == done
    (claim,) = await unlucky.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)
    )
    assert claim.workflow.input == "first"


async def test_a_message_is_counted_although_the_first_answer_is_lost_or_not_to_be_relied_on(
    unlucky: Unlucky, behind: Database[Document]
) -> None:
    await unlucky.store.create(new("w"))
    with unlucky.striking("update", 1), suppress(StoreUnavailable):
        await unlucky.store.send(message())
    (workflow,) = behind.workflows.find()
    assert workflow["mail"] >= 1
    assert await unlucky.store.send(message()) is False
    assert behind.messages.count_documents({"unread": True}) == 1


async def test_a_message_is_sent_although_the_server_fails_the_first_update(
    server: FallibleServer, behind: Database[Document], store: MongoStore
) -> None:
    await store.create(new("w"))
    with server.failing_once("update", errorCode=UNKNOWN_ASSERTION):
        assert await store.send(message())
    (workflow,) = behind.workflows.find()
    assert workflow["mail"] == 1


# What an earlier call has left on a primary that is cut off is rolled back when that is heard. Here
# it is removed just before it is looked for.
async def test_what_was_there_before_and_is_rolled_back_is_not_said_to_be_there(
    application: Application, raw: Database[Document]
) -> None:
    store, sent = application.store, application.sent
    await store.create(new("w"))
    assert not await store.create(new("w"))
    sent.before["find"] = lambda: raw.workflows.delete_many({})
    with pytest.raises(StoreUnavailable, match="not replicated yet"):
        await store.create(new("w"))
    assert await store.create(new("w"))
    await store.send(message())
    # The first read is for the address of the workflow.
    removal = {"find": lambda: raw.messages.delete_many({})}
    sent.before["find"] = lambda: sent.before.update(removal)
    with pytest.raises(StoreUnavailable, match="not replicated yet"):
        await store.send(message())
    assert await store.send(message())


@pytest.mark.parametrize("rolled_back", [False, True])
async def test_of_several_only_what_a_majority_has_is_said_to_have_been_there(
    server: FallibleServer, behind: Database[Document], clock: ManualClock, *, rolled_back: bool
) -> None:
    sent = Sent()
    async with AsyncMongoClient[Document](server.url, event_listeners=[sent]) as client:
        store = MongoStore.from_database(client[behind.name], clock=clock)
        await store.init()
        await store.create(new("w"))
        if rolled_back:
            sent.before["find"] = lambda: behind.workflows.delete_many({"workflowId": "w"})
        with server.failing("insert", writeConcernError=NOT_REPLICATED):
            calls = [store.create(new(name)) for name in ("v", "w")]
            _, answer = await asyncio.gather(*calls, return_exceptions=True)
        await store.close()
    if rolled_back:
        assert isinstance(answer, StoreUnavailable)
    else:
        assert answer is False


async def test_a_write_without_an_answer_is_found_by_reading_back(
    link: LossyLink, distant: MongoStore, behind: Database[Document]
) -> None:
    with link.losing("insert", times=2):
        assert await distant.create(new("w"))
    (claim,) = await distant.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    with link.losing("insert", times=2):
        assert await distant.save_step(claim, "s", "first", NOW) == "first"
    with link.losing("update", times=2):
        await distant.finish(claim, "done", NOW)
    assert behind.workflows.count_documents({"status": "finished", "result": "done"}) == 1


@pytest.mark.parametrize(
    ("call", "command"),
    [
        ("save_step", "insert"),
        ("save_nap", "insert"),
        ("save_attempt", "insert"),
        ("finish", "update"),
    ],
)
async def test_a_write_without_an_answer_that_cannot_be_read_back_is_unavailable(
    link: LossyLink, distant: MongoStore, behind: Database[Document], call: str, command: str
) -> None:
    claim = await claimed(distant)
    with link.losing(command, "find", times=2), pytest.raises(StoreUnavailable):
        await CALLS[call](distant, claim)
    done = documents(behind)
    await CALLS[call](distant, claim)
    assert documents(behind) == done


async def test_many_writes_without_an_answer_are_found_each(
    link: LossyLink, distant: MongoStore, behind: Database[Document]
) -> None:
    names = [f"w{number}" for number in range(20)]
    with link.losing("insert", times=2):
        assert all(await asyncio.gather(*(distant.create(new(name)) for name in names)))
    claims = await distant.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=20))
    with link.losing("update", times=2):
        await asyncio.gather(*(distant.finish(claim, claim.workflow_id, NOW) for claim in claims))
    assert behind.workflows.count_documents({"status": "finished"}) == 20


async def test_a_renewal_of_unknown_outcome_can_be_repeated(
    unlucky: Unlucky, behind: Database[Document]
) -> None:
    claim = await claimed(unlucky.store)
    with unlucky.striking("update", 1), pytest.raises(StoreUnavailable):
        await unlucky.store.renew([claim], NOW + SECOND, LEASE)
    done = documents(behind)
    assert done["workflows"][0]["timeoutAt"] == NOW + SECOND + LEASE
    assert await unlucky.store.renew([claim], NOW + SECOND, LEASE) == []
    assert documents(behind) == done


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        pytest.param({"errorCode": 10107}, StoreUnavailable, id="NotWritablePrimary"),
        pytest.param({"closeConnection": True}, StoreUnavailable, id="connection closed"),
        pytest.param(
            {"blockConnection": True, "blockTimeMS": 1000}, StoreUnavailable, id="no answer"
        ),
        pytest.param({"writeConcernError": NOT_REPLICATED}, StoreUnavailable, id="not replicated"),
        pytest.param({"errorCode": 13}, StoreRefused, id="Unauthorized"),
    ],
)
async def test_a_renewal_from_a_thread_that_fails_can_be_repeated(
    server: FallibleServer,
    behind: Database[Document],
    store: MongoStore,
    how: dict[str, Any],
    kind: type[StoreError],
) -> None:
    claim = await claimed(store)
    short = 0.6 * SECOND
    with closing(store.renewer()) as renewer:
        with server.failing("update", **how), pytest.raises(kind):
            renewer.renew([claim], NOW + SECOND, short)
        assert renewer.renew([claim], NOW + 2 * LEASE, LEASE) == []
    (workflow,) = behind.workflows.find()
    assert workflow["timeoutAt"] == NOW + 3 * LEASE


async def test_a_claim_that_is_not_replicated_runs_out_by_itself(
    server: FallibleServer, store: MongoStore
) -> None:
    await store.create(new("w"))
    with (
        server.failing("update", writeConcernError=NOT_REPLICATED),
        pytest.raises(StoreUnavailable),
    ):
        await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    assert (
        list(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))) == []
    )
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=NOW + LEASE, lease=LEASE, limit=1)
    )
    assert (claim.number, claim.workflow.crashes) == (2, 1)


async def test_a_claim_by_one_command_that_is_not_replicated_is_an_outage_despite_its_labels(
    server: FallibleServer, store: MongoStore
) -> None:
    request = ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)
    assert list(await store.claim(request)) == []
    await store.create(new("w"))
    labelled = {"writeConcernError": NOT_REPLICATED, "errorLabels": ["RetryableWriteError"]}
    with (
        server.failing("findAndModify", **labelled),
        pytest.raises(StoreUnavailable, match="replication timed out"),
    ):
        await store.claim(request)
    (claim,) = await store.claim(replace(request, now=NOW + LEASE))
    assert (claim.number, claim.workflow.crashes) == (2, 1)


async def test_a_claim_whose_answer_is_lost_is_read_back(
    link: LossyLink, distant: MongoStore
) -> None:
    await distant.create(new("w"))
    with link.losing("update", times=1):
        (claim,) = await distant.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    await distant.finish(claim, "done", NOW)


async def test_a_failure_whose_answer_is_lost_once_is_counted_once(
    link: LossyLink, distant: MongoStore, behind: Database[Document]
) -> None:
    claim = await claimed(distant)
    with link.losing("update", times=1):
        await CALLS["fail"](distant, claim)
    assert behind.workflows.count_documents({"status": "failed", "failures": 1}) == 1


# Servers that no longer answer -------------------------------------------------------------------


async def test_a_call_on_a_connection_without_answers_is_given_up_and_the_next_one_is_not(
    link: LossyLink, behind: Database[Document], clock: ManualClock
) -> None:
    store = MongoStore(f"{link.url}&socketTimeoutMS=200", database=behind.name, clock=clock)
    await store.init()
    claim = await claimed(store)
    with link.passing(lambda _: Passage.FROZEN), pytest.raises(StoreUnavailable, match="timed out"):
        await store.finish(claim, "done", NOW)
    await store.finish(claim, "done", NOW)
    await store.close()
    assert behind.workflows.count_documents({"status": "finished", "result": "done"}) == 1


async def test_a_renewal_from_a_thread_is_given_up_while_there_is_time_for_another(
    link: LossyLink, behind: Database[Document], clock: ManualClock
) -> None:
    lease = 0.6 * SECOND
    store = MongoStore(link.url, database=behind.name, clock=clock)
    await store.init()
    claim = await claimed(store)
    with closing(store.renewer()) as renewer:
        assert await asyncio.to_thread(renewer.renew, [claim], NOW, lease) == []
        with link.passing(lambda _: Passage.FROZEN):
            async with asyncio.timeout(5):  # it takes ten to find out that the server is not there
                with pytest.raises(StoreUnavailable):
                    await asyncio.to_thread(renewer.renew, [claim], NOW, lease)
    await store.close()


async def test_closing_does_not_wait_for_a_server_that_does_not_answer(
    link: LossyLink, behind: Database[Document], clock: ManualClock
) -> None:
    store = MongoStore(link.url, database=behind.name, clock=clock)
    await store.init()
    with link.passing(lambda _: Passage.FROZEN):
        async with asyncio.timeout(8):  # it takes ten to find out that the server is not there
            await store.close()


async def test_a_measurement_of_the_clock_that_fails_leaves_the_clock_as_it_was(
    server: FallibleServer, link: LossyLink, behind: Database[Document]
) -> None:
    clock, sent = ServerClock(), Sent()
    async with AsyncMongoClient[Document](
        link.url, appname="slow", event_listeners=[sent]
    ) as client:
        store = MongoStore.from_database(client[behind.name], clock=clock)
        sent.before["hello"] = lambda: sent.before.update(hello=link.drop)  # at the second one
        with (
            server.failing("hello", blockConnection=True, blockTimeMS=50, appName="slow"),
            pytest.raises(StoreUnavailable),
        ):
            await store.init()
        assert clock.is_stale
        await store.init()
        assert not clock.is_stale
        await store.close()


# Callers that are cancelled ----------------------------------------------------------------------


async def cancelled_at(command: str, sent: Sent, call: Awaitable[object]) -> None:
    """Make a call, and cancel it just before it sends a command."""
    caller = asyncio.ensure_future(call)
    sent.before[command] = caller.cancel
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_record_whose_caller_is_cancelled_counts_as_progress(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    await claimed(store)
    (claim,) = await store.claim(
        ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=1)
    )
    assert claim.workflow.crashes == 1
    await cancelled_at("insert", application.sent, store.save_step(claim, "s", 1, NOW))
    assert raw.steps.count_documents({}) == 1
    assert raw.workflows.count_documents({"crashes": 0}) == 1


@pytest.mark.parametrize(
    ("call", "command"),
    [
        ("create", "insert"),
        ("create_many", "insert"),
        ("save_step", "insert"),
        ("save_nap", "insert"),
        ("save_attempt", "insert"),
        ("claim", "update"),
        ("renew", "update"),
        ("park", "update"),
        ("release", "update"),
        ("finish", "update"),
        ("fail", "update"),
        ("fail_step", "update"),
        ("control", "update"),
        ("fork", "insert"),
    ],
)
async def test_a_write_whose_caller_is_cancelled_is_carried_out(
    application: Application, raw: Database[Document], call: str, command: str
) -> None:
    claim = await claimed(application.store)
    if call == "claim":
        await application.store.create(new("w3"))
    before = documents(raw)
    await cancelled_at(command, application.sent, CALLS[call](application.store, claim))
    done = documents(raw)
    assert done != before
    await application.store.find_workflow("w")
    assert documents(raw) == done, "something went on after the cancellation was through"
    assert len(application.sent.connections) == 1, "a connection was closed"


async def test_a_step_whose_caller_is_cancelled_at_any_moment_is_recorded_or_not(
    application: Application,
) -> None:
    claim = await claimed(application.store)
    recorded = set()
    for turns in range(25):
        step_id = f"step {turns}"
        caller = asyncio.create_task(application.store.save_step(claim, step_id, "first", NOW))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait({caller})
        step = await application.store.find_step("w", step_id)
        winner = await application.store.save_step(claim, step_id, "second", NOW)
        assert winner == ("second" if step is None else "first")
        recorded.add(step is not None)
    assert recorded == {True, False}
    assert len(application.sent.connections) == 1, "a connection was closed"


async def test_a_read_whose_caller_is_cancelled_does_no_harm(application: Application) -> None:
    claim = await claimed(application.store)
    await cancelled_at("find", application.sent, CALLS["find_workflow"](application.store, claim))
    await application.store.finish(claim, None, NOW)


async def test_a_read_whose_caller_is_cancelled_at_any_moment_is_broken_off(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> None:
    # With a socket timeout the driver takes another way, on which it can miss a cancellation.
    async with AsyncMongoClient[Document](mongodb_url, socketTimeoutMS=60_000) as client:
        store = MongoStore.from_database(client[empty_database], clock=clock)
        await store.init()
        for turns in range(50):
            await store.find_workflow("w")  # a connection is there
            caller = asyncio.create_task(store.find_workflow("w"))
            for _ in range(turns):
                await asyncio.sleep(0)
            was_too_late = caller.done()
            caller.cancel()
            await asyncio.wait({caller})
            assert caller.cancelled() or was_too_late, f"after {turns} turns"
        await store.close()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_reads_whose_callers_are_cancelled_twice_leave_the_client_as_it_was(
    link: LossyLink, behind: Database[Document], clock: ManualClock, turns: int
) -> None:
    url = f"{link.url}&serverSelectionTimeoutMS=500"
    store = MongoStore(url, database=behind.name, clock=clock)
    await store.init()
    with link.passing(lambda _: Passage.CUT):
        with pytest.raises(StoreUnavailable):  # from now on the client waits for a server
            await store.find_workflow("w")
        readers = [asyncio.create_task(store.find_workflow("w")) for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)
        for _ in range(2):
            for reader in readers:
                reader.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
        await asyncio.wait(readers)
    async with asyncio.timeout(20):
        while True:
            with suppress(StoreUnavailable):
                assert await store.find_workflow("w") is None
                break
        await store.close()

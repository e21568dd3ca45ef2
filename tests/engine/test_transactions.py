"""Steps that are committed with what they have written, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    Claim,
    Context,
    InvalidArgument,
    Retry,
    Status,
    Step,
    StepFailed,
    StepTimeout,
    StoreRefused,
    StoreUnavailable,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowConflict,
)
from bluestreak_core.testing import (
    Environment,
    ManualClock,
    RecordingStore,
    StoreWrapper,
    crash_everywhere,
)
from bluestreak_memory import MemorySession, MemoryStore
from bluestreak_mongo import MongoStore
from tests.engine.arrange import Fleet, transaction

SECOND = timedelta(seconds=1)


class Ledger:
    """The application's own data, in the database that the store is in."""

    def __init__(self, store: MemoryStore | MongoStore, database: str) -> None:
        self.calls = 0
        self._store = store
        self._entries: dict[str, int] = {}
        self._database = database

    async def book(self, session: Any, name: str, cents: int) -> str:
        self.calls += 1
        if isinstance(session, MemorySession):
            session.set(self._entries, name, self._entries.get(name, 0) + cents)
        else:
            ledger = session.client[self._database]["ledger"]
            change = {"$inc": {"cents": cents}}
            await ledger.update_one({"name": name}, change, upsert=True, session=session)
        return f"{name} {cents}"

    async def balance(self, client: AsyncMongoClient[dict[str, Any]] | None, name: str) -> int:
        if client is None:
            return self._entries.get(name, 0)
        found = await client[self._database]["ledger"].find_one({"name": name})
        return found["cents"] if found else 0


class Bank:
    """A ledger, and how to look at it."""

    def __init__(self, ledger: Ledger, client: AsyncMongoClient[dict[str, Any]] | None) -> None:
        self.ledger = ledger
        self._client = client

    async def balance(self, name: str = "ada") -> int:
        return await self.ledger.balance(self._client, name)


@pytest_asyncio.fixture
async def bank(request: pytest.FixtureRequest, store: RecordingStore) -> Any:
    inner: Any = store.wrapped
    if isinstance(inner, MemoryStore):
        yield Bank(Ledger(inner, ""), None)
        return
    database = request.getfixturevalue("empty_database")
    url: str = request.getfixturevalue("mongodb_url")
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    await client[database].create_collection("ledger")
    yield Bank(Ledger(inner, database), client)
    await client[database].drop_collection("ledger")
    await client.close()


@pytest.mark.asyncio
async def test_what_is_written_is_committed_with_the_step(fleet: Fleet, bank: Bank) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: int) -> str:
        return await ctx.transaction("book", bank.ledger.book, "ada", input)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 500)
        assert await bluestreak.wait("w") == "ada 500"
    assert await bank.balance() == 500
    step = await bluestreak.find_step("w", "book")
    assert step is not None
    assert step.output == "ada 500"


@pytest.mark.asyncio
async def test_a_recorded_transaction_is_not_called_again(fleet: Fleet, bank: Bank) -> None:
    bluestreak = await fleet.engine(wait_retry_interval=0)
    runs: list[None] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        booked = await ctx.transaction("book", bank.ledger.book, "ada", 1)
        runs.append(None)
        if len(runs) < 3:
            raise ValueError
        return booked

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "ada 1"
    assert (await bank.balance(), bank.ledger.calls) == (1, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("failure", ["raised", "unstorable", "timeout"])
async def test_nothing_is_left_of_a_transaction_that_fails(
    fleet: Fleet, bank: Bank, failure: str
) -> None:
    interval = 0.5 if failure == "timeout" else 10
    bluestreak = await fleet.engine(max_failures=0, timeout_interval=interval)

    async def book(session: Any) -> object:
        await bank.ledger.book(session, "ada", 1)
        match failure:
            case "raised":
                raise ValueError("no such account")
            case "timeout":
                await asyncio.Event().wait()
        return object()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.transaction("book", book)

    errors = {"raised": "no such", "unstorable": "Unstorable", "timeout": StepTimeout.__name__}
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=errors[failure]):
            await bluestreak.wait("w")
    assert await bank.balance() == 0
    assert await bluestreak.find_step("w", "book") is None


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [StoreUnavailable, StoreRefused, SystemExit])
async def test_what_its_function_raises_is_the_handlers_affair_whatever_it_looks_like(
    fleet: Fleet, bank: Bank, error: type[BaseException]
) -> None:
    bluestreak = await fleet.engine()

    async def book(session: Any) -> None:
        await bank.ledger.book(session, "ada", 1)
        raise error("of another system")

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.transaction("book", book)
        except (StoreUnavailable, StoreRefused, RuntimeError) as caught:
            return await ctx.step("note", str, caught)
        return "booked"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert "of another system" in await bluestreak.wait("w")
    assert (await bank.balance(), bank.ledger.calls) == (0, 1)


@pytest.mark.asyncio
async def test_only_an_async_function_can_be_in_a_transaction(fleet: Fleet, bank: Bank) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.transaction("book", lambda session: None)  # type: ignore[arg-type, return-value]

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=r"'book' .*expected an async function"):
            await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_a_lease_is_not_renewed_while_its_run_is_in_a_transaction(
    fleet: Fleet, bank: Bank, clock: ManualClock, store: RecordingStore
) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()
    bluestreak = await fleet.engine(timeout_interval=9)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        async def book(session: Any) -> str:
            booked = await bank.ledger.book(session, "ada", 1)
            inside.set()
            await go_on.wait()
            return booked

        return await ctx.transaction("book", book)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
        await clock.until_sleeping(3 * SECOND)
        clock.advance(3 * SECOND)
        await clock.until_sleeping(3 * SECOND)
        assert store.begun["renew"] == 0
        go_on.set()
        assert await bluestreak.wait("w") == "ada 1"
    assert bank.ledger.calls == 1


@pytest.mark.asyncio
async def test_transactions_of_one_run_take_turns(fleet: Fleet, bank: Bank) -> None:
    bluestreak = await fleet.engine(max_failures=0)
    inside: list[str] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> list[str]:
        async def book(session: Any, name: str) -> str:
            inside.append(name)
            booked = await bank.ledger.book(session, name, 1)
            assert inside == [name]
            inside.clear()
            return booked

        names = [f"account {number}" for number in range(5)]
        return await asyncio.gather(*(ctx.transaction(name, book, name) for name in names))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == [f"account {number} 1" for number in range(5)]
    assert bank.ledger.calls == 5


@pytest.mark.asyncio
@pytest.mark.parametrize("used", ["step", "nap", "transaction", "compensation"])
async def test_its_function_cannot_use_the_context(fleet: Fleet, bank: Bank, used: str) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        async def book(session: Any) -> None:
            await bank.ledger.book(session, "ada", 1)
            match used:
                case "step":
                    await ctx.step("x", str)
                case "nap":
                    await ctx.sleep("x", 0)
                case "transaction":
                    await ctx.transaction("x", book)
                case "compensation":
                    await ctx.compensate("x", str)

        await ctx.transaction("book", book)

    refusal = (
        f"UsedInTransaction: workflow 'w': {used} 'x' cannot be used within transaction 'book'"
    )
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=refusal):
            await bluestreak.wait("w")
    assert (await bank.balance(), bank.ledger.calls) == (0, 1)
    assert await bluestreak.find_step("w", "x") is None


@pytest.mark.asyncio
async def test_what_its_function_has_begun_may_use_the_context_afterwards(
    fleet: Fleet, bank: Bank
) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        is_over, begun = asyncio.Event(), []

        async def afterwards() -> str:
            await is_over.wait()
            return await ctx.step("after", str, "noted")

        async def book(session: Any) -> None:
            await bank.ledger.book(session, "ada", 1)
            begun.append(asyncio.create_task(afterwards()))

        await ctx.transaction("book", book)
        is_over.set()
        return await begun[0]

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "noted"


@pytest.mark.asyncio
async def test_a_function_that_swallows_the_end_of_its_time_commits_nothing(
    fleet: Fleet, bank: Bank
) -> None:
    bluestreak = await fleet.engine(max_failures=0, timeout_interval=0.5)

    async def book(session: Any) -> str:
        booked = await bank.ledger.book(session, "ada", 1)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return booked

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.transaction("book", book)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=StepTimeout.__name__):
            await bluestreak.wait("w")
    assert await bank.balance() == 0
    assert await bluestreak.find_step("w", "book") is None


@pytest.mark.asyncio
async def test_a_step_that_was_given_up_is_not_called_as_a_transaction(
    fleet: Fleet, bank: Bank
) -> None:
    bluestreak = await fleet.engine(wait_retry_interval=0)
    runs: list[None] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        runs.append(None)
        try:
            if len(runs) == 1:
                await ctx.step("book", lambda: 1 // 0, retry=Retry(max_attempts=1))
            else:
                await ctx.transaction("book", bank.ledger.book, "ada", 1)
        except StepFailed:
            if len(runs) == 1:
                raise ValueError from None
            return "given up"
        return "booked"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "given up"
    assert (await bank.balance(), bank.ledger.calls) == (0, 0)


@pytest.mark.asyncio
async def test_a_function_cannot_end_the_claim_that_it_is_committed_under(
    fleet: Fleet, bank: Bank
) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    async def book(session: Any) -> None:
        await bank.ledger.book(session, "ada", 1)
        assert await bluestreak.cancel("w", session=session)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.transaction("book", book)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="'book': its function has ended the claim"):
            await bluestreak.wait("w")
    assert await bank.balance() == 0


class Lagging(StoreWrapper):
    """Loses the answer to a commit, of which a majority knows when it confirms the next write."""

    is_behind = False

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        await super().transact(claim, step_id, fn, now)
        self.is_behind = True
        await asyncio.Event().wait()

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        self.is_behind = False
        return await super().renew(claims, now, lease)

    @override
    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        return None if self.is_behind else await super().find_step(workflow_id, step_id)


def test_what_is_committed_though_no_majority_knows_it_yet_is_not_a_timeout() -> None:
    async def handle(ctx: Context, input: None) -> str:
        async def book(session: MemorySession) -> str:
            return "booked"

        return await ctx.transaction("book", book)

    with Environment(worker_store=Lagging, max_failures=0) as env:
        assert env.run(handle).result == "booked"


def test_a_lease_that_a_transaction_has_used_up_is_renewed_right_after_it() -> None:
    with Environment(timeout_interval=9) as env:

        async def work(ctx: Context, input: None) -> str:
            await asyncio.sleep(5.9)
            await ctx.transaction("slow", pause, 4)
            await ctx.step("next", asyncio.sleep, 6)
            return "done"

        async def pause(session: MemorySession, seconds: float) -> None:
            await asyncio.sleep(seconds)

        outcome = env.run(work)
    assert (outcome.result, outcome.workflow.claims) == ("done", 1)


def test_a_transaction_begins_with_a_fresh_lease() -> None:
    """A workflow is claimed for the shortest of all leases, and its own may be longer."""

    async def pause(session: MemorySession) -> None:
        await asyncio.sleep(25)

    async def work(ctx: Context, input: None) -> str:
        await ctx.transaction("slow", pause)
        return "done"

    with Environment(timeout_interval=9) as env:
        env.register_handler("short", work)
        env.register_handler("long", work, timeout_interval=60)
        outcome = env.run("long")
    assert (outcome.result, outcome.workflow.claims, outcome.calls) == ("done", 1, ["slow"])


def test_a_transaction_is_cut_when_half_of_the_lease_is_over() -> None:
    took: list[timedelta] = []

    async def pause(session: MemorySession, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def work(ctx: Context, input: None) -> None:
        await ctx.transaction("in time", pause, 4.4)
        began = env.now
        with pytest.raises(StepTimeout, match=r"'too slow' took longer than 4.5 seconds"):
            await ctx.transaction("too slow", pause, 4.6)
        took.append(env.now - began)

    with Environment(timeout_interval=9, max_failures=0) as env:
        assert env.run(work).steps == {"in time": None}
    assert took == [4.5 * SECOND]


@pytest.mark.asyncio
async def test_nothing_is_booked_by_a_run_that_has_swallowed_that_it_is_to_leave(
    fleet: Fleet, bank: Bank
) -> None:
    bluestreak, inside = await fleet.engine(drain_timeout=0), asyncio.Event()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        with suppress(asyncio.CancelledError):
            inside.set()
            await asyncio.Event().wait()
        await ctx.transaction("book", bank.ledger.book, "ada", 1)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.status, bank.ledger.calls) == (Status.IDLE, 0)


# Inside the caller's transaction -----------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_start_in_a_transaction_is_there_when_that_is_committed(
    fleet: Fleet, bank: Bank, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return "done"

    async with fleet.polling(bluestreak):
        async with transaction(store) as session:
            await bank.ledger.book(session, "ada", 1)
            assert await bluestreak.start("w", "h", session=session)
            assert await bluestreak.find_workflow("w") is None
        assert await bluestreak.wait("w") == "done"
    assert await bank.balance() == 1


@pytest.mark.asyncio
async def test_nothing_is_started_or_cancelled_in_a_transaction_that_fails(
    fleet: Fleet, bank: Bank, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("v", "h")

    async def fail() -> None:
        async with transaction(store) as session:
            await bank.ledger.book(session, "ada", 1)
            await bluestreak.start("w", "h", session=session)
            await bluestreak.cancel("v", session=session)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await bluestreak.find_workflow("w") is None
    workflow = await bluestreak.find_workflow("v")
    assert workflow is not None
    assert workflow.status is Status.IDLE
    assert await bank.balance() == 0


@pytest.mark.asyncio
async def test_in_a_transaction_an_id_that_exists_is_false_and_the_rest_is_committed(
    fleet: Fleet, bank: Bank, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    async with transaction(store) as session:
        assert not await bluestreak.start("w", "h", session=session)
        assert await bluestreak.cancel("w", "why", session=session)
        await bank.ledger.book(session, "ada", 1)
    with pytest.raises(WorkflowCancelled, match="why"):
        await bluestreak.wait("w")
    assert await bank.balance() == 1


@pytest.mark.asyncio
async def test_a_strict_start_meets_what_the_same_transaction_has_started(
    fleet: Fleet, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine()
    async with transaction(store) as session:
        assert await bluestreak.start("w", "h", 1, session=session, strict=True)
        assert not await bluestreak.start("w", "h", 1, session=session, strict=True)
        with pytest.raises(WorkflowConflict, match="another input"):
            await bluestreak.start("w", "h", 2, session=session, strict=True)
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.input == 1


@pytest.mark.asyncio
async def test_what_is_moved_by_somebody_else_meanwhile_is_a_conflict_in_memory() -> None:
    store = MemoryStore()
    bluestreak = Bluestreak(store)
    await bluestreak.init()
    await bluestreak.start("v", "h")

    async def cancel() -> None:
        async with store.transaction() as session:
            assert await bluestreak.cancel("v", "in here", session=session)
            assert await bluestreak.cancel("v", "out there")

    with pytest.raises(StoreUnavailable, match="'v' was moved meanwhile"):
        await cancel()
    with pytest.raises(WorkflowCancelled, match="out there"):
        await bluestreak.wait("v")


@pytest.mark.asyncio
async def test_a_transaction_in_memory_that_fails_takes_nothing_from_a_run() -> None:
    store = MemoryStore()
    bluestreak = Bluestreak(store, max_failures=0)
    inside, go_on = asyncio.Event(), asyncio.Event()
    written: dict[str, int] = {}
    await bluestreak.init()

    async def write(session: MemorySession) -> None:
        session.set(written, "before", 1)
        inside.set()
        await go_on.wait()
        session.set(written, "after", 1)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.transaction("write", write)

    async def cancel_and_start() -> None:
        async with store.transaction() as session:
            await bluestreak.cancel("w", session=session)
            await bluestreak.start("other", "h", delay=3600, session=session)
            await bluestreak.start("other", "h", delay=3600)

    poll = asyncio.create_task(bluestreak.poll())
    await bluestreak.start("w", "h")
    await inside.wait()
    with pytest.raises(StoreUnavailable, match="'other' was created meanwhile"):
        await cancel_and_start()
    go_on.set()
    await bluestreak.wait("w")
    assert written == {"before": 1, "after": 1}
    bluestreak.stop()
    await poll


@pytest.mark.asyncio
async def test_a_commit_in_memory_that_fails_half_way_leaves_nothing() -> None:
    store = MemoryStore()
    bluestreak = Bluestreak(store)
    await bluestreak.init()
    await bluestreak.start("v", "h")

    async def start() -> None:
        async with store.transaction() as session:
            await bluestreak.cancel("v", session=session)
            await bluestreak.start("w", "h", session=session)
            await bluestreak.start("taken", "h", session=session)
            await bluestreak.start("taken", "h")

    with pytest.raises(StoreUnavailable, match="'taken' was created meanwhile"):
        await start()
    workflow = await bluestreak.find_workflow("v")
    assert workflow is not None
    assert workflow.status is Status.IDLE
    assert await bluestreak.find_workflow("w") is None


@pytest.mark.asyncio
async def test_what_is_no_session_under_way_is_refused(fleet: Fleet, store: RecordingStore) -> None:
    bluestreak = await fleet.engine()
    async with transaction(store) as session:
        pass
    for bad in (session, "session", 7, object()):
        with pytest.raises(InvalidArgument, match="session"):
            await bluestreak.start("w", "h", session=bad)
    assert await bluestreak.find_workflow("w") is None


def test_a_transaction_is_safe_wherever_it_crashes() -> None:
    balances: list[dict[str, int]] = []

    async def handle(ctx: Context, input: None) -> str:
        balance = balances[-1]

        async def book(session: MemorySession) -> int:
            session.set(balance, "ada", balance.get("ada", 0) + 1)
            return balance["ada"]

        booked = await ctx.transaction("book", book)
        return f"{booked} {await ctx.step('tell', lambda: 'told')}"

    sweep = crash_everywhere(handle, before_each=lambda: balances.append({}))
    assert sweep.outcome.result == "1 told"
    assert "just after store call 2, transact" in [str(point) for point in sweep.crashes]
    assert len(balances) > 1
    assert all(balance == {"ada": 1} for balance in balances)

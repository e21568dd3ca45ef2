"""A list, page by page, is all that is meant, sorted, whatever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypedDict

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient, MongoClient

from bluestreak_core import (
    Bluestreak,
    ErrorRecord,
    Failure,
    ListPosition,
    NewWorkflow,
    Order,
    Query,
    Status,
    Store,
    TransitionRefused,
    Workflow,
    WorkflowNotFound,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.store import ENDED
from bluestreak_core.testing import ManualClock
from bluestreak_core.testing.clock import START
from bluestreak_core.testing.contract.search import SearchingStore
from bluestreak_memory import MemoryStore
from bluestreak_mongo import MongoStore, listing
from tests.model.test_agreement import EXAMPLES
from tests.mongo.arrange import Sent

pytestmark = [pytest.mark.timeout(0 if EXAMPLES else 300), pytest.mark.usefixtures("unmeasured")]

SECOND = timedelta(seconds=1)
LATER = START + 100 * SECOND
ERROR = ErrorRecord(type="ValueError", message="no", traceback="")
IDS = [f"{first}{second}" for first in "aAé🐦" for second in ("", "1", "2", "é")]
HANDLERS = ["h", "H", "h2"]


class Asked(TypedDict):
    """The arguments of `list`, but for where it begins and ends."""

    status: set[Status] | None
    handler_id: str | None
    id_prefix: str | None
    created: tuple[Any, Any] | None
    order: Literal["newest", "oldest", "id"]


instants = st.integers(0, 5).map(lambda seconds: START + seconds * SECOND)
workflows = st.builds(
    NewWorkflow,
    workflow_id=st.sampled_from(IDS),
    handler_id=st.sampled_from(HANDLERS),
    input=st.none(),
    created_at=instants,
)
asked = st.fixed_dictionaries(
    {
        "status": st.none() | st.sets(st.sampled_from(Status), min_size=1),
        "handler_id": st.none() | st.sampled_from(HANDLERS),
        "id_prefix": st.none() | st.sampled_from(["a", "é", "🐦", "A1"]),
        "created": st.none() | st.tuples(st.none() | instants, st.none() | instants),
        "order": st.sampled_from(["newest", "oldest", "id"]),
    }
)
controls = st.tuples(
    st.sampled_from([Transition.CANCEL, Transition.PAUSE, Transition.RESUME, Transition.RETRY]),
    st.sampled_from(IDS),
)
runs = st.sampled_from(["claim", "finish", "fail", "abort"])
of_several_states = st.fixed_dictionaries(
    {
        "status": st.sets(st.sampled_from(Status), min_size=3),
        "handler_id": st.none(),
        "id_prefix": st.none(),
        "created": st.none(),
        "order": st.sampled_from(["newest", "oldest"]),
    }
)
changes = st.lists(workflows | controls | runs | st.just("prune"), max_size=6)
moves = st.lists(controls | runs, min_size=3, max_size=6)
one_of_each = st.tuples(
    *(
        st.builds(
            NewWorkflow,
            workflow_id=st.just(one),
            handler_id=st.just("h"),
            input=st.none(),
            created_at=instants,
        )
        for one in IDS
    )
)


class Run:
    """One list, with changes in between; and what there was all the time."""

    def __init__(self, store: SearchingStore, arguments: Asked) -> None:
        self.store = store
        self.arguments = arguments
        self.always: dict[str, ListPosition] = {}
        self.ever: dict[str, ListPosition] = {}
        from_, until = arguments["created"] or (None, None)
        self.query = Query(
            statuses=None if arguments["status"] is None else frozenset(arguments["status"]),
            handler_id=arguments["handler_id"],
            id_prefix=arguments["id_prefix"],
            created_from=from_,
            created_until=until,
            order=Order(arguments["order"]),
        )

    async def meant(self) -> dict[str, ListPosition]:
        """What there is and is meant now."""
        found: list[Workflow | None] = await asyncio.gather(*map(self.store.find_workflow, IDS))
        return {
            one.workflow_id: ListPosition.of(one)
            for one in found
            if one is not None and self.query.accepts(one)
        }

    async def change(self, change: Any) -> None:
        try:
            match change:
                case NewWorkflow():
                    await self.store.create(change)
                case "prune":
                    await self.store.prune(LATER + SECOND, ENDED, 100, LATER)
                case str():
                    await self.run(change)
                case (event, workflow_id):
                    await self.store.control(workflow_id, event, START)
        except (TransitionRefused, WorkflowNotFound):
            pass

    async def run(self, outcome: str) -> None:
        """Claim something, and end the claim unless that is all."""
        for claim in await self.store.claim(
            ClaimRequest(worker="worker", now=LATER, lease=SECOND, limit=1)
        ):
            if outcome == "finish":
                await self.store.finish(claim, None, LATER)
            elif outcome != "claim":
                retry_at = LATER if outcome == "fail" else None
                await self.store.fail(claim, Failure(error=ERROR, retry_at=retry_at), LATER)

    async def begin(self, changes: list[Any]) -> None:
        for change in changes:
            await self.change(change)
        self.always = self.ever = await self.meant()

    async def happen(self, changes: list[Any]) -> None:
        for change in changes:
            await self.change(change)
            now = await self.meant()
            self.always = {one: at for one, at in self.always.items() if now.get(one) == at}
            self.ever = self.ever | now

    async def pages(self, store: Store, size: int) -> AsyncIterator[list[ListPosition]]:
        """The whole list, as it is shown page by page."""
        bluestreak = Bluestreak(store)
        await bluestreak.init()
        after = None
        while page := [
            one async for one in bluestreak.list(**self.arguments, limit=size, after=after)
        ]:
            yield [ListPosition.of(one) for one in page]
            after = page[-1].cursor

    def judge(self, listed: list[ListPosition]) -> None:
        keys = [position.key(self.query.order) for position in listed]
        assert keys == sorted(set(keys), reverse=self.query.order is Order.NEWEST)
        assert set(self.always.values()) <= set(listed)
        if self.always == self.ever:
            assert set(listed) == set(self.always.values())

    async def check(self, begin: list[Any], size: int, meanwhile: list[list[Any]]) -> None:
        """Let each of the changes happen between two pages."""
        await self.begin(begin)
        listed: list[ListPosition] = []
        async for page in self.pages(self.store, size):
            listed += page
            await self.happen(meanwhile.pop() if meanwhile else [])
        self.judge(listed)


Opener = Callable[[], Awaitable[SearchingStore]]


@pytest.fixture(params=["memory", pytest.param("mongo", marks=pytest.mark.server)])
def opener(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Opener]:
    """Gives an empty store at each call."""
    if request.param == "memory":
        yield _memory
        return
    url: str = request.getfixturevalue("mongodb_url")
    name: str = request.getfixturevalue("empty_database")
    raw: MongoClient[dict[str, Any]] = request.getfixturevalue("mongodb")
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    store = MongoStore.from_database(client[name], clock=ManualClock())

    async def mongo() -> SearchingStore:
        await store.init()
        raw[name].workflows.delete_many({})
        return store

    yield mongo
    runner.run(client.close())


async def _memory() -> SearchingStore:
    return MemoryStore(clock=ManualClock())


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.parametrize("few", [1, 3, listing.FEW])
def test_a_list_is_all_that_is_meant_in_order_whatever_happens_meanwhile(
    opener: Opener, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(listing, "FEW", few)

    async def check(*of_run: Any, arguments: Asked) -> None:
        await Run(await opener(), arguments).check(*of_run)

    @settings(
        max_examples=EXAMPLES or 40,
        derandomize=not EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        begin=st.lists(workflows | controls | runs, max_size=25),
        size=st.integers(1, 4),
        meanwhile=st.lists(changes, max_size=4),
        arguments=asked,
    )
    def each(begin: Any, size: int, meanwhile: Any, arguments: Asked) -> None:
        runner.run(check(begin, size, list(meanwhile), arguments=arguments))

    each()


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """A store whose commands are seen, and another one, as of another process."""

    store: MongoStore
    sent: Sent
    other: MongoStore
    elsewhere: Callable[[Coroutine[Any, Any, None]], None]
    """Runs something in another thread, while this one does nothing."""

    empty: Callable[[], object]


@pytest.fixture
def apart(
    mongodb_url: str,
    mongodb: MongoClient[dict[str, Any]],
    empty_database: str,
    runner: asyncio.Runner,
) -> Iterator[Apart]:
    sent = Sent()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url, event_listeners=[sent])
    store = MongoStore.from_database(client[empty_database], clock=ManualClock())
    runner.run(store.init())
    with ThreadPoolExecutor(1) as thread:
        there = asyncio.Runner()
        apart = Apart(
            store=store,
            sent=sent,
            other=MongoStore(mongodb_url, database=empty_database, clock=ManualClock()),
            elsewhere=lambda coroutine: thread.submit(there.run, coroutine).result(),
            empty=lambda: mongodb[empty_database].workflows.delete_many({}),
        )
        apart.elsewhere(apart.other.init())
        yield apart
        apart.elsewhere(apart.other.close())
        thread.submit(there.close).result()
    runner.run(client.close())


@pytest.mark.server
@pytest.mark.parametrize("few", [1, listing.FEW])
def test_a_list_is_all_that_is_meant_in_order_whatever_happens_between_commands(
    apart: Apart, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(listing, "FEW", few)

    async def check(run: Run, size: int, meanwhile: list[list[Any]]) -> None:
        def interrupt() -> None:
            if meanwhile:
                apart.elsewhere(run.happen(meanwhile.pop()))
                apart.sent.before.update(find=interrupt, aggregate=interrupt)

        interrupt()
        run.judge([one async for page in run.pages(apart.store, size) for one in page])
        apart.sent.before.clear()

    @settings(
        max_examples=EXAMPLES or 8,
        phases=list(Phase) if EXAMPLES else [Phase.generate],  # to shrink takes minutes
        derandomize=not EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        begin=st.builds(lambda news, after: [*news, *after], one_of_each, moves),
        size=st.integers(1, 10),
        meanwhile=st.lists(moves, min_size=4, max_size=6),
        arguments=of_several_states,
    )
    def each(begin: Any, size: int, meanwhile: Any, arguments: Asked) -> None:
        apart.empty()
        run = Run(apart.other, arguments)
        apart.elsewhere(run.begin(begin))
        runner.run(check(run, size, list(meanwhile)))

    each()

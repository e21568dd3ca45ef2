"""A list, page by page, is all that is meant, sorted, whatever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any, Literal, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import AsyncMongoClient, MongoClient

from bluestreak_core import (
    Bluestreak,
    NewWorkflow,
    Order,
    Position,
    Query,
    Status,
    Store,
    TransitionRefused,
    Workflow,
    WorkflowNotFound,
)
from bluestreak_core.machine import Event
from bluestreak_core.query import ENDED
from bluestreak_core.testing import ManualClock
from bluestreak_core.testing.clock import START
from bluestreak_memory import MemoryStore
from bluestreak_mongo import MongoStore, listing
from tests.model.test_agreement import EXAMPLES

pytestmark = pytest.mark.timeout(0 if EXAMPLES else 120)

SECOND = timedelta(seconds=1)
LATER = START + 100 * SECOND
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
    st.sampled_from([Event.CANCEL, Event.PAUSE, Event.RESUME, Event.RETRY]), st.sampled_from(IDS)
)
changes = st.lists(workflows | controls | st.just("prune"), max_size=6)


class Run:
    """One list, with changes in between; and what there was all the time."""

    def __init__(self, store: Store, arguments: Asked) -> None:
        self.store = store
        self.arguments = arguments
        from_, until = arguments["created"] or (None, None)
        self.query = Query(
            statuses=None if arguments["status"] is None else frozenset(arguments["status"]),
            handler_id=arguments["handler_id"],
            id_prefix=arguments["id_prefix"],
            created_from=from_,
            created_until=until,
            order=Order(arguments["order"]),
        )

    async def meant(self) -> dict[str, Position]:
        """What there is and is meant now."""
        found: list[Workflow | None] = [await self.store.find_workflow(one) for one in IDS]
        return {
            one.workflow_id: Position.of(one)
            for one in found
            if one is not None and self.query.accepts(one)
        }

    async def change(self, change: Any) -> None:
        try:
            if isinstance(change, NewWorkflow):
                await self.store.create(change)
            elif change == "prune":
                await Bluestreak.prune(await self.engine(), ended_before=LATER, statuses=ENDED)
            else:
                event, workflow_id = change
                await self.store.control(workflow_id, event, START)
        except (TransitionRefused, WorkflowNotFound):
            pass

    async def engine(self) -> Bluestreak:
        bluestreak = Bluestreak(self.store)
        await bluestreak.init()
        return bluestreak

    async def check(self, begin: list[Any], size: int, meanwhile: list[list[Any]]) -> None:
        for change in begin:
            await self.change(change)
        bluestreak = await self.engine()
        always = ever = await self.meant()
        listed: list[Position] = []
        after = None
        while page := [
            one async for one in bluestreak.list(**self.arguments, limit=size, after=after)
        ]:
            listed += [Position.of(one) for one in page]
            after = page[-1].cursor
            for change in meanwhile.pop() if meanwhile else []:
                await self.change(change)
                now = await self.meant()
                always = {one: at for one, at in always.items() if now.get(one) == at}
                ever = ever | now
        keys = [position.key(self.query.order) for position in listed]
        assert keys == sorted(set(keys), reverse=self.query.order is Order.NEWEST)
        assert set(always.values()) <= set(listed)
        if always == ever:
            assert set(listed) == set(always.values())


Opener = Callable[[], Awaitable[Store]]


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

    async def mongo() -> Store:
        await store.init()
        raw[name].workflows.delete_many({})
        return store

    yield mongo
    runner.run(client.close())


async def _memory() -> Store:
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
        max_examples=EXAMPLES or 60,
        derandomize=not EXAMPLES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        begin=st.lists(workflows | controls, max_size=25),
        size=st.integers(1, 4),
        meanwhile=st.lists(changes, max_size=4),
        arguments=asked,
    )
    def each(begin: Any, size: int, meanwhile: Any, arguments: Asked) -> None:
        runner.run(check(begin, size, list(meanwhile), arguments=arguments))

    each()

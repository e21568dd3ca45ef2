"""What the server does for a search, as it explains it: little more than is returned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database

from bluestreak_core import Bluestreak, CountBy, ListPosition, Order, Query, Status
from bluestreak_core.store import ENDED
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore, listing
from tests.mongo.arrange import NOW, SECOND, Document, Sent
from tests.mongo.explain import explained, stages

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.usefixtures("unmeasured")]

COUNT = 20_000
RARE = 40
"""How many there are of each rare kind."""

LIMIT = 10
DAY = timedelta(days=1)


def _status(number: int) -> str:
    """One in 500 is rare, of five kinds; the rest has finished, but for a tenth, which waits."""
    kinds = ("failed", "aborted", "paused", "cancelled", "running")
    if number % 500 < len(kinds):
        return kinds[number % 500]
    return "idle" if number % 10 == 9 else "finished"


def _document(number: int) -> Document:
    """Each is created a second after the one before; one in 500 is of a rare handler."""
    status = _status(number)
    waits = {"waitingFor": ["paid", "refused"]} if status == "idle" and number % 100 == 99 else {}
    parent = {"workflowId": f"parent-{number % 3}", "createdAt": NOW, "onEnd": "cancel"}
    family = {"parent": parent, "unsettled": True} if number % 50 >= 25 else {}
    return {
        **waits,
        **family,
        "workflowId": f"{'rare' if number % 500 == 77 else 'order'}-{number:05}",
        "handlerId": "rare" if number % 500 == 50 else "common",
        "input": "x" * 200,
        "failures": 0,
        "status": status,
        "timeoutAt": NOW + number * SECOND,
        "createdAt": NOW + number * SECOND,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """A database with many workflows, and what is sent to it."""

    store: MongoStore
    raw: Database[Document]
    sent: Sent


@pytest.fixture(scope="module")
def stored(mongodb: MongoClient[Document], mongodb_url: str) -> Iterator[str]:
    name = f"test-{uuid4().hex[:12]}"
    asyncio.run(_init(mongodb_url, name))
    mongodb[name].workflows.insert_many(map(_document, range(COUNT)))
    yield name
    mongodb.drop_database(name)


async def _init(url: str, name: str) -> None:
    store = MongoStore(url, database=name)
    await store.init()
    await store.close()


@pytest_asyncio.fixture
async def large(stored: str, mongodb_url: str, mongodb: MongoClient[Document]) -> Any:
    sent = Sent()
    async with AsyncMongoClient[Document](mongodb_url, event_listeners=[sent]) as client:
        store = MongoStore.from_database(client[stored], clock=ManualClock())
        await store.init()
        sent.commands.clear()
        yield Large(store=store, raw=mongodb[stored], sent=sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the server has looked at for all commands of a call."""

    keys: int = 0
    documents: int = 0
    stages: set[str] = field(default_factory=set)


def cost(large: Large) -> Cost:
    """Asked of the commands that have been sent since the last time."""
    keys = documents = 0
    met: set[str] = set()
    for command in large.sent.named("find", "aggregate"):
        explanation = explained(large.raw, command)
        met |= stages(explanation)
        for statistics in _statistics(explanation):
            keys += statistics["totalKeysExamined"]
            documents += statistics["totalDocsExamined"]
    large.sent.commands.clear()
    return Cost(keys=keys, documents=documents, stages=met)


def _statistics(explanation: Document) -> Iterator[Document]:
    if "executionStats" in explanation:
        yield explanation["executionStats"]
    for stage in explanation.get("stages", ()):
        if "$cursor" in stage:
            yield stage["$cursor"]["executionStats"]


MIDDLE = ListPosition(workflow_id="order-10000", created_at=NOW + 10_000 * SECOND)
IN_TIME = (Order.NEWEST, Order.OLDEST)
RARE_STATUSES = (Status.FAILED, Status.ABORTED, Status.PAUSED, Status.CANCELLED)
ALL_RARE = frozenset(RARE_STATUSES)

# As many keys and documents as there are in the page, and one key more for each stretch.
EXACT: dict[str, Query] = {
    **{f"all, {order}": Query(order=order) for order in Order},
    **{f"handler, {order}": Query(handler_id="common", order=order) for order in IN_TIME},
    **{
        f"{status}, {order}": Query(statuses=frozenset({status}), order=order)
        for status in RARE_STATUSES
        for order in IN_TIME
    },
    **{f"waiting, {order}": Query(waiting_for="paid", order=order) for order in IN_TIME},
    **{f"parent, {order}": Query(parent="parent-0", order=order) for order in IN_TIME},
    **{
        f"created, {order}": Query(
            created_from=NOW + 5000 * SECOND, created_until=NOW + 15_000 * SECOND, order=order
        )
        for order in IN_TIME
    },
    "handler and created": Query(handler_id="common", created_from=NOW + 9000 * SECOND),
    "aborted and created": Query(
        statuses=frozenset({Status.ABORTED}), created_from=NOW + 1000 * SECOND
    ),
    "prefix": Query(id_prefix="order-1", order=Order.ID),
}


@pytest.mark.parametrize("after", [None, MIDDLE], ids=["first page", "next page"])
@pytest.mark.parametrize("name", EXACT)
async def test_a_page_of_what_an_index_holds_costs_what_is_in_it(
    large: Large, name: str, after: ListPosition | None
) -> None:
    page = await large.store.find_page(EXACT[name], after, LIMIT)
    assert len(page) == LIMIT
    spent = cost(large)
    assert spent.stages.isdisjoint({"COLLSCAN", "SORT"})
    assert spent.documents <= LIMIT
    assert spent.keys <= LIMIT + 2


async def test_live_children_are_found_by_an_index(large: Large) -> None:
    """As many documents are looked at as the parent has children, whatever has become of them."""
    found = await large.store.find_children("parent-0", NOW, 10_000)
    spent = cost(large)
    assert spent.stages.isdisjoint({"COLLSCAN", "SORT"})
    children = {"parent.workflowId": "parent-0"}
    assert spent.documents == large.raw.workflows.count_documents(children)
    live = {"status": {"$nin": ["finished", "aborted", "cancelled"]}}
    assert len(found) == large.raw.workflows.count_documents(children | live)


async def test_what_is_unsettled_is_found_by_an_index(large: Large) -> None:
    found = await large.store.find_unsettled(LIMIT)
    spent = cost(large)
    assert spent.stages.isdisjoint({"COLLSCAN", "SORT"})
    assert len(found) == spent.documents == LIMIT
    assert spent.keys <= LIMIT + 3


RARELY: dict[str, Query] = {
    **{
        f"running, {order}": Query(statuses=frozenset({Status.RUNNING}), order=order)
        for order in Order
    },
    **{f"rare handler, {order}": Query(handler_id="rare", order=order) for order in Order},
    **{f"rare prefix, {order}": Query(id_prefix="rare-", order=order) for order in Order},
    **{
        f"{status} by id": Query(statuses=frozenset({status}), order=Order.ID)
        for status in RARE_STATUSES
    },
    "running or aborted": Query(statuses=frozenset({Status.RUNNING, Status.ABORTED})),
    "rare handler, finished": Query(statuses=frozenset({Status.FINISHED}), handler_id="rare"),
    "rare prefix, finished": Query(statuses=frozenset({Status.FINISHED}), id_prefix="rare-"),
    "aborted, common prefix": Query(statuses=frozenset({Status.ABORTED}), id_prefix="order-"),
    "running, common handler": Query(statuses=frozenset({Status.RUNNING}), handler_id="common"),
    "a minute of finished": Query(
        statuses=frozenset({Status.FINISHED}),
        created_from=NOW + 9000 * SECOND,
        created_until=NOW + 9040 * SECOND,
    ),
}


@pytest.mark.parametrize("name", RARELY)
async def test_a_page_of_what_is_rare_costs_as_much_as_there_is_of_it(
    large: Large, name: str
) -> None:
    query = RARELY[name]
    page = await large.store.find_page(query, None, LIMIT)
    assert len(page) == LIMIT
    probes = large.sent.named("aggregate")
    spent = cost(large)
    assert "COLLSCAN" not in spent.stages
    assert spent.documents <= RARE * len(query.statuses or "1")
    assert spent.keys <= 4 * RARE + len(probes) * listing.FEW


HOUR = Query(created_from=NOW + 9000 * SECOND, created_until=NOW + 12_600 * SECOND)

# What is rare is a stretch of the index that has the order.
WALKED: dict[str, Query] = {
    **{
        f"an hour of finished, {order}": replace(
            HOUR, statuses=frozenset({Status.FINISHED}), order=order
        )
        for order in IN_TIME
    },
    "an hour of finished or aborted": replace(
        HOUR, statuses=frozenset({Status.FINISHED, Status.ABORTED})
    ),
    "an hour of a handler and a prefix": replace(
        HOUR, handler_id="common", id_prefix="order-", order=Order.OLDEST
    ),
    **{
        f"aborted, common handler, {order}": Query(
            statuses=frozenset({Status.ABORTED}), handler_id="common", order=order
        )
        for order in IN_TIME
    },
    "rare handler, common prefix": Query(handler_id="rare", id_prefix="order-"),
    "rare prefix, common handler, by id": Query(
        handler_id="common", id_prefix="rare-", order=Order.ID
    ),
}


@pytest.mark.parametrize("name", WALKED)
async def test_what_is_rare_and_in_order_is_not_sorted_and_costs_the_page(
    large: Large, name: str
) -> None:
    page = await large.store.find_page(WALKED[name], None, LIMIT)
    assert len(page) == LIMIT
    spent = cost(large)
    assert spent.stages.isdisjoint({"COLLSCAN", "SORT"})
    assert spent.documents <= 2 * LIMIT


@pytest.mark.parametrize("handler_id", [None, "common"])
async def test_what_most_are_is_found_among_all(large: Large, handler_id: str | None) -> None:
    query = Query(statuses=frozenset({Status.FINISHED}), handler_id=handler_id)
    for after in (None, MIDDLE):
        assert len(await large.store.find_page(query, after, LIMIT)) == LIMIT
        spent = cost(large)
        assert spent.stages.isdisjoint({"COLLSCAN", "SORT"})
        assert spent.documents <= 2 * LIMIT


SEVERAL: dict[str, Query] = {
    **{f"all, {order}": Query(statuses=ALL_RARE, order=order) for order in IN_TIME},
    "two": Query(statuses=frozenset({Status.FAILED, Status.ABORTED})),
    "created": Query(statuses=ALL_RARE, created_from=NOW + 1000 * SECOND),
}


@pytest.mark.parametrize("after", [None, MIDDLE], ids=["first page", "next page"])
@pytest.mark.parametrize("name", SEVERAL)
async def test_several_rare_states_are_merged_by_the_server(
    large: Large, name: str, after: ListPosition | None
) -> None:
    query = SEVERAL[name]
    page = await large.store.find_page(query, after, LIMIT)
    assert len(page) == LIMIT
    assert frozenset(summary.status for summary in page) == query.statuses
    stretches = len(query.statuses or ()) * len(large.sent.named("find"))
    spent = cost(large)
    assert "SORT_MERGE" in spent.stages
    assert spent.stages.isdisjoint({"COLLSCAN", "SORT"})
    assert spent.documents <= LIMIT + len(ALL_RARE)
    assert spent.keys <= LIMIT + 2 * stretches


async def test_what_cannot_move_is_not_read_in_a_snapshot(large: Large) -> None:
    for query in (EXACT | WALKED).values():
        await large.store.find_page(query, MIDDLE, LIMIT)
    looks = large.sent.named("find", "aggregate")
    assert {look["readConcern"]["level"] for look in looks} == {"majority"}


async def test_what_does_not_exist_costs_nothing(large: Large) -> None:
    for query in (
        Query(handler_id="nobody"),
        Query(id_prefix="nothing"),
        Query(statuses=frozenset({Status.ABORTED}), created_from=NOW + 30 * DAY),
        Query(created_until=NOW),
    ):
        assert list(await large.store.find_page(query, None, LIMIT)) == []
        spent = cost(large)
        assert (spent.documents, "COLLSCAN" in spent.stages) == (0, False)
        assert spent.keys <= 2


@pytest.mark.parametrize("by", CountBy)
async def test_a_count_reads_an_index_and_no_document(large: Large, by: CountBy) -> None:
    assert sum((await large.store.count(by)).values()) == COUNT
    spent = cost(large)
    assert spent.documents == 0
    assert spent.stages.isdisjoint({"COLLSCAN", "FETCH"})


async def test_a_timeline_costs_what_the_workflow_has(large: Large) -> None:
    bluestreak = Bluestreak(large.store)
    await bluestreak.init()
    large.sent.commands.clear()
    await bluestreak.describe("order-00007")
    spent = cost(large)
    assert spent.stages.isdisjoint({"COLLSCAN", "SORT"})
    assert spent.documents <= 3  # the workflow, once more for its records, and at last


async def test_to_look_for_what_may_be_deleted_costs_what_is_deleted(large: Large) -> None:
    cancelled = await large.store.prune(NOW + 5000 * SECOND, [Status.CANCELLED], LIMIT, NOW)
    assert cancelled.workflows == 10
    spent = cost(large)
    assert spent.stages.isdisjoint({"COLLSCAN", "SORT"})
    assert spent.documents <= 10
    assert (await large.store.prune(NOW, ENDED, LIMIT, NOW)).workflows == 0
    spent = cost(large)
    assert (spent.documents, "COLLSCAN" in spent.stages) == (0, False)
    large.raw.workflows.insert_many(
        _document(number) for number in range(5000) if _status(number) == "cancelled"
    )


async def test_no_search_loads_an_input_or_a_result(large: Large) -> None:
    for query in (Query(), Query(statuses=frozenset({Status.RUNNING}))):
        await large.store.find_page(query, None, LIMIT)
    shown: list[Document] = [look["projection"] for look in large.sent.named("find")]
    for look in large.sent.named("aggregate"):
        shown += [stage["$project"] for stage in look["pipeline"] if "$project" in stage]
    assert len(shown) == 2
    for fields in shown:
        assert not {"input", "result", "claimLog", "failedSteps", "error"} & set(fields)
        assert set(fields.values()) == {1}

"""Listing, counting and describing workflows."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from bluestreak_core import (
    Attempt,
    Bluestreak,
    Context,
    ErrorRecord,
    EventKind,
    FailedStep,
    Failure,
    InvalidArgument,
    Message,
    NewWorkflow,
    NotInitialised,
    Query,
    Status,
    Store,
    Timeline,
    Unsupported,
    WorkflowAborted,
    WorkflowNotFound,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_memory import MemoryStore
from tests.engine.arrange import Bare, Fleet, listed
from tests.engine.bad_input import (
    BAD_COUNTS,
    BAD_CURSORS,
    BAD_IDS,
    BAD_INSTANTS,
    BAD_STATUSES,
)

pytestmark = pytest.mark.asyncio

SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
LEASE = 10 * SECOND
ERROR = ErrorRecord(type="ValueError", message="no such card", traceback="Traceback: ...")
PAID = Message("paid")
PAGES = 450
"""More than two pages of workflows."""


async def many(store: Store, count: int = PAGES) -> list[str]:
    """So many workflows, of which five at a time are created at the same instant."""
    now = store.clock.now()
    ids = [f"w{number:03}" for number in range(count)]
    await store.create_many(
        [
            NewWorkflow(
                workflow_id=workflow_id,
                handler_id=f"h{number % 2}",
                input=None,
                created_at=now + number // 5 * SECOND,
            )
            for number, workflow_id in enumerate(ids)
        ]
    )
    return ids


async def waiting(fleet: Fleet) -> Bluestreak:
    """An engine with a workflow that is parked until a message comes, and one that is due."""
    bluestreak = await fleet.engine(park_after=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.receive("get", PAID, timeout=3600)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    await bluestreak.start("v", "h")
    return bluestreak


# Messages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [PAID, "paid"], ids=["declared", "name"])
async def test_what_waits_for_a_message_is_listed(
    fleet: Fleet, message: Message[Any] | str
) -> None:
    bluestreak = await waiting(fleet)
    (found,) = [summary async for summary in bluestreak.list(waiting_for=message)]
    assert (found.workflow_id, found.waiting_for) == ("w", ("paid",))
    assert await listed(bluestreak.list(waiting_for="refused")) == []
    await bluestreak.send("w", PAID, 500)
    assert await listed(bluestreak.list(waiting_for=message)) == []


async def test_a_description_shows_what_a_workflow_waits_for_and_what_it_has_received(
    fleet: Fleet,
) -> None:
    bluestreak = await waiting(fleet)
    lines = str(await bluestreak.describe("w")).splitlines()
    assert lines[0].endswith(": waiting for 'paid' until 2030-01-01 01:00:00.000Z")
    assert lines[-1].endswith("wait 'get' until 2030-01-01 01:00:00.000Z")
    await bluestreak.send("w", PAID, 500)
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == 500
    described = await bluestreak.describe("w")
    assert EventKind.RECEIVED in {event.kind for event in described.events}
    assert any(line.endswith("received 'get': 'paid', 500") for line in str(described).splitlines())


async def test_a_description_shows_that_no_message_came_in_time(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await waiting(fleet)
    clock.advance(3600 * SECOND)
    async with fleet.polling(bluestreak):
        with pytest.raises(WorkflowAborted, match="MessageTimeout"):
            await bluestreak.wait("w")
    lines = str(await bluestreak.describe("w")).splitlines()
    assert any(line.endswith("received 'get': nothing in time") for line in lines)


# Listing -----------------------------------------------------------------------------------------


async def test_all_workflows_are_listed_the_newest_first(
    store: RecordingStore, fleet: Fleet
) -> None:
    bluestreak = await fleet.engine()
    assert await listed(bluestreak.list()) == []
    ids = await many(store)
    assert await listed(bluestreak.list()) == ids[::-1]
    assert await listed(bluestreak.list(order="newest")) == ids[::-1]
    assert await listed(bluestreak.list(order="oldest")) == ids
    assert await listed(bluestreak.list(order="id")) == ids


async def test_with_a_prefix_the_order_is_by_id_unless_it_is_given(
    store: RecordingStore, fleet: Fleet
) -> None:
    bluestreak = await fleet.engine()
    ids = await many(store)
    assert await listed(bluestreak.list(id_prefix="w2")) == ids[200:300]
    newest = await listed(bluestreak.list(id_prefix="w2", order="newest"))
    assert newest == ids[200:300][::-1]


async def test_what_is_listed_fulfils_all_that_is_asked(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    ids = await many(store)
    begin = clock.now()
    for workflow_id in ids[:20]:
        await store.control(workflow_id, Transition.CANCEL, begin)
    for status in (Status.CANCELLED, "cancelled", ["cancelled"], {"cancelled", Status.FAILED}):
        found = await listed(bluestreak.list(status=status, handler_id="h0"))
        assert found == ids[:20:2][::-1]
    created = (begin + SECOND, begin + 3 * SECOND)
    assert await listed(bluestreak.list(created=created, order="oldest")) == ids[5:15]
    assert await listed(bluestreak.list(created=(None, begin + SECOND), order="id")) == ids[:5]
    assert await listed(bluestreak.list(created=(begin + 89 * SECOND, None))) == ids[:444:-1]
    assert await listed(bluestreak.list(created=(None, None), limit=1)) == ids[-1:]
    assert await listed(bluestreak.list(status="idle", created=created, handler_id="h1")) == []
    assert await listed(bluestreak.list(id_prefix="w01", handler_id="h1")) == ids[11:20:2]


async def test_bounds_of_when_it_was_created_are_as_fine_as_they_are_given(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    begin = clock.now()
    for number in range(3):
        await store.create(
            NewWorkflow(
                workflow_id=f"w{number}",
                handler_id="h",
                input=None,
                created_at=begin + number * MILLISECOND,
            )
        )
    for between in (begin + MILLISECOND / 1000, begin + MILLISECOND / 2, begin + MILLISECOND):
        local = between.astimezone(timezone(timedelta(hours=5, microseconds=7)))
        for bound in (between, local):
            assert await listed(bluestreak.list(created=(bound, None))) == ["w2", "w1"]
            assert await listed(bluestreak.list(created=(None, bound))) == ["w0"]
    always = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    assert len(await listed(bluestreak.list(created=always))) == 3


ONE = {"cancelled": 1}
COLLECTIONS: dict[str, Collection[str]] = {
    "list": ["cancelled", Status.CANCELLED],
    "tuple": ("cancelled",),
    "frozenset": frozenset({"cancelled"}),
    "keys": ONE.keys(),
    "values": {1: "cancelled"}.values(),
    "deque": deque(["cancelled"]),
}


@pytest.mark.parametrize("name", COLLECTIONS)
async def test_states_are_given_in_any_collection(
    store: RecordingStore, fleet: Fleet, clock: ManualClock, name: str
) -> None:
    bluestreak = await fleet.engine()
    await many(store, 2)
    await store.control("w001", Transition.CANCEL, clock.now())
    assert await listed(bluestreak.list(status=COLLECTIONS[name])) == ["w001"]
    every: Any = Status  # a collection of states, though not to a type checker
    assert await listed(bluestreak.list(status=every)) == ["w001", "w000"]
    later = clock.now() + SECOND
    pruned = await bluestreak.prune(ended_before=later, statuses=COLLECTIONS[name])
    assert pruned.workflows == 1


@pytest.mark.parametrize(
    "bad", [deque(), {}.keys(), Counter(["idle"]), b"idle", bytearray(b"idle"), range(2)], ids=repr
)
async def test_no_states_at_all_are_refused_in_any_collection(fleet: Fleet, bad: Any) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(InvalidArgument, match=r"^status .*expected one or several of idle, "):
        bluestreak.list(status=bad)


async def test_what_is_marked_for_deletion_is_never_meant(fleet: Fleet, clock: ManualClock) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert Query().accepts(workflow)
    assert not Query().accepts(replace(workflow, pruned_at=clock.now()))


@pytest.mark.parametrize("limit", [0, 1, 199, 200, 201, PAGES, 1000])
async def test_no_more_than_the_limit_are_listed(
    store: RecordingStore, fleet: Fleet, limit: int
) -> None:
    bluestreak = await fleet.engine()
    ids = await many(store)
    assert await listed(bluestreak.list(order="id", limit=limit)) == ids[:limit]


@pytest.mark.parametrize("order", ["newest", "oldest", "id"])
async def test_a_list_goes_on_behind_a_cursor(
    store: RecordingStore, fleet: Fleet, order: Any
) -> None:
    bluestreak = await fleet.engine()
    await many(store, 25)
    whole = await listed(bluestreak.list(order=order))
    after, found = None, []
    while page := [summary async for summary in bluestreak.list(order=order, limit=4, after=after)]:
        found += [summary.workflow_id for summary in page]
        after = page[-1].cursor
    assert found == whole


async def test_a_cursor_outlives_what_it_points_to(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    ids = await many(store, 10)
    *_, last = [summary async for summary in bluestreak.list(order="oldest", limit=3)]
    for workflow_id in ids[:4]:
        await store.control(workflow_id, Transition.CANCEL, clock.now())
    assert (await bluestreak.prune(ended_before=clock.now() + SECOND)).workflows == 4
    assert await listed(bluestreak.list(order="oldest", after=last.cursor)) == ids[4:]


async def test_a_list_costs_a_call_a_page_and_nothing_before_it_is_iterated_over(
    store: RecordingStore, fleet: Fleet
) -> None:
    bluestreak = await fleet.engine()
    await many(store)
    summaries = bluestreak.list(limit=400)
    assert store.begun["find_page"] == 0
    await anext(summaries)
    assert store.begun["find_page"] == 1
    assert len(await listed(summaries)) == 399
    assert store.begun["find_page"] == 2


async def test_a_summary_has_no_values(fleet: Fleet, store: RecordingStore) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h", {"secret": 1})
    (summary,) = [summary async for summary in bluestreak.list()]
    assert (summary.workflow_id, summary.handler_id, summary.status) == ("w", "h", Status.IDLE)
    assert "secret" not in repr(summary)
    assert not hasattr(summary, "input")


# Counting ----------------------------------------------------------------------------------------


async def test_workflows_are_counted_by_status_and_by_handler(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    nothing = dict.fromkeys(Status, 0)
    assert await bluestreak.count() == nothing
    assert await bluestreak.count("handler_id") == {}
    ids = await many(store, 7)
    await store.control(ids[0], Transition.CANCEL, clock.now())
    assert await bluestreak.count(by="status") == nothing | {"idle": 6, "cancelled": 1}
    assert list((await bluestreak.count("handler_id")).items()) == [("h0", 4), ("h1", 3)]


# Describing --------------------------------------------------------------------------------------


async def lived(store: Store, clock: ManualClock) -> None:
    """A workflow that has crashed, failed, been tried again, and was aborted in the end."""
    begin = clock.now()
    await store.create(
        NewWorkflow(workflow_id="w", handler_id="h", input={"n": 1}, created_at=begin)
    )
    await store.claim(ClaimRequest(worker="worker-1", now=begin + SECOND, lease=LEASE, limit=1))
    later = begin + 20 * SECOND
    (claim,) = await store.claim(ClaimRequest(worker="worker-2", now=later, lease=LEASE, limit=1))
    await store.save_step(claim, "reserve", {"seat": 7}, later + SECOND)
    await store.save_nap(claim, "think", later + 60 * SECOND, later + 2 * SECOND)
    await store.save_attempt(
        claim,
        Attempt(
            workflow_id="w",
            step_id="pay",
            round=0,
            number=1,
            error=ERROR,
            retry_at=None,
            saved_at=later + 3 * SECOND,
        ),
    )
    failed = FailedStep(step_id="pay", error=ERROR, attempts=1, failed_at=later + 4 * SECOND)
    await store.fail_step(claim, failed)
    await store.fail(claim, Failure(error=ERROR, retry_at=None), later + 5 * SECOND)


async def test_a_timeline_shows_all_that_has_happened_in_order(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    begin = clock.now()
    await lived(store, clock)
    timeline = await bluestreak.describe("w")
    assert timeline.workflow == await bluestreak.find_workflow("w")
    assert [step.step_id for step in timeline.steps] == ["reserve"]
    assert [nap.nap_id for nap in timeline.naps] == ["think"]
    assert [attempt.step_id for attempt in timeline.attempts] == ["pay"]
    assert [failed.step_id for failed in timeline.failed_steps] == ["pay"]
    assert [entry.after_crash for entry in timeline.claim_log] == [False, True]
    happened = [
        (event.kind, event.name, None if event.at is None else (event.at - begin) // SECOND)
        for event in timeline.events
    ]
    assert happened == [
        (EventKind.CREATED, None, 0),
        (EventKind.CLAIMED, "worker-1", 1),
        (EventKind.CLAIMED, "worker-2", 20),
        (EventKind.STEP, "reserve", 21),
        (EventKind.NAP, "think", 22),
        (EventKind.ATTEMPT_FAILED, "pay", 23),
        (EventKind.STEP_FAILED, "pay", 24),
        (EventKind.ABORTED, None, 25),
    ]
    assert timeline.events[3].record == timeline.steps[0]


async def test_events_of_one_millisecond_are_in_the_likely_order(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    now = clock.now()
    await bluestreak.start("w", "h")
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=now, lease=LEASE, limit=1))

    async def fail(step_id: str, retry_at: datetime | None) -> None:
        attempt = Attempt(
            workflow_id="w",
            step_id=step_id,
            round=0,
            number=1,
            error=ERROR,
            retry_at=retry_at,
            saved_at=now,
        )
        await store.save_attempt(claim, attempt)

    await fail("pay", now)
    await fail("post", None)
    failed = FailedStep(step_id="post", error=ERROR, attempts=1, failed_at=now)
    await store.fail_step(claim, failed)
    await store.save_step(claim, "pay", 1, now)
    await store.save_step(claim, "refund", 2, now)
    await fail("ask", now + SECOND)
    await store.save_nap(claim, "think", now + SECOND, now)
    await store.finish(claim, None, now)
    events = (await bluestreak.describe("w")).events
    assert [(event.kind.value, event.name) for event in events] == [
        ("created", None),
        ("claimed", "worker"),
        ("attempt failed", "pay"),
        ("attempt failed", "post"),
        ("step failed", "post"),
        ("step", "pay"),
        ("step", "refund"),
        ("attempt failed", "ask"),
        ("nap", "think"),
        ("finished", None),
    ]


async def test_a_timeline_cannot_give_orders_to_a_terminal(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    now = clock.now()
    orders = "\x1b[2J\x07\x9b31m\u202e\u2066"
    await bluestreak.start("w", "h", {"no orders": orders})
    (claim,) = await store.claim(
        ClaimRequest(worker=f"worker{orders}", now=now, lease=LEASE, limit=1)
    )
    harmless = "kein Müller \U0001f426 u\u0308 C:\\new"
    message = f"{harmless}{orders}\nsecond line"
    error = ErrorRecord(type=f"Bad{orders}", message=message, traceback="")
    await store.fail(claim, Failure(error=error, retry_at=None), now)
    shown = str(await bluestreak.describe("w"))
    assert all(line.isprintable() for line in shown.split("\n"))
    escaped = r"\x1b[2J\x07\x9b31m\u202e\u2066"
    assert f"  last error Bad{escaped}: {harmless}{escaped}" in shown.split("\n")


async def test_a_timeline_can_be_read_in_a_terminal(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    await lived(store, clock)
    lines = str(await bluestreak.describe("w")).splitlines()
    assert lines[:4] == [
        "workflow 'w' of handler 'h': aborted",
        "  input {'n': 1}",
        "  claims 2, failures 1, crashes 0",
        "  last error ValueError: no such card",
    ]
    assert [re.sub(r"^ +\S+ \S+ +", "", line) for line in lines[4:]] == [
        "created",
        "claimed 'worker-1'",
        "claimed 'worker-2', since a lease had run out",
        "step 'reserve': {'seat': 7}",
        "nap 'think' until 2030-01-01 00:01:20.000Z",
        "attempt failed 'pay', number 1: ValueError: no such card",
        "step failed 'pay' after 1 attempt: ValueError: no such card",
        "aborted: ValueError: no such card",
    ]
    assert lines[5].startswith("  2030-01-01 00:00:01.000Z  ")


async def test_a_timeline_says_where_a_workflow_stands(
    store: RecordingStore, fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    begin = clock.now()

    async def state() -> tuple[str, EventKind]:
        timeline = await bluestreak.describe("w")
        return str(timeline).splitlines()[0].partition("'h': ")[2], timeline.events[-1].kind

    await bluestreak.start("w", "h", "x" * 1000)
    assert await state() == ("idle, due 2030-01-01 00:00:00.000Z", EventKind.CREATED)
    assert len(str(await bluestreak.describe("w"))) < 400
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=begin, lease=LEASE, limit=1))
    running = "running on 'worker', lease until 2030-01-01 00:00:10.000Z"
    assert await state() == (running, EventKind.CLAIMED)
    await store.fail(claim, Failure(error=ERROR, retry_at=begin + SECOND), begin)
    assert await state() == ("failed, due 2030-01-01 00:00:01.000Z", EventKind.FAILED)
    await store.control("w", Transition.CANCEL, begin + SECOND, "no more")
    assert await state() == ("cancelled, 'no more'", EventKind.CANCELLED)
    await store.control("w", Transition.RETRY, begin + 2 * SECOND)
    assert (await state())[1] is EventKind.RETRIED
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=begin + 2 * SECOND, lease=LEASE, limit=1)
    )
    await store.finish(claim, [1, 2], begin + 3 * SECOND)
    assert await state() == ("finished", EventKind.FINISHED)
    assert "  result [1, 2]" in str(await bluestreak.describe("w")).splitlines()


async def test_a_workflow_that_does_not_exist_has_no_timeline(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(WorkflowNotFound, match="'w' does not exist"):
        await bluestreak.describe("w")


async def test_a_timeline_can_be_asked_for_while_the_workflow_runs(
    store: RecordingStore, fleet: Fleet
) -> None:
    seen: list[Timeline] = []
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", lambda: 1)
        seen.append(await bluestreak.describe(ctx.workflow_id))

    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await bluestreak.wait("w")
    assert [event.kind for event in seen[0].events] == ["created", "claimed", "step"]


# What is refused ---------------------------------------------------------------------------------


NO_ORDER: list[Any] = ["", "NEWEST", "created_at", 1, [], {"$natural": 1}]
NO_BOUNDS: list[Any] = [(), (None,), (None, None, None), {None: None}, "ab"]
BAD: list[tuple[str, Any]] = [
    *[("status", bad) for bad in BAD_STATUSES.values()],
    *[("handler_id", bad) for bad in BAD_IDS.values() if bad is not None],
    *[("id_prefix", bad) for bad in BAD_IDS.values() if bad is not None],
    *[("created", (bad, None)) for bad in BAD_INSTANTS.values()],
    *[("created", (None, bad)) for bad in BAD_INSTANTS.values()],
    *[("created", bad) for bad in BAD_INSTANTS.values()],
    *[("created", bad) for bad in NO_BOUNDS],
    *[("order", bad) for bad in NO_ORDER],
    *[("limit", bad) for bad in BAD_COUNTS.values()],
    *[("after", bad) for bad in BAD_CURSORS.values()],
]


@pytest.mark.parametrize("store", ["memory"], indirect=True)  # which is asked for nothing
async def test_a_bad_search_is_refused_by_its_name_at_once(
    fleet: Fleet, store: RecordingStore, subtests: pytest.Subtests
) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    for number, (name, bad) in enumerate(BAD):
        by_name = f"^({name}|{name.replace('_', ' ')}) "
        with subtests.test(f"{name} {number}"):
            with pytest.raises(InvalidArgument, match=by_name) as refused:
                bluestreak.list(**{name: bad})
            assert len(str(refused.value)) < 400
            assert store.begun == before


async def test_a_cursor_of_another_order_is_refused(fleet: Fleet, store: RecordingStore) -> None:
    bluestreak = await fleet.engine()
    await many(store, 1)
    (summary,) = [summary async for summary in bluestreak.list(order="id")]
    with pytest.raises(InvalidArgument, match=r"^after .*it comes from a list in the order 'id'$"):
        bluestreak.list(after=summary.cursor)


@pytest.mark.parametrize("bad", ["", "Status", "input", None, 1, ["status"], {}])
async def test_workflows_are_counted_by_nothing_else(fleet: Fleet, bad: Any) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(InvalidArgument, match=r"^by "):
        await bluestreak.count(bad)


async def test_a_search_needs_an_open_store(store: RecordingStore) -> None:
    bluestreak = Bluestreak(store)
    with pytest.raises(NotInitialised, match=r"^list\(\) "):
        bluestreak.list()
    with pytest.raises(NotInitialised, match=r"^count\(\) "):
        await bluestreak.count()
    with pytest.raises(NotInitialised, match=r"^describe\(\) "):
        await bluestreak.describe("w")


async def test_a_store_without_the_power_is_refused_by_its_name(fleet: Fleet) -> None:
    bare: Any = Bare(MemoryStore())
    bluestreak = await fleet.engine(bare)
    with pytest.raises(Unsupported, match=r"^list\(\) is not possible here: Bare cannot search$"):
        bluestreak.list()
    with pytest.raises(Unsupported, match=r"^count\(\) "):
        await bluestreak.count()
    with pytest.raises(Unsupported, match=r"^describe\(\) "):
        await bluestreak.describe("w")


async def test_a_store_around_one_without_the_power_has_it_neither(fleet: Fleet) -> None:
    bare: Any = Bare(MemoryStore())
    bluestreak = await fleet.engine(StoreWrapper(bare))
    with pytest.raises(Unsupported, match="Bare cannot search"):
        await listed(bluestreak.list())
    with pytest.raises(Unsupported, match="Bare cannot search"):
        await bluestreak.count()

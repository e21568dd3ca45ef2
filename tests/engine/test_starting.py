"""Starting later, many at once, and strictly."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from bluestreak_core import (
    BluestreakError,
    Context,
    InvalidArgument,
    Start,
    Status,
    UnstorableValue,
    WorkflowConflict,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore
from tests.engine.arrange import Fleet

pytestmark = pytest.mark.asyncio

DAY = timedelta(days=1)
NOW = ManualClock().now()


@pytest.mark.parametrize(
    "options",
    [
        {"delay": DAY},
        {"delay": 86_400},
        {"at": NOW + DAY},
        {"at": (NOW + DAY).astimezone(timezone(timedelta(hours=5)))},
        {"at": NOW + DAY + timedelta(microseconds=999)},
    ],
)
async def test_a_delayed_workflow_is_not_claimed_before(
    fleet: Fleet, clock: ManualClock, store: RecordingStore, options: dict[str, Any]
) -> None:
    bluestreak = await fleet.engine()
    assert await bluestreak.start("w", "h", **options)
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.timeout_at, workflow.start_at) == (NOW + DAY, NOW + DAY)
    assert workflow.created_at == NOW
    early = NOW + DAY - timedelta(milliseconds=1)
    assert (
        list(await store.claim(ClaimRequest(worker="worker", now=early, lease=DAY, limit=1))) == []
    )
    assert (
        len(await store.claim(ClaimRequest(worker="worker", now=NOW + DAY, lease=DAY, limit=1)))
        == 1
    )


@pytest.mark.parametrize(
    "options", [{"delay": 0}, {"at": NOW}, {"at": datetime(1999, 1, 1, tzinfo=UTC)}]
)
async def test_what_has_passed_is_no_delay(fleet: Fleet, options: dict[str, Any]) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h", **options)
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.timeout_at, workflow.start_at) == (NOW, None)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"delay": -1}, "delay"),
    ({"delay": "1"}, "delay"),
    ({"delay": math.nan}, "delay"),
    ({"delay": True}, "delay"),
    ({"at": "2030-01-01"}, "at"),
    ({"at": NOW.date()}, "at"),
    ({"at": 1.8e9}, "at"),
    ({"at": NOW, "delay": 1}, "at"),
]


@pytest.mark.parametrize(("options", "named"), BAD)
async def test_a_delay_that_cannot_be_meant_is_refused_by_name(
    fleet: Fleet, options: dict[str, Any], named: str
) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(InvalidArgument) as refused:
        await bluestreak.start("w", "h", **options)
    assert refused.value.name == named
    with pytest.raises(InvalidArgument) as refused:
        await bluestreak.start_many([Start("v", "h"), Start("w", "h", **options)])
    assert refused.value.name == f"starts[1]: {named}"
    assert await bluestreak.find_workflow("v") is None
    assert await bluestreak.find_workflow("w") is None


# Many --------------------------------------------------------------------------------------------


async def test_many_are_started_and_run(fleet: Fleet, store: RecordingStore) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: int) -> int:
        return input * input

    await bluestreak.start("w1", "h", 10)
    starts = (Start(f"w{number % 4}", "h", number) for number in range(8))
    assert await bluestreak.start_many(starts) == [True, False, True, True, *[False] * 4]
    assert store.begun["create_many"] == 1
    async with fleet.polling(bluestreak):
        assert [await bluestreak.wait(f"w{number}") for number in range(4)] == [0, 100, 4, 9]
    assert await bluestreak.start_many([]) == []


async def test_many_are_delayed_each_for_itself(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start_many(
        [Start("w0", "h"), Start("w1", "h", delay=DAY), Start("w2", "h", at=NOW + 2 * DAY)]
    )
    found = [await bluestreak.find_workflow(f"w{number}") for number in range(3)]
    assert [workflow and workflow.timeout_at for workflow in found] == [
        NOW,
        NOW + DAY,
        NOW + 2 * DAY,
    ]


@pytest.mark.parametrize(
    ("starts", "named"),
    [
        (None, "starts"),
        ("w", "starts"),
        (7, "starts"),
        ([("w", "h")], r"starts\[0\]"),
        ([Start("w", "h"), None], r"starts\[1\]"),
        ([Start("w", "h"), Start("", "h")], r"starts\[1\]: workflow id"),
        ([Start("w", "h"), Start("v", {"$ne": 1})], r"starts\[1\]: handler id"),  # type: ignore[arg-type]
    ],
)
async def test_many_that_cannot_be_meant_are_refused_by_place_and_name(
    fleet: Fleet, starts: Any, named: str
) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(InvalidArgument, match=f"^{named}"):
        await bluestreak.start_many(starts)
    assert await bluestreak.find_workflow("w") is None


async def test_an_input_among_many_that_cannot_be_stored_is_named(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(UnstorableValue, match="input of workflow 'v'"):
        await bluestreak.start_many([Start("w", "h"), Start("v", "h", {1})])
    assert await bluestreak.find_workflow("w") is None


# Strictly ----------------------------------------------------------------------------------------

SAME: list[tuple[Any, Any]] = [
    ({"a": (1, 2.5), "b": None}, {"b": None, "a": [1, 2.5]}),
    (math.nan, math.nan),
    (datetime(2030, 1, 1, 0, 0, 0, 999), datetime(2030, 1, 1, tzinfo=UTC)),  # noqa: DTZ001
    (Status.IDLE, "idle"),
    (b"x", b"x"),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (1, 1.0),
    (1, True),
    (0, None),
    ({"a": 1}, {"a": 1, "b": None}),
    ([1, 2], [2, 1]),
    ("1", 1),
]


@pytest.mark.parametrize(("stored", "given"), SAME)
async def test_a_repeated_start_is_no_conflict(fleet: Fleet, stored: Any, given: Any) -> None:
    bluestreak = await fleet.engine()
    assert await bluestreak.start("w", "h", stored, strict=True)
    assert not await bluestreak.start("w", "h", given, strict=True)


@pytest.mark.parametrize(("stored", "given"), DIFFERENT)
async def test_another_input_is_a_conflict_if_asked_for(
    fleet: Fleet, stored: Any, given: Any
) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h", stored)
    assert not await bluestreak.start("w", "h", given)
    with pytest.raises(WorkflowConflict, match="'w' exists with another input") as raised:
        await bluestreak.start("w", "h", given, strict=True)
    assert isinstance(raised.value, BluestreakError)


async def test_another_handler_is_a_conflict_if_asked_for(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h", 1)
    assert not await bluestreak.start("w", "g", 1)
    with pytest.raises(WorkflowConflict, match="'w' exists with another handler"):
        await bluestreak.start("w", "g", 1, strict=True)

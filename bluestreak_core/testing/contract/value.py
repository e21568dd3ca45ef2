"""What every store makes of values, and which it refuses; a part of `StoreContract`."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from bluestreak_core.errors import UnstorableValue, ValueTooLarge
from bluestreak_core.model import ClaimRequest, Status
from bluestreak_core.store import MAX_VALUE_BYTES, Store
from bluestreak_core.store.values import MAX_DEPTH
from bluestreak_core.testing.contract.arrange import LEASE, NOW, claimed, failure, found, new
from bluestreak_core.testing.contract.rule import Rules, rule


class _Colour(StrEnum):
    RED = "red"


class _Level(IntEnum):
    HIGH = 3


class _Large(IntEnum):
    ODD = 2**53 + 1


class _Point(NamedTuple):
    x: int
    y: int


class _Instant(datetime):
    """As of pendulum or freezegun: whatever is made of it is of its class."""


class _Text(str):
    """Subclasses of plain values, which no store hands out."""

    __slots__ = ()


class _Real(float):
    __slots__ = ()


class _Blob(bytes):
    __slots__ = ()


class _Id(UUID):
    """A dataclass' field may be of it."""


class _Items(list[Any]):
    """What a validator may return."""


NAIVE = datetime(2020, 1, 2, 3, 4, 5, 678_901)  # noqa: DTZ001 - read as UTC

# What goes in, and what comes back.
VALUES: Sequence[tuple[Any, Any]] = (
    (None, None),
    (True, True),
    (0, 0),
    (-(2**63), -(2**63)),
    (2**63 - 1, 2**63 - 1),
    (2**31, 2**31),
    (2**53 + 2, 2**53 + 2),
    ({"n": [2**62]}, {"n": [2**62]}),
    (1.5, 1.5),
    (float("inf"), float("inf")),
    ("", ""),
    ("na\0me \U0001f426", "na\0me \U0001f426"),
    (b"\0\xff", b"\0\xff"),
    (UUID(int=7), UUID(int=7)),
    ([], []),
    ({}, {}),
    ((1, (2, 3)), [1, [2, 3]]),
    (_Point(1, 2), [1, 2]),
    ({"a": {"b": [1, {"c": None}]}}, {"a": {"b": [1, {"c": None}]}}),
    ({"b": 1, "a": 2}, {"b": 1, "a": 2}),
    ({"$set": {"a.b": 1}, "": 2}, {"$set": {"a.b": 1}, "": 2}),
    (_Colour.RED, "red"),
    (_Level.HIGH, 3),
    ({_Colour.RED: 1}, {"red": 1}),
    (_Large.ODD, 2**53 + 1),
    (_Text("text"), "text"),
    ({_Text("key"): _Text("text")}, {"key": "text"}),
    (_Real(1.5), 1.5),
    (_Blob(b"blob"), b"blob"),
    (_Id(int=8), UUID(int=8)),
    (_Items([1, _Items()]), [1, []]),
    (OrderedDict(b=1, a=defaultdict(list, c=[2])), {"b": 1, "a": {"c": [2]}}),
    (_Instant(2020, 1, 2, 3, tzinfo=UTC), datetime(2020, 1, 2, 3, tzinfo=UTC)),
    ([_Instant(2020, 1, 2)], [datetime(2020, 1, 2, tzinfo=UTC)]),
    (
        {"at": _Instant(2020, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))},
        {"at": datetime(2020, 1, 2, 1, tzinfo=UTC)},
    ),
    (NAIVE, datetime(2020, 1, 2, 3, 4, 5, 678_000, UTC)),
    (
        datetime(2020, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))),
        datetime(2020, 1, 2, 1, tzinfo=UTC),
    ),
    (datetime(1900, 1, 1, 0, 0, 0, 999_999, UTC), datetime(1900, 1, 1, 0, 0, 0, 999_000, UTC)),
)


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def _cycle() -> Any:
    value: list[Any] = [1]
    value.append(value)
    return {"loop": value}


# What is refused: the value, the place inside it and the type found there.
UNSTORABLE: Mapping[str, tuple[Any, str, str]] = {
    "set": ({1}, "", "set"),
    "object": ({"a": [0, object()]}, "['a'][1]", "object"),
    "function": ([len], "[0]", "builtin_function_or_method"),
    "class": ({"a": int}, "['a']", "type"),
    "large int": ({"n": 2**63}, "['n']", "int"),
    "huge int": (2**70, "", "int"),
    "small int": (-(2**63) - 1, "", "int"),
    "int key": ({"a": {1: 2}}, "['a'][1]", "int"),
    "bytes key": ({b"k": 1}, "[b'k']", "bytes"),
    "key with NUL": ({"a\0": 1}, "['a\\x00']", "str"),
    "lone surrogate": (["\ud800"], "[0]", "str"),
    "lone surrogate key": ({"\ud800": 1}, "['\\ud800']", "str"),
    "cycle": (_cycle(), "['loop'][1]", "list"),
    "timedelta": (timedelta(1), "", "timedelta"),
    "date": (NOW.date(), "", "date"),
    "complex": (1j, "", "complex"),
    "bytearray": (bytearray(b"x"), "", "bytearray"),
    "iterator": (iter([]), "", "list_iterator"),
    "exception": (ValueError("no"), "", "ValueError"),
}


class ValueContract(Rules):
    """The tests of inputs, outputs and results."""

    @pytest.mark.parametrize(("given", "stored"), VALUES, ids=repr)
    @rule("#values")
    async def test_a_value_is_the_same_on_every_path(
        self, store: Store, given: Any, stored: Any
    ) -> None:
        await store.create(new("w", input=given))
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        first = await store.save_step(claim, "s", given, NOW)
        replayed = (await store.history([claim]))["w"].steps["s"]
        step = await store.find_step("w", "s")
        await store.finish(claim, given, NOW)
        workflow = await found(store, "w")
        assert step is not None
        for value in (claim.workflow.input, first, replayed, step.output, workflow.result):
            _assert_same(value, stored)

    @rule("#values")
    async def test_nothing_stored_is_the_callers_object(self, store: Store) -> None:
        value = {"list": [1]}
        await store.create(new("w", input=value))
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        output = await store.save_step(claim, "s", value, NOW)
        value["list"].append(2)
        claim.workflow.input["list"].append(3)
        output["list"].append(4)
        (await store.history([claim]))["w"].steps["s"]["list"].append(5)
        assert (await found(store, "w")).input == {"list": [1]}
        assert (await store.history([claim]))["w"].steps["s"] == {"list": [1]}

    @pytest.mark.parametrize("name", UNSTORABLE)
    @rule("#values")
    async def test_an_unstorable_input_is_refused(self, store: Store, name: str) -> None:
        value, path, type_name = UNSTORABLE[name]
        with pytest.raises(UnstorableValue, match="input of workflow 'w'") as refused:
            await store.create(new("w", input=value))
        assert (refused.value.path, refused.value.type_name) == (path, type_name)
        assert await store.find_workflow("w") is None

    @pytest.mark.parametrize("name", UNSTORABLE)
    @rule("#values")
    async def test_an_unstorable_output_is_refused(self, store: Store, name: str) -> None:
        value, path, type_name = UNSTORABLE[name]
        claim = await claimed(store, "w")
        with pytest.raises(UnstorableValue, match="output of step 's' of workflow 'w'") as refused:
            await store.save_step(claim, "s", value, NOW)
        assert (refused.value.path, refused.value.type_name) == (path, type_name)
        assert await store.find_step("w", "s") is None

    @pytest.mark.parametrize("name", UNSTORABLE)
    @rule("#values")
    async def test_an_unstorable_result_is_refused(self, store: Store, name: str) -> None:
        value, path, type_name = UNSTORABLE[name]
        claim = await claimed(store, "w")
        before = await found(store, "w")
        with pytest.raises(UnstorableValue, match="result of workflow 'w'") as refused:
            await store.finish(claim, value, NOW)
        assert (refused.value.path, refused.value.type_name) == (path, type_name)
        assert await found(store, "w") == before

    @rule("#values")
    async def test_a_value_may_be_nested_up_to_the_limit(self, store: Store) -> None:
        await store.create(new("w", input=_nested(MAX_DEPTH)))
        assert (await found(store, "w")).input == _nested(MAX_DEPTH)

    @pytest.mark.parametrize("depth", [300, 5000])
    @rule("#values")
    async def test_a_value_nested_too_deep_is_refused(self, store: Store, depth: int) -> None:
        with pytest.raises(UnstorableValue, match="deep"):
            await store.create(new("w", input=_nested(depth)))
        assert await store.find_workflow("w") is None

    @rule("#values")
    async def test_a_value_may_be_as_large_as_the_limit(self, store: Store) -> None:
        largest = "x" * (MAX_VALUE_BYTES - 5)
        await store.create(new("w", input=largest))
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        assert claim.workflow.input == largest
        assert await store.save_step(claim, "s", largest, NOW) == largest

    @rule("#values")
    async def test_a_value_that_is_too_large_is_refused(self, store: Store) -> None:
        claim = await claimed(store, "w")
        before = await found(store, "w")
        large = "x" * (MAX_VALUE_BYTES - 4)
        with pytest.raises(ValueTooLarge) as refused:
            await store.create(new("w2", input=large))
        assert (refused.value.size, refused.value.limit) == (MAX_VALUE_BYTES + 1, MAX_VALUE_BYTES)
        with pytest.raises(ValueTooLarge, match="output of step 's'"):
            await store.save_step(claim, "s", large, NOW)
        with pytest.raises(ValueTooLarge, match="result of workflow 'w'"):
            await store.finish(claim, large, NOW)
        assert await store.find_workflow("w2") is None
        assert await store.find_step("w", "s") is None
        assert await found(store, "w") == before

    @rule("#values")
    async def test_a_result_has_the_room_that_the_input_leaves(self, store: Store) -> None:
        half = "x" * (MAX_VALUE_BYTES // 2 + 100_000)
        await store.create(new("w", input=half))
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        with pytest.raises(ValueTooLarge, match="result of workflow 'w'") as refused:
            await store.finish(claim, half, NOW)
        assert refused.value.size > refused.value.limit
        assert (await found(store, "w")).status is Status.RUNNING
        await store.fail(claim, failure(None), NOW)
        assert (await found(store, "w")).status is Status.ABORTED


def _assert_same(value: Any, expected: Any) -> None:
    """Equal, and of the same plain types all through."""
    assert type(value) is type(expected), f"{value!r} came back instead of {expected!r}"
    if isinstance(expected, dict):
        assert list(value) == list(expected)
        assert all(type(key) is str for key in value)
        for key, item in expected.items():
            _assert_same(value[key], item)
    elif isinstance(expected, list):
        assert len(value) == len(expected)
        for place, item in enumerate(expected):
            _assert_same(value[place], item)
    else:
        assert value == expected
    if isinstance(expected, datetime):
        assert value.tzinfo is UTC

"""What comes back of what the pydantic codec stores, and what it refuses."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NaiveDatetime,
    PositiveInt,
    SecretStr,
    computed_field,
    field_validator,
)
from typing_extensions import TypedDict

from bluestreak_core import Codec, InvalidValue, PlainRules
from bluestreak_pydantic import PydanticCodec

CODEC: Codec = PydanticCodec()
NOON = datetime(2030, 1, 31, 12, 0, 0, 123_000, UTC)
ONE = UUID(int=1)


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Kind(StrEnum):
    BOOK = "book"


class Odd(Enum):
    DECIMAL = Decimal("1.5")


class Pair(NamedTuple):
    one: int
    two: date


class Row(TypedDict):
    item: str
    on: date


@dataclass
class Item:
    name: str
    price: Decimal


@dataclass(eq=False)
class Order:
    items: list[Item]
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Approved:
    by: str


@dataclass(frozen=True, slots=True)
class Rejected:
    by: str


class Model(BaseModel):
    user_id: int = Field(alias="userId")
    on: date

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.user_id * 2


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    on: date
    pair: tuple[int, int]
    colour: Colour


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    name: str


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


def stored(value: Any, annotation: Any) -> Any:
    """What a store gives back."""
    return PlainRules().round_trip(CODEC.encode(value, annotation, "value"), "value")[0]


VALUES: list[tuple[Any, Any, Any]] = [
    # The annotation, a value, and how it is stored.
    (None, None, None),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (str, "a", "a"),
    (float, math.inf, math.inf),
    (bytes, b"\xff\0", b"\xff\0"),
    (UUID, ONE, ONE),
    (datetime, NOON, NOON),
    (date, date(2030, 1, 31), "2030-01-31"),
    (time, time(1, 2, 3, 4), "01:02:03.000004"),
    (timedelta, timedelta(days=-1, microseconds=1), "-PT23H59M59.999999S"),
    (Decimal, Decimal("1.10"), "1.10"),
    (complex, 1 + 2j, "1+2j"),
    (PurePosixPath, PurePosixPath("a/b"), "a/b"),
    (IPv4Address, IPv4Address("127.0.0.1"), "127.0.0.1"),
    (Colour, Colour.RED, "red"),
    (Size, Size.SMALL, 1),
    (Kind, Kind.BOOK, "book"),
    (tuple[int, date], (1, date(2030, 1, 31)), [1, "2030-01-31"]),
    (Pair, Pair(1, date(2030, 1, 31)), [1, "2030-01-31"]),
    (set[Colour], {Colour.RED}, ["red"]),
    (frozenset[int], frozenset({1}), [1]),
    (deque[int], deque([1, 2]), [1, 2]),
    (dict[int, Colour], {1: Colour.RED}, {"1": "red"}),
    (dict[Colour, int], {Colour.RED: 1}, {"red": 1}),
    (dict[date, bytes], {date(2030, 1, 31): b"\xff"}, {"2030-01-31": b"\xff"}),
    (dict[UUID, None], {ONE: None}, {str(ONE): None}),
    (Row, {"item": "a", "on": date(2030, 1, 31)}, {"item": "a", "on": "2030-01-31"}),
    (list[Row], [{"item": "a", "on": date.min}], [{"item": "a", "on": "0001-01-01"}]),
    (Item, Item("a", Decimal(2)), {"name": "a", "price": "2"}),
    (Item | None, None, None),
    (Model, Model(userId=1, on=date.max), {"user_id": 1, "on": "9999-12-31"}),
    (
        Strict,
        Strict(on=date(2030, 1, 31), pair=(1, 2), colour=Colour.RED),
        {"on": "2030-01-31", "pair": [1, 2], "colour": "red"},
    ),
    (Cat | Dog, Dog(name="a"), {"kind": "dog", "name": "a"}),
    (Annotated[int, Field(gt=1)], 2, 2),
]


@pytest.mark.parametrize(("annotation", "value", "form"), VALUES, ids=str)
def test_a_value_comes_back_as_it_was(annotation: Any, value: Any, form: Any) -> None:
    assert CODEC.refusal(annotation) is None
    assert stored(value, annotation) == form
    back = CODEC.decode(form, annotation, "value")
    assert back == value
    assert type(back) is type(value)


def test_no_equality_is_needed_of_dataclasses() -> None:
    order = Order([Item("a", Decimal(1))], {"nan": math.nan})
    back = CODEC.decode(stored(order, Order), Order, "value")
    assert back.items == order.items


def test_a_datetime_is_in_utc_milliseconds_as_everywhere() -> None:
    tokyo = datetime(2030, 1, 31, 12, 0, 0, 999_999, timezone(timedelta(hours=9)))
    assert stored(tokyo, datetime) == datetime(2030, 1, 31, 3, 0, 0, 999_000, UTC)
    assert stored(datetime(2030, 1, 31), datetime) == datetime(2030, 1, 31, tzinfo=UTC)  # noqa: DTZ001


def test_what_is_given_may_be_what_pydantic_accepts() -> None:
    assert stored({"name": "a", "price": "1.10"}, Item) == {"name": "a", "price": "1.10"}
    assert stored({"userId": 1, "on": "2030-01-31"}, Model)["user_id"] == 1
    assert stored("7", int) == 7


ITEMS = st.builds(Item, st.text(), st.decimals(allow_nan=False, allow_infinity=False))


@given(st.lists(ITEMS), st.timedeltas(), st.times())
def test_whatever_comes_back_is_equal(items: list[Item], span: timedelta, of_day: time) -> None:
    what = tuple[list[Item], timedelta, time]
    value = (items, span, of_day)
    encoded = CODEC.encode(value, what, "value")
    assert CODEC.decode(encoded, what, "value") == value


REFUSED: list[tuple[Any, Any, str, str]] = [
    # The annotation, a value, the place and the reason.
    (int, "a", "", "Input should be a valid integer"),
    (Order, {"items": [{"name": 1, "price": 1}]}, "['items'][0]['name']", "valid string"),
    (Order, Order([Item("a", "free")]), "['items'][0]['price']", "valid decimal"),  # type: ignore[arg-type]
    (Row, {"item": "a"}, "['on']", "Field required"),
    (Odd, Odd.DECIMAL, "", "Input should be Decimal('1.5')"),
    (Colour, "blue", "", "Input should be 'red'"),
    (PositiveInt, 0, "", "greater than 0"),
    (Item, {"name": 1}, "['name']", "valid string (and 1 more)"),
    (NaiveDatetime, datetime(2030, 1, 31), "", "should not have timezone"),  # noqa: DTZ001
    (dict[int, int], {1: 1, "b": 2}, "['b']['[key]']", "valid integer"),
]


@pytest.mark.parametrize(("annotation", "value", "path", "reason"), REFUSED, ids=str)
def test_what_does_not_fit_is_refused_with_its_place(
    annotation: Any, value: Any, path: str, reason: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        CODEC.encode(value, annotation, "value")
    assert refused.value.what == "value"
    assert refused.value.path == path
    assert reason in refused.value.reason


class Derived(Model):
    more: int = 1


class Excluded(BaseModel):
    kept: int
    dropped: int = Field(default=0, exclude=True)


LOST: list[tuple[Any, Any]] = [
    # What would silently come back as something else.
    (Any, Decimal("1.5")),
    (dict[str, Any], {"a": date(2030, 1, 31)}),
    (Decimal | str, Decimal("1.5")),
    (Approved | Rejected, Rejected("ada")),
    (Model, Derived(userId=1, on=date.max)),
    (Excluded, Excluded(kept=1, dropped=2)),
    (SecretStr, SecretStr("secret")),
    (dict[Any, int], {1: 1}),
]


@pytest.mark.parametrize(("annotation", "value"), LOST, ids=str)
def test_what_would_not_come_back_equal_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(InvalidValue, match="it would not come back from the store as it is"):
        CODEC.encode(value, annotation, "value")


class Raises(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def fail(cls, value: int) -> int:
        raise KeyError(value)


def test_what_a_validator_raises_is_a_refusal() -> None:
    with pytest.raises(InvalidValue, match="value: converting it raised KeyError: 7"):
        CODEC.encode({"value": 7}, Raises, "value")
    with pytest.raises(InvalidValue, match="value: converting it raised KeyError: 7"):
        CODEC.decode({"value": 7}, Raises, "value")


def test_what_contains_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(InvalidValue):
        CODEC.encode(ring, list[Any], "value")


class NoModel:
    pass


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("annotation", [NoModel, list[NoModel], range, "Nowhere"], ids=str)
def test_what_pydantic_cannot_convert_is_refused_with_its_reason(annotation: Any) -> None:
    refusal = CODEC.refusal(annotation)
    assert refusal
    assert "\n" not in refusal
    with pytest.raises(InvalidValue, match="value: "):
        CODEC.encode(None, annotation, "value")


def test_an_annotation_need_not_be_hashable() -> None:
    assert stored(1, Annotated[int, Unhashable()]) == 1


def test_what_is_stored_and_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"^stored value at \['name'\]: Field required \(and"):
        CODEC.decode({"title": "a"}, Item, "stored value")

"""What comes back of what the pydantic codec stores, and what it refuses."""

from __future__ import annotations

import math
import re
import typing
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import PurePath, PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NaiveDatetime,
    PlainSerializer,
    PositiveInt,
    RootModel,
    SecretStr,
    computed_field,
    field_validator,
    model_serializer,
    model_validator,
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


class OtherSize(IntEnum):
    SMALL = 1


class OtherKind(StrEnum):
    BOOK = "book"


class Odd(Enum):
    DECIMAL = Decimal("1.5")


class Pair(NamedTuple):
    one: int
    two: date


class OtherPair(NamedTuple):
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


def _shown(value: object) -> str:
    """The same in every process, which the address of a lambda is not."""
    return re.sub(r" at 0x\w+", "", str(value))


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


class Area(RootModel[list[int]]):
    def __iter__(self) -> Any:
        return iter(self.root)


class Square(BaseModel):
    side: int

    @cached_property
    def area(self) -> int:
        return self.side**2


def test_only_the_fields_of_a_model_count() -> None:
    square = Square(side=2)
    assert square.area == 4  # and is kept beside the fields now
    assert stored(square, Square) == {"side": 2}
    assert stored(Area([1]), Area) == [1]


TOKYO = datetime(2030, 1, 31, 12, 0, 0, 999_999, timezone(timedelta(hours=9)))
IN_UTC = datetime(2030, 1, 31, 3, 0, 0, 999_000, UTC)


def test_a_datetime_is_in_utc_milliseconds_as_everywhere() -> None:
    assert stored(TOKYO, datetime) == IN_UTC
    assert stored(datetime(2030, 1, 31), datetime) == datetime(2030, 1, 31, tzinfo=UTC)  # noqa: DTZ001


@pytest.mark.parametrize("of", [list, deque, set, frozenset])
def test_so_are_the_members_of_a_container(of: Any) -> None:
    assert stored(of([TOKYO]), of[datetime]) == [IN_UTC]
    assert CODEC.decode([IN_UTC], of[datetime], "value") == of([IN_UTC])


def test_so_are_they_in_a_set_of_whatever_can_be_hashed() -> None:
    deep = {(1, frozenset({TOKYO})), (2, frozenset[datetime]())}
    form = stored(deep, set[tuple[int, frozenset[datetime]]])
    assert sorted(form) == [[1, [IN_UTC]], [2, []]]


def test_equal_sets_are_stored_alike() -> None:
    one, other = {0, 8}, {8, 0}
    assert list(one) != list(other)
    assert stored(one, set[int]) == stored(other, set[int]) == [0, 8]


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


Longer = Annotated[list[int], PlainSerializer(lambda value: [*value, 0])]

LOST: list[tuple[Any, Any, str, str]] = [
    # What would silently come back as something else: where and how.
    (Any, Decimal("1.5"), "", "Decimal would come back as str"),
    (dict[str, Any], {"a": date(2030, 1, 31)}, "['a']", "date would come back as str"),
    (list[Decimal | str], ["a", Decimal("1.5")], "[1]", "Decimal would come back as str"),
    (Any, Item("a", Decimal(1)), "", "Item would come back as dict"),
    (float | Decimal, Decimal("1.5"), "", "Decimal would come back as float"),
    (int | Decimal, Decimal(1), "", "Decimal would come back as int"),
    (bool | Decimal, Decimal(1), "", "Decimal would come back as bool"),
    (dict[int | Decimal, int], {Decimal(1): 1}, "[Decimal('1')]", "Decimal would come back as int"),
    (set[int | Decimal], {Decimal(1)}, "", "Decimal would come back as int"),
    (set[Any], {date(2030, 1, 31)}, "", "date in it would not come back"),
    (Approved | Rejected, Rejected("ada"), "", "Rejected would come back as Approved"),
    (list[Any] | OtherPair, OtherPair(1, date.max), "", "OtherPair would come back as list"),
    (Any, Pair(1, date.max), "", "Pair would come back as list"),
    (Size | OtherSize, OtherSize.SMALL, "", "OtherSize would come back as Size"),
    (Kind | OtherKind, OtherKind.BOOK, "", "OtherKind would come back as Kind"),
    (set[Kind | OtherKind], {OtherKind.BOOK}, "", "OtherKind would come back as Kind"),
    (set[int] | frozenset[int], frozenset({1}), "", "frozenset would come back as set"),
    (
        set[datetime],
        {NOON, NOON.replace(microsecond=123_456)},
        "",
        "2 members would come back as 1",
    ),
    (Model, Derived(userId=1, on=date.max), "", "Derived would come back as Model"),
    (
        dict[str, list[Excluded]],
        {"a": [Excluded(kept=1), Excluded(kept=1, dropped=2)]},
        "['a'][1]['dropped']",
        "int would come back with another value",
    ),
    (SecretStr, SecretStr("secret"), "", "SecretStr would come back with another value"),
    (dict[Any, int], {1: 1}, "[1]", "it would not come back"),
    (Longer, [1], "[1]", "it would be added"),
]


TAKEN: list[tuple[Any, Any, str, str]] = [
    # What pydantic took for the first member already when it was given, before 2.14.
    (Pair | OtherPair, OtherPair(1, date.max), "", "OtherPair would come back as Pair"),
    (list[int] | deque[int], deque([1]), "", "deque would come back as list"),
]
IS_TAKEN = tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 14)


@pytest.mark.parametrize(
    ("annotation", "value", "path", "reason"), LOST if IS_TAKEN else LOST + TAKEN, ids=_shown
)
def test_what_would_not_come_back_equal_is_refused_with_its_place(
    annotation: Any, value: Any, path: str, reason: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        CODEC.encode(value, annotation, "value")
    assert (refused.value.path, refused.value.reason) == (path, reason)


@dataclass
class Loose:
    """What type checkers accept for a field, and pydantic leaves as it is in an instance."""

    number: float = 0.0
    integer: int = 0
    text: str = ""
    kind: Kind = Kind.BOOK
    on: date = date.min
    path: PurePath = field(default_factory=PurePath)
    items: list[int] = field(default_factory=list)
    mapping: OrderedDict[str, int] = field(default_factory=OrderedDict)


class Frozen(date):
    pass


class Items(list[int]):
    pass


@pytest.mark.parametrize(
    "value",
    [
        *(Loose(number=1), Loose(number=Size.SMALL), Loose(integer=True), Loose(text=Kind.BOOK)),
        *(Loose(kind="book"), Loose(on=Frozen(2030, 1, 31)), Loose(path=PurePosixPath("a"))),  # type: ignore[arg-type]
        *(Loose(items=Items([1])), Loose(mapping={"a": 1})),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_an_equal_value_may_come_back_of_the_class_that_is_annotated(value: Loose) -> None:
    back = CODEC.decode(stored(value, Loose), Loose, "value")
    assert back == value
    assert type(back.number) is float
    assert type(back.kind) is Kind


@pytest.mark.parametrize(
    ("annotation", "value", "form"),
    [
        (list[Any], [(1, 2)], [[1, 2]]),
        (Any, Kind.BOOK, "book"),
        (str | Kind, Kind.BOOK, "book"),
        (Any, OrderedDict(a=1), {"a": 1}),
    ],
)
def test_what_plain_values_come_back_as_is_allowed(annotation: Any, value: Any, form: Any) -> None:
    assert stored(value, annotation) == form


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


class Broken:
    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        raise KeyError("broken")


def test_what_a_class_raises_when_it_is_asked_is_a_refusal() -> None:
    assert CODEC.refusal(Broken) == "pydantic raised KeyError: 'broken'"


def test_what_pydantic_knows_nothing_of_is_left_to_the_store() -> None:
    value = NoModel()
    assert CODEC.encode(value, NoModel, "value") is value
    assert CODEC.decode(value, NoModel, "value") is value
    assert CODEC.encode(Item, Any, "value") is Item


class Root(RootModel[int]):
    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True)
class Word:
    text: str

    @model_serializer
    def as_text(self) -> str:
        return self.text

    @model_validator(mode="before")
    @classmethod
    def of_text(cls, given: Any) -> Any:
        return {"text": given} if isinstance(given, str) else given


Part = TypeVar("Part")


class Page(TypedDict, Generic[Part]):
    parts: list[Part]


def test_a_parameter_of_a_class_of_the_users_is_no_key() -> None:
    assert CODEC.refusal(Page[Item]) is None
    given = Page[Item](parts=[Item("ink", Decimal(1))])
    assert CODEC.decode(CODEC.encode(given, Page[Item], "value"), Page[Item], "value") == given


IN_SET = "dataclasses and models cannot be stored in a set, nor as keys of a dict: use a list"


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (set[Approved], {Approved("ada")}),
        (list[frozenset[Approved | Rejected]], [frozenset({Rejected("ada")})]),
        (dict[Approved, int], {Approved("ada"): 1}),
    ],
    ids=str,
)
def test_a_set_of_dataclasses_is_refused_as_it_is_annotated(annotation: Any, value: Any) -> None:
    assert CODEC.refusal(annotation) == IN_SET
    with pytest.raises(InvalidValue, match=f"^value: {IN_SET}$"):
        CODEC.encode(value, annotation, "value")


@dataclass
class Team:
    members: set[Approved]


def test_one_in_a_field_is_refused_when_it_is_given() -> None:
    assert CODEC.refusal(Team) is None
    with pytest.raises(InvalidValue, match=f"^value: {IN_SET}$"):
        CODEC.encode(Team({Approved("ada")}), Team, "value")


AS_LIST = PlainSerializer(list, return_type=list[Approved])


@pytest.mark.parametrize(
    ("annotation", "value", "form"),
    [
        (set[Root], {Root(1)}, [1]),
        (dict[Word, int], {Word("a"): 1}, {"a": 1}),
        (Annotated[set[Approved], AS_LIST], {Approved("ada")}, [{"by": "ada"}]),
    ],
    ids=str,
)
def test_one_that_is_stored_another_way_is_not(annotation: Any, value: Any, form: Any) -> None:
    assert CODEC.refusal(annotation) is None
    assert stored(value, annotation) == form
    assert CODEC.decode(form, annotation, "value") == value


@pytest.mark.parametrize("annotation", [set, dict, typing.Set, typing.Dict, dict[str, Approved]])  # noqa: UP006
def test_other_sets_are_not_refused(annotation: Any) -> None:
    assert CODEC.refusal(annotation) is None


def test_an_annotation_need_not_be_hashable() -> None:
    assert stored(1, Annotated[int, Unhashable()]) == 1


def test_what_is_stored_and_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"^stored value at \['name'\]: Field required \(and"):
        CODEC.decode({"title": "a"}, Item, "stored value")

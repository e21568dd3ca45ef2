"""What the plain codec does, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import pytest
from pydantic import BaseModel

from bluestreak_core import Codec, PlainCodec


@dataclass
class Order:
    item: str


class Model(BaseModel):
    item: str


class Colour(Enum):
    RED = "red"


class Kind(StrEnum):
    BOOK = "book"


class Row(TypedDict):
    item: str


class Pair(NamedTuple):
    one: int
    two: int


@pytest.mark.parametrize(
    "annotation",
    [
        *(Order, Model, Colour, Kind),
        *(list[Order], Order | None, dict[str, list[Colour]], Annotated[Model, "x"]),
    ],
    ids=str,
)
def test_what_a_store_would_not_give_back_is_refused(annotation: Any) -> None:
    refusal = PlainCodec().refusal(annotation)
    assert refusal is not None
    assert "is not a plain value; use codec=PydanticCodec(), from the extra" in refusal


@pytest.mark.parametrize(
    "annotation",
    [
        *(None, Any, object, str, int, dict, list, UUID, Row, Pair, Literal["a"]),
        *(dict[str, Any], list[Row], str | None, tuple[int, ...]),
    ],
    ids=str,
)
def test_plain_annotations_are_accepted(annotation: Any) -> None:
    assert PlainCodec().refusal(annotation) is None


def test_plain_values_stay_as_they_are() -> None:
    codec: Codec = PlainCodec()
    value = {"a": object()}
    assert codec.encode(value, str, "value") is value
    assert codec.decode(value, str, "value") is value

"""Whether a value survives being stored."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from bluestreak_core.clock import in_milliseconds


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal, and built of the same classes.

    A list is as good as a tuple, for that is what stores make of one, and datetimes are compared to
    the millisecond. What is no number is equal to itself.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, datetime) and isinstance(other, datetime):
        return in_milliseconds(one) == in_milliseconds(other)
    if is_dataclass(one) or isinstance(one, BaseModel):
        return type(one) is type(other) and is_same(_parts(one), _parts(other))
    return bool(one == other) or bool(one != one and other != other)  # noqa: PLR0124 - NaN


def _parts(value: Any) -> dict[str, Any]:
    """The fields of a dataclass or a model, which may have no equality of its own."""
    if isinstance(value, BaseModel):
        return dict(value)
    return {field.name: getattr(value, field.name) for field in fields(value)}

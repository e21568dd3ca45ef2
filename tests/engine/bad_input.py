"""Arguments that nobody can mean, by what is wrong with them."""

from __future__ import annotations

import array
import math
from base64 import urlsafe_b64encode
from collections import UserString
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock


class Raises:
    """Every question that it is asked ends in an error."""

    def _raise(self, *_: object) -> Any:
        raise RuntimeError("no")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _raise
    __hash__ = __repr__ = __str__ = __bool__ = __len__ = __iter__ = _raise
    __contains__ = __getitem__ = __int__ = __float__ = __index__ = __bytes__ = _raise


class LyingStr(str):
    """Says of itself that it is sound."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1

    def __bool__(self) -> bool:
        return True

    def __contains__(self, _: object) -> bool:
        return False

    def encode(self, *_: object) -> bytes:
        return b""


class LyingInt(int):
    def __lt__(self, _: object) -> bool:
        return False

    def __ge__(self, _: object) -> bool:
        return True


class LyingFloat(float):
    def __ge__(self, _: object) -> bool:
        return True

    def __gt__(self, _: object) -> bool:
        return False


class LyingSpan(timedelta):
    def total_seconds(self) -> float:
        return 1.0


class _NoOffset(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise RuntimeError("no")

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        raise RuntimeError("no")


class _Ids(Enum):
    ID = "w"


def _cursor(text: bytes) -> str:
    return urlsafe_b64encode(text).decode().rstrip("=")


def deep(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


CYCLE: list[Any] = []
CYCLE.append(CYCLE)
RING: dict[str, Any] = {}
RING["k"] = [RING]

BAD_IDS: dict[str, Any] = {
    "dict": {"$gt": ""},
    "empty dict": {},
    "list": ["w"],
    "tuple": ("w",),
    "set": {"w"},
    "bytes": b"w",
    "bytearray": bytearray(b"w"),
    "memoryview": memoryview(b"w"),
    "int": 1,
    "zero": 0,
    "huge int": 10**5000,
    "float": 1.0,
    "NaN": math.nan,
    "bool": True,
    "none": None,
    "ellipsis": ...,
    "type": str,
    "object": object(),
    "function": len,
    "generator": (letter for letter in "w"),
    "path": PurePosixPath("w"),
    "user string": UserString("w"),
    "enum": _Ids.ID,
    "mock of a str": Mock(spec=str),
    "raises": Raises(),
    "empty": "",
    "empty, and lies": LyingStr(""),
    "NUL": "a\0b",
    "only NUL": "\0",
    "NUL, and lies": LyingStr("a\0b"),
    "lone surrogate": "\ud800",
    "surrogate in the middle": "a\udfffb",
    "surrogate, and lies": LyingStr("\ud800"),
    "too long": "x" * 513,
    "much too long": "x" * 1_000_000,
    "too long, and lies": LyingStr("x" * 513),
    "too long in emoji": "\N{SNAKE}" * 513,
}

BAD_DURATIONS: dict[str, Any] = {
    "negative": -1,
    "negative float": -0.001,
    "negative timedelta": timedelta(microseconds=-1),
    "smallest negative float": -5e-324,
    "NaN": math.nan,
    "infinite": math.inf,
    "minus infinity": -math.inf,
    "bool": True,
    "str": "1",
    "bytes": b"1",
    "none": None,
    "list": [1],
    "dict": {"seconds": 1},
    "complex": 1j,
    "decimal": Decimal(1),
    "fraction": Fraction(1),
    "datetime": datetime(2030, 1, 1, tzinfo=UTC),
    "time": time(1),
    "huge int": 10**400,
    "huge float": 1e308,
    "huge timedelta": timedelta.max,
    "a second above a thousand years": 365_000 * 86_400 + 1,
    "mock of a timedelta": Mock(spec=timedelta),
    "raises": Raises(),
    "negative, and lies": LyingInt(-1),
    "negative float, and lies": LyingFloat(-1.0),
    "negative timedelta, and lies": LyingSpan(seconds=-1),
}

BAD_COUNTS: dict[str, Any] = {
    "negative": -1,
    "float": 1.5,
    "whole float": 1.0,
    "NaN": math.nan,
    "bool": True,
    "str": "10",
    "bytes": b"1",
    "list": [1],
    "decimal": Decimal(1),
    "timedelta": timedelta(1),
    "above 32 bits": 2**31,
    "huge": 10**5000,
    "mock of an int": Mock(spec=int),
    "raises": Raises(),
    "negative, and lies": LyingInt(-1),
}

BAD_VALUES: dict[str, tuple[Any, str | None]] = {
    # With the place that the refusal names.
    "set": ({1}, ""),
    "frozenset": (frozenset({1}), ""),
    "object": (object(), ""),
    "function": (len, ""),
    "lambda": (lambda: 1, ""),
    "type": (int, ""),
    "module": (math, ""),
    "generator": ((item for item in [1]), ""),
    "iterator": (iter([1]), ""),
    "range": (range(3), ""),
    "exception": (ValueError("no"), ""),
    "namespace": (SimpleNamespace(a=1), ""),
    "complex": (1j, ""),
    "decimal": (Decimal(1), ""),
    "fraction": (Fraction(1, 3), ""),
    "enum": (_Ids.ID, ""),
    "date": (date(2030, 1, 1), ""),
    "time": (time(1), ""),
    "timedelta": (timedelta(1), ""),
    "path": (PurePosixPath("w"), ""),
    "bytearray": (bytearray(b"w"), ""),
    "memoryview": (memoryview(b"w"), ""),
    "array": (array.array("i", [1]), ""),
    "ellipsis": (..., ""),
    "raises": (Raises(), ""),
    "mock of a str": (Mock(spec=str), ""),
    "large int": (2**63, ""),
    "large negative int": (-(2**63) - 1, ""),
    "huge int": (10**5000, ""),
    "lone surrogate": ("\ud800", ""),
    "lone surrogate, and lies": (LyingStr("\ud800"), ""),
    "datetime out of range": (datetime.max.replace(tzinfo=_NoOffset()), ""),
    "non-string key": ({1: 2}, "[1]"),
    "none as a key": ({None: 2}, "[None]"),
    "bytes as a key": ({b"k": 2}, "[b'k']"),
    "tuple as a key": ({(1, 2): 2}, "[(1, 2)]"),
    "NUL in a key": ({"a\0b": 1}, "['a\\x00b']"),
    "NUL in a key that lies": ({LyingStr("a\0b"): 1}, "['a\\x00b']"),
    "lone surrogate in a key": ({"\ud800": 1}, "['\\ud800']"),
    "cycle": (CYCLE, "[0]"),
    "ring": (RING, "['k'][0]"),
    "deep": (deep(5000), None),  # where it becomes too deep is the store's affair
    "deep inside": ({"a": [1, {"b": {1}}]}, "['a'][1]['b']"),
    "raises inside": ([Raises()], "[0]"),
    "user dict of bad": ([{"ok": 1}, {"bad": UserString("w")}], "[1]['bad']"),
}

BAD_INSTANTS: dict[str, Any] = {
    "naive": datetime(2030, 1, 1),  # noqa: DTZ001 - that is what is bad
    "no offset": datetime(2030, 1, 1, tzinfo=_NoOffset()),
    "out of range": datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
    "date": date(2030, 1, 1),
    "time": time(1, tzinfo=UTC),
    "timedelta": timedelta(1),
    "int": 1_893_456_000,
    "float": 1.9e9,
    "str": "2030-01-01T00:00:00Z",
    "bool": True,
    "list": [datetime(2030, 1, 1, tzinfo=UTC)],
    "mock of a datetime": Mock(spec=datetime),
    "raises": Raises(),
}

BAD_STATUSES: dict[str, Any] = {
    "unknown": "done",
    "capitals": "FINISHED",
    "empty": "",
    "none at all": [],
    "no tuple": (),
    "one unknown": ["finished", "done"],
    "one none": ["finished", None],
    "dict": {"finished": True},
    "query": {"$ne": "finished"},
    "bytes": b"finished",
    "int": 1,
    "bool": True,
    "generator": (item for item in ["finished"]),
    "mock of a str": Mock(spec=str),
    "raises": Raises(),
    "one raises": [Raises()],
}

BAD_CURSORS: dict[str, Any] = {
    "empty": "",
    "id": "order-17",
    "number": 17,
    "bytes": b"WzEsIm5ld2VzdCIsbnVsbCwidyJd",
    "dict": {"$gt": ""},
    "not base64": "****",
    "not ASCII": "\N{SNAKE}",
    "lone surrogate": "\ud800",
    "not JSON": _cursor(b"{"),
    "not UTF-8": _cursor(b"\xff"),
    "no list": _cursor(b"1"),
    "too short": _cursor(b'[1,"newest",null]'),
    "another version": _cursor(b'[2,"newest",null,"w"]'),
    "another order": _cursor(b'[1,"sideways",null,"w"]'),
    "instant of text": _cursor(b'[1,"newest","x","w"]'),
    "instant of a fraction": _cursor(b'[1,"newest",1.5,"w"]'),
    "instant out of range": _cursor(b'[1,"newest",1e300,"w"]'),
    "instant far out of range": _cursor(b'[1,"newest",99999999999999999999,"w"]'),
    "instant of NaN": _cursor(b'[1,"newest",NaN,"w"]'),
    "bool for an instant": _cursor(b'[1,"newest",true,"w"]'),
    "id that is none": _cursor(b'[1,"newest",null,{"$gt":""}]'),
    "id with a lone surrogate": _cursor(b'[1,"newest",null,"\\ud800"]'),
    "spaces": _cursor(b'[1, "newest", null, "w"]'),
    "deep": _cursor(b"[" * 100_000),
    "padded": _cursor(b'[1,"newest",null,"ww"]') + "=",
    "raises": Raises(),
}

# Some of each, for calls whose check is that of another call
SOME_IDS = ["dict", "int", "none", "raises", "empty", "NUL, and lies", "lone surrogate", "too long"]
SOME_DURATIONS = ["negative", "NaN", "bool", "str", "huge int", "a second above a thousand years"]
SOME_INSTANTS = ["naive", "no offset", "date", "str", "raises"]

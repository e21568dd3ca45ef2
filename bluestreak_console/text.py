"""Texts of strangers, made harmless to look at: short, and without characters that one obeys.

Templates escape what HTML means by `<` and the like. This is about the rest: control characters,
marks that turn the direction of a text around, and megabytes.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from bluestreak_core.errors.text import printable

MAX_LINE = 200
MAX_VALUE = 20_000
"""Characters that are shown of a value or a traceback."""


def line(text: object, limit: int = MAX_LINE) -> str:
    """A text on one line."""
    return _cut(str(text), limit, keep="")


def block(text: str, limit: int = MAX_VALUE) -> str:
    """A text of several lines."""
    return _cut(text, limit, keep="\n\t")


def value(stored: Any, limit: int = MAX_VALUE, indent: int | None = 2) -> str:
    """A stored value as JSON, or as Python prints it where JSON cannot."""
    encoder = json.JSONEncoder(indent=indent, ensure_ascii=False, default=_plain)
    parts: list[str] = []
    length = 0
    try:
        for part in encoder.iterencode(stored):
            parts.append(part[: limit + 1])
            length += len(part)
            if length > limit:
                break
    except (TypeError, ValueError, RecursionError):
        parts = [repr(stored)]
    return block("".join(parts), limit)


def instant(at: datetime | None) -> str:
    """An instant in UTC, to the millisecond."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"


def span(duration: timedelta | None) -> str:
    """A duration in its two largest units."""
    if duration is None:
        return ""
    seconds = abs(duration.total_seconds())
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{seconds:.1f} s"
    whole = int(seconds)
    units = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for (size, name), (smaller, part) in pairwise(units):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {part}" if rest else "")
    raise AssertionError(seconds)


def _plain(found: object) -> str:
    if isinstance(found, datetime):
        return found.isoformat()
    return repr(found)


def _cut(text: str, limit: int, keep: str) -> str:
    shown = printable(text[:limit], keep)
    return shown if len(text) <= limit else f"{shown}…"

"""Points in time and spans, as they are written on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from bluestreak_cli.failure import CommandError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")


def read_span(text: str, option: str) -> timedelta:
    """`90s`, `15m`, `12h`, `30d` or `2w`."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise CommandError(f"{option} {text!r} is no span", "write one such as 90s, 15m, 12h, 30d")
    try:
        return timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError as error:
        raise CommandError(f"{option} {text!r} is too long", "write a shorter one") from error


def read_instant(text: str, option: str) -> datetime:
    """An ISO 8601 date or time, in UTC unless it says otherwise, or a span: so long ago."""
    if _SPAN.fullmatch(text):
        try:
            return datetime.now(UTC) - read_span(text, option)
        except OverflowError as error:
            raise CommandError(f"{option} {text!r} is too long", "write a shorter one") from error
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        remedy = "write one such as 2026-11-30, 2026-11-30T10:00Z, or 30d for so long ago"
        raise CommandError(f"{option} {text!r} is no point in time", remedy) from error
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant


def shown(instant: datetime | None) -> str:
    """For a table."""
    return "" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}Z"

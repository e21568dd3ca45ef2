"""Exceptions as the text that is stored and logged."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from bluestreak_core.errors.text import counted, one_line
from bluestreak_core.model import ErrorRecord

MAX_MESSAGE = 4 * 1024
MAX_TRACEBACK = 16 * 1024
"""The longest stored text in bytes of UTF-8; a longer one loses its middle."""


def error_record(error: BaseException) -> ErrorRecord:
    """The type, message and traceback of any exception, even of one that cannot be printed."""
    return ErrorRecord(
        type=_storable(_text(lambda: _type_name(error)), MAX_MESSAGE),
        message=_storable(_text(lambda: str(error)), MAX_MESSAGE),
        traceback=_storable(
            _text(lambda: "".join(traceback.format_exception(error))), MAX_TRACEBACK
        ),
    )


def in_one_line(error: ErrorRecord) -> str:
    """An error for the log, like the last line of a traceback; it cannot forge another line."""
    return one_line(f"{error.type}: {error.message}" if error.message else error.type)


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _text(render: Callable[[], str]) -> str:
    try:
        return render()
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        # Read past the metaclass, which may raise anything as well.
        return f"(cannot be shown: {type.__getattribute__(type(broken), '__name__')})"


def _storable(text: str, limit: int) -> str:
    """The text as valid UTF-8, shortened in the middle to about `limit` bytes."""
    encoded = str.encode(text, "utf-8", "backslashreplace")
    if len(encoded) <= limit:
        return encoded.decode()
    half = limit // 2
    # "ignore" drops a character that the cut splits.
    head = encoded[:half].decode("utf-8", "ignore")
    tail = encoded[-half:].decode("utf-8", "ignore")
    return f"{head}\n... ({counted(len(encoded) - limit, 'byte')} cut) ...\n{tail}"

"""How errors and log lines show values."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 attempt`, `2 attempts`: for nouns with a regular plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shown(value: object, limit: int = 80) -> str:
    """Any value in one short line of ASCII."""
    try:
        text = ascii(value)
    except Exception:  # noqa: BLE001 - a value's repr may raise anything, as that of a huge int does
        text = f"({type(value).__name__})"
    return cut(text, limit)


def one_line(text: str) -> str:
    """A text with its unprintable characters escaped.

    So it cannot forge a line of a log, nor send control sequences to a terminal.
    """
    return text if text.isprintable() else repr(text)[1:-1]


def printable(text: str, keep: str = "") -> str:
    """A text with each character escaped that one cannot see, or that a terminal obeys.

    Such as ESC, and marks of writing direction. The characters in `keep` stay.
    """
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )


def cut(text: str, limit: int) -> str:
    """The text, or its first `limit` characters and its length."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"

"""Counts, as messages show them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 attempt`, `2 attempts`; for nouns whose plural ends in an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

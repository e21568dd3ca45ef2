"""A guard of the library that is taken away to show that the simulation notices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Mutation:
    """A guard that is taken away."""

    seeds: int
    """How many seeds, from 0 on, it took to notice that when they were last counted."""

    changes: list[tuple[Any, str, Any]]
    """What is replaced by what."""


async def nothing(*_: Any, **__: Any) -> None:
    """What is called instead of a guard."""

"""The compensations that a handler has registered in one run."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bluestreak_core.retry import Retry
from bluestreak_core.run.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    """A step that undoes another one; `context` is the one that it was registered in."""

    step_id: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    retry: Retry
    limit: timedelta | None
    context: Context


class Compensations:
    """What was registered, in order, and the promise that it will be carried out."""

    def __init__(self, journal: Journal) -> None:
        self.registered: list[Compensation] = []
        self._journal = journal

    @property
    def are_promised(self) -> bool:
        """Whether the store knows that the workflow compensates."""
        return self._journal.compensates

    def add(self, compensation: Compensation) -> None:
        """Register one more."""
        self.registered.append(compensation)

    def last_first(self) -> list[Compensation]:
        """What was registered, in the order in which it is carried out."""
        return self.registered[::-1]

    async def promise(self) -> None:
        """Record that the workflow compensates. A repeat does no harm."""
        await self._journal.promise()

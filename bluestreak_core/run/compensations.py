"""The compensations that a handler has registered in one run."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bluestreak_core.retry import Retry


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
    """What was registered, in order."""

    def __init__(self) -> None:
        self.registered: list[Compensation] = []

    def add(self, compensation: Compensation) -> None:
        """Register one more."""
        self.registered.append(compensation)

    def last_first(self) -> list[Compensation]:
        """What was registered, in the order in which it is carried out."""
        return self.registered[::-1]

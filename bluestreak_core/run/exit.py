"""How a run is told to end before its handler has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn


@dataclass(frozen=True, slots=True)
class Park:
    """Leave memory, and come back when a nap ends."""

    wake_up_at: datetime


@dataclass(frozen=True, slots=True)
class Release:
    """Leave the workflow to another worker, since this one is stopping."""


@dataclass(frozen=True, slots=True)
class AbortNow:
    """Abort the workflow: another try would repeat effects for the same refusal, or be too late."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Abandon:
    """Write nothing more: the claim is lost, or the store refuses to serve us (`error`)."""

    error: Exception | None = None


Decision = Park | Release | AbortNow | Abandon

_RANKS: tuple[type[Decision], ...] = (Park, Release, AbortNow, Abandon)


class Exit:
    """The one place where it is decided that a run ends early.

    The gravest decision stands, and of two alike the first: what a step has done outweighs that
    the worker is stopping, and a lost claim outweighs all. A decision cancels the handler; a
    handler that swallows this meets it again at its next use of the context.
    """

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self._closed = False
        self._task: asyncio.Task[Any] | None = None

    def attach(self, task: asyncio.Task[Any]) -> None:
        """Name the task that runs the handler. It is cancelled if the decision came before it."""
        self._task = task
        if self.decision is not None:
            task.cancel()

    def decide(self, decision: Decision) -> None:
        """End the run, unless its handler has ended by itself already. May be said repeatedly."""
        if self._task is not None and self._task.done():
            return
        if self.decision is None or _rank(decision) > _rank(self.decision):
            self.decision = decision
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """The handler has ended: tasks that it left behind may not go on for it."""
        self._closed = True

    @property
    def is_decided(self) -> bool:
        """Whether the end has been decided, or the handler has ended: nothing new may begin."""
        return self._closed or self.decision is not None

    async def leave(self) -> NoReturn:
        """Raise `CancelledError`, since the end has come."""
        # A handler that goes on whatever is raised must not keep the event loop to itself.
        await asyncio.sleep(0)
        raise asyncio.CancelledError


def _rank(decision: Decision) -> int:
    return _RANKS.index(type(decision))

"""Ending a run before its handler returns."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn


@dataclass(frozen=True, slots=True)
class Park:
    """Leave memory until a nap ends, or until a message comes of one of the names.

    `mail` is the count of messages at which the mailbox held none of these.
    """

    wake_up_at: datetime
    names: tuple[str, ...] = ()
    mail: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """Release the claim to other workers, since this one is stopping."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start over, with this input as it is stored."""

    input: Any


@dataclass(frozen=True, slots=True)
class AbortNow:
    """Abort the workflow: a value or a record was refused for good, or its deadline has passed."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Abandon:
    """Write nothing more: the claim is lost, or the store refuses calls with `error`."""

    error: Exception | None = None


Decision = Park | Release | Restart | AbortNow | Abandon

_RANKS: tuple[type[Decision], ...] = (Park, Release, Restart, AbortNow, Abandon)


class Exit:
    """The one place where a run is decided to end early.

    Of several decisions the highest rank counts, and the first of one rank: a restart outranks a
    stopping worker, a refused step outranks both, and a lost claim outranks everything. A decision
    cancels the handler. If the handler swallows the cancellation, its next use of the context
    cancels it again.
    """

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self.is_decided = False
        """Whether nothing new may begin: a decision has been made, or the handler has ended."""
        self._task: asyncio.Task[Any] | None = None

    def attach(self, task: asyncio.Task[Any]) -> None:
        """Set the task that runs the handler, and cancel it if a decision came first."""
        self._task = task
        if self.decision is not None:
            task.cancel()

    def decide(self, decision: Decision) -> None:
        """End the run, unless its handler has ended already. May be called repeatedly."""
        if self._task is not None and self._task.done():
            return
        if self.decision is None or _rank(decision) > _rank(self.decision):
            self.decision, self.is_decided = decision, True
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Note that the handler has ended: tasks that it left behind may begin nothing more."""
        self.is_decided = True

    async def leave(self) -> NoReturn:
        """Raise `CancelledError`."""
        # Yield first: a handler that loops and catches everything must not block the event loop.
        await asyncio.sleep(0)
        raise asyncio.CancelledError


def _rank(decision: Decision) -> int:
    return _RANKS.index(type(decision))

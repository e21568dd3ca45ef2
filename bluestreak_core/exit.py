"""How a run is told to end before its handler has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bluestreak_core.errors import UnstorableValue, ValueTooLarge


@dataclass(frozen=True, slots=True)
class Park:
    """Leave memory, and come back when a nap ends."""

    wake_up_at: datetime


@dataclass(frozen=True, slots=True)
class HandBack:
    """Leave the workflow to another worker, since this one is stopping."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Write nothing more: the claim is lost."""


Decision = Park | HandBack | Drop


class Exit:
    """The one place where it is decided that a run ends early.

    The first decision stands, except that a lost claim overrides all. A decision cancels the
    handler; a handler that swallows this meets it again at its next use of the context.
    """

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self.refusal: UnstorableValue | ValueTooLarge | None = None
        """The error of a step whose output could not be stored: it ends the workflow for good."""
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
        if self.decision is None or isinstance(decision, Drop):
            self.decision = decision
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """The handler has ended: tasks that it left behind may not go on for it."""
        self._closed = True

    def check(self) -> None:
        """Raise `CancelledError` once the end has been decided or has come; else the refusal."""
        if self.decision is not None or self._closed:
            raise asyncio.CancelledError
        if self.refusal is not None:
            raise self.refusal

"""`ctx.now`, `ctx.uuid`, `ctx.random`: what differs in each run, recorded as a step.

Code outside of steps runs again in each replay, and would read another time and draw other numbers.
"""

from __future__ import annotations

import random
from collections.abc import Coroutine
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from bluestreak_core.run.frame import Frame
from bluestreak_core.run.verb.step import step


def now(frame: Frame, step_id: str) -> Coroutine[Any, Any, datetime]:
    """The store's time when a run first got here."""

    async def read_clock() -> datetime:
        return frame.journal.clock.now()

    return step(frame, step_id, read_clock, (), None, None)


def uuid(frame: Frame, step_id: str) -> Coroutine[Any, Any, UUID]:
    """A random UUID, drawn when a run first got here."""
    return step(frame, step_id, _draw_uuid, (), None, None)


def random_number(frame: Frame, step_id: str) -> Coroutine[Any, Any, float]:
    """A random number, drawn when a run first got here."""
    return step(frame, step_id, _draw_number, (), None, None)


async def _draw_uuid() -> UUID:
    return uuid4()


async def _draw_number() -> float:
    return random.random()  # noqa: S311 - nothing secret

"""Where stuck code waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import FrameType
from typing import Any

import bluestreak_core
import bluestreak_memory
from bluestreak_core.run.call import called_by

_NOT_TO_BLAME = (*asyncio.__path__, *bluestreak_core.__path__, *bluestreak_memory.__path__)
_SHOWN = 10


class Stuck(AssertionError):
    """The awaited event did not happen in virtual time.

    `places` says where code waits, and `parked` has the workflows that wait for messages, by id,
    with the names of these.
    """

    def __init__(
        self,
        now: datetime,
        tasks: Iterable[asyncio.Task[Any]],
        parked: Mapping[str, tuple[str, ...]],
    ) -> None:
        self.now = now
        self.places = list(filter(None, map(_place, tasks)))
        self.parked = dict(parked)
        super().__init__(now, self.places, self.parked)

    def __str__(self) -> str:
        lines = [f"it is {self.now}, and what was waited for has not happened"]
        lines += [f"waiting in {place}" for place in self.places]
        for workflow_id, names in list(self.parked.items())[:_SHOWN]:
            lines.append(f"workflow {workflow_id!r} waits for {' or '.join(map(repr, names))}")
        if len(self.parked) > _SHOWN:
            lines.append(f"and {len(self.parked) - _SHOWN} more wait for messages")
        return "\n  ".join(lines)


def _place(task: asyncio.Task[Any]) -> str | None:
    """The innermost line of a waiting task outside of Bluestreak and asyncio."""
    theirs = [
        frame
        for frame in _frames(task.get_coro())
        if not frame.f_code.co_filename.startswith(_NOT_TO_BLAME)
    ]
    if not theirs:
        return None
    code = theirs[-1].f_code
    return f"{code.co_qualname} at {code.co_filename}:{theirs[-1].f_lineno}"


def _frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine and of those that it awaits, the outermost first."""
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        yield frame
        awaited = called_by(awaited.cr_await) or awaited.cr_await

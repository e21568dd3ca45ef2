"""What a run publishes, and when it is written."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from bluestreak_core.concurrency import end_all, wait_ended
from bluestreak_core.errors import (
    ClaimLost,
    CorruptDocument,
    StoreRefused,
    UnstorableValue,
    ValueTooLarge,
)
from bluestreak_core.model import Published
from bluestreak_core.run.exit import Abandon, AbortNow, Exit
from bluestreak_core.run.journal import Journal
from bluestreak_core.store import ValueRules

MAX_PUBLISHED_BYTES = 64 * 1024
"""The largest size of all that one workflow has published, with the names."""

PAUSE = timedelta(milliseconds=100)
"""The shortest time between two writes of one run."""

_OVERHEAD = 100
"""The bytes that a value takes besides itself and its name, at most."""


class Publisher:
    """What one run publishes.

    A task writes it, so that the handler does not wait. Nothing is written twice in a `PAUSE`, and
    `flush` writes the rest before the claim ends.
    """

    def __init__(self, journal: Journal, exit: Exit) -> None:
        self._journal = journal
        self._exit = exit
        self._latest: dict[str, Published] = {}
        for latest in journal.workflow.published:
            self._latest[latest.name] = latest
        self._counts: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._is_dirty = False
        self._is_writing = False
        self._is_ending = False
        self._writer: asyncio.Task[None] | None = None
        self._next_at = 0.0
        """When it may write again, by the monotonic clock."""

    @property
    def is_used(self) -> bool:
        """Whether this run has published something that was to be written."""
        return self._writer is not None

    def publish(self, name: str, value: Any) -> None:
        """Note a value, unless an earlier run has published as many under this name.

        Raises `UnstorableValue`, `ValueTooLarge` and `Unsupported`.
        """
        number = self._counts[name] = self._counts.get(name, 0) + 1
        rules = self._journal.published_rules()
        generation = self._journal.workflow.generation
        before = self._latest.get(name)
        if before is not None and (generation, number) <= (before.generation, before.number):
            return
        stored = self._stored(name, value, rules)
        now = self._journal.clock.now()
        self._latest[name] = Published(
            name=name, number=number, value=stored, at=now, generation=generation
        )
        self._is_dirty = True
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_on())

    async def flush(self) -> None:
        """Write what is not written yet. Raises what the store raises."""
        if self._writer is None:
            return
        if self._is_writing:
            self._is_ending = True
            await wait_ended(self._writer)
        await self.close()
        if self._is_dirty:
            await self._write()

    async def close(self) -> None:
        """End the task that writes."""
        if self._writer is not None:
            await end_all([self._writer])

    def _stored(self, name: str, value: Any, rules: ValueRules) -> Any:
        """The value as it is stored, if there is room for it beside the others."""
        if not self._sizes:
            for known in self._latest.values():
                self._sizes[known.name] = _size(rules, known.name, known.value, "stored")[1]
        taken = sum(size for other, size in self._sizes.items() if other != name)
        what = f"published value {name!r} of workflow {self._journal.workflow.workflow_id!r}"
        stored, self._sizes[name] = _size(
            rules, name, value, what, room=MAX_PUBLISHED_BYTES - taken
        )
        return stored

    async def _write_on(self) -> None:
        """Write until nothing is left to write."""
        clock = self._journal.clock
        try:
            while self._is_dirty and not self._is_ending:
                if (left := self._next_at - clock.monotonic()) > 0:
                    await clock.sleep(timedelta(seconds=left))
                await self._write()
        except ClaimLost:
            return  # the run notices
        except (UnstorableValue, ValueTooLarge, CorruptDocument) as refusal:
            self._exit.decide(AbortNow(refusal))
        except StoreRefused as refusal:
            self._exit.decide(Abandon(refusal))

    async def _write(self) -> None:
        self._is_dirty, self._is_writing = False, True
        try:
            await self._journal.publish(tuple(self._latest.values()))
        except BaseException:  # it may be written or not, and a repeat does no harm
            self._is_dirty = True
            raise
        finally:
            self._is_writing = False
            self._next_at = self._journal.clock.monotonic() + PAUSE.total_seconds()


def _size(
    rules: ValueRules, name: str, value: Any, what: str, room: int = MAX_PUBLISHED_BYTES
) -> tuple[Any, int]:
    """A value as it is stored, and its size with its name."""
    beside = len(name.encode()) + _OVERHEAD
    stored, size = rules.round_trip(value, what, max(0, room - beside))
    return stored, size + beside

"""Group commit: calls that arrive during a write share the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bluestreak_core.concurrency import finish_despite_cancel
from bluestreak_core.errors import StoreUnavailable

Item = TypeVar("Item")

MAX_ITEMS = 250
MAX_BYTES = 16 * 1024 * 1024
MAX_WRITES = 2
SLOW = 0.2
"""Seconds after which a write is slow, for example because a transaction has locked a record."""
MAX_SLOW_WRITES = 16

Outcome = Exception | None
"""The outcome of one item: None if it was written, else an error that no other caller shares."""


@dataclass(eq=False, slots=True)
class _Call(Generic[Item]):
    item: Item
    size: int
    outcome: asyncio.Future[Outcome]
    write: asyncio.Task[None] | None = None


class GroupCommit(Generic[Item]):
    """Writes the items of concurrent calls in groups, and answers each call as if it were alone.

    `write` takes the items of a group and returns an outcome for each, in their order. A call
    returns when the write that holds its item is acknowledged. No call waits for a group to fill:
    a group leaves as soon as fewer than `max_writes` are under way, with every pending item that
    fits into `max_items` and `max_bytes`. A larger item goes alone. With two writes, the next group
    is prepared here while the server is busy with the one before.

    A slow write does not hold up the others: after `SLOW` seconds it no longer counts against
    `max_writes`, up to `MAX_SLOW_WRITES` of them.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]],
        *,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
        max_writes: int = MAX_WRITES,
    ) -> None:
        self._write = write
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_writes = max_writes
        self._pending: deque[_Call[Item]] = deque()
        self._writes: set[asyncio.Task[None] | None] = set()
        self._slow_writes: set[asyncio.Task[None] | None] = set()
        self._is_flush_scheduled = False

    async def call(self, item: Item, size: int) -> Outcome:
        """Write an item of `size` bytes, and return its outcome.

        A call that is cancelled before its group leaves writes nothing. A call that is cancelled
        later raises `CancelledError` once the write has ended.
        """
        loop = asyncio.get_running_loop()
        call = _Call(item, size, loop.create_future())
        self._pending.append(call)
        if not self._is_flush_scheduled and len(self._writes) < self._max_writes:
            self._is_flush_scheduled = True
            loop.call_soon(self._flush)  # so that calls of the same turn of the loop come along
        try:
            return await call.outcome
        except asyncio.CancelledError:
            if call.write is not None:
                await finish_despite_cancel(call.write)
            raise

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        while len(self._writes) < self._max_writes and (group := self._next_group()):
            write = asyncio.get_running_loop().create_task(self._carry_out(group))
            self._writes.add(write)
            asyncio.get_running_loop().call_later(SLOW, self._detach_slow, write)
            for call in group:
                call.write = write

    def _detach_slow(self, write: asyncio.Task[None]) -> None:
        if write in self._writes and len(self._slow_writes) < MAX_SLOW_WRITES:
            self._writes.remove(write)
            self._slow_writes.add(write)
            self._flush()

    def _next_group(self) -> list[_Call[Item]]:
        group: list[_Call[Item]] = []
        size = 0
        while self._pending and len(group) < self._max_items:
            call = self._pending[0]
            size += call.size
            if group and size > self._max_bytes:
                break
            self._pending.popleft()
            if call.outcome.done():  # its caller was cancelled
                size -= call.size
            else:
                group.append(call)
        return group

    async def _carry_out(self, group: list[_Call[Item]]) -> None:
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._write([call.item for call in group])
        except asyncio.CancelledError:
            outcomes = [StoreUnavailable("the event loop is being closed") for _ in group]
        except Exception as error:  # noqa: BLE001 - not swallowed: each of the callers gets it
            outcomes = [error] * len(group)
        self._writes.discard(asyncio.current_task())
        self._slow_writes.discard(asyncio.current_task())
        self._flush()  # the next group is on its way before the callers go on
        for call, outcome in zip(group, outcomes, strict=True):
            if not call.outcome.done():
                call.outcome.set_result(outcome)

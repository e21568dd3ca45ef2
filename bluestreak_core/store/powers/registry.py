"""The power to keep a record of each worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from bluestreak_core.model import WorkerRecord


@runtime_checkable
class SupportsRegistry(Protocol):
    """A store that knows the live workers. Nothing but what people look at depends on it."""

    async def register_worker(self, record: WorkerRecord) -> None:
        """Store the record of a worker, in place of the one of the same name.

        Once its `until` has passed, the record may be deleted.
        """
        ...

    async def unregister_worker(self, name: str) -> None:
        """Forget a worker. Do nothing if it is not known."""
        ...

    async def find_workers(self, now: datetime) -> Sequence[WorkerRecord]:
        """The records whose `until` is after `now`, by name. Skip unreadable documents."""
        ...

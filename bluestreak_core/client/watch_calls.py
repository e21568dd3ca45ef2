"""The calls of a client about what workflows publish."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from bluestreak_core.argument import Duration
from bluestreak_core.client.watching import Watching
from bluestreak_core.model import Published


class WatchCalls:
    """Reads what workflows publish; a part of `Client`."""

    _watching: Watching

    async def published(self, workflow_id: str, name: str, default: Any = None) -> Any:
        """The latest value that a workflow has published under a name, else the default.

        No worker is needed, and the workflow may have ended. Raises `InvalidId`,
        `WorkflowNotFound`, and `Unsupported` if the store cannot publish.
        """
        return await self._watching.published(workflow_id, name, default)

    def watch(self, workflow_id: str, *, pause: Duration = 0.5) -> AsyncIterator[Published]:
        """Yield the values that a workflow has published, then each change, until its end.

        It polls every `pause`, in seconds or as a `timedelta`, and notices the end at once. Of
        several values of one name in between it yields the last one. Callers in one process share
        their queries.

        Raises `InvalidId`, `InvalidDuration`, `NotInitialised` and `Unsupported` at once;
        `WorkflowNotFound`, `WrongEventLoop` and the store's errors during iteration.
        """
        return self._watching.watch(workflow_id, pause)

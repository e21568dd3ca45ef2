"""Looking at what workflows publish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core.argument import Duration, check_id, to_positive_timedelta
from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.errors import WorkflowNotFound
from bluestreak_core.model import Published, Standing
from bluestreak_core.store import Store, SupportsPublishing, require

_SHORT_PAUSE = 0.01
"""In seconds, after a wait that took no time."""


class Watching:
    """The calls of a client that read what was published; see `WatchCalls`."""

    def __init__(self, store: OpenStore) -> None:
        self._store = store

    async def published(self, workflow_id: str, name: str, default: Any) -> Any:
        """The latest value of a name."""
        store = self._store.get("published()")
        require(store, SupportsPublishing, "published()")
        workflow_id = check_id("workflow id", workflow_id)
        name = check_id("name of a published value", name)
        for latest in (await _standing(store, workflow_id)).published:
            if latest.name == name:
                return latest.value
        return default

    def watch(self, workflow_id: str, pause: Duration) -> AsyncIterator[Published]:
        """Each change that is seen, until the workflow has ended."""
        self._store.require_for_later(SupportsPublishing, "watch()")
        span = to_positive_timedelta("pause", pause)
        return self._changes(check_id("workflow id", workflow_id), span)

    async def _changes(self, workflow_id: str, pause: timedelta) -> AsyncIterator[Published]:
        clock = self._store.clock
        seen: dict[str, Published] = {}
        while True:
            store = self._store.get("watch()")
            since = clock.now()
            standing = await _standing(store, workflow_id)
            for latest in standing.published:
                if _is_another(latest, seen.get(latest.name)):
                    seen[latest.name] = latest
                    yield latest
            if standing.status.ended:
                break
            await store.wait_for_end(workflow_id, since, pause)
            if clock.now() <= since:
                await asyncio.sleep(_SHORT_PAUSE)


async def _standing(store: Store, workflow_id: str) -> Standing:
    standing = await store.find_standing(workflow_id)
    if standing is None:
        raise WorkflowNotFound(workflow_id)
    return standing


def _is_another(latest: Published, seen: Published | None) -> bool:
    """Whether this was published after what was seen. Its value may equal nothing, such as NaN."""
    return seen is None or _place(latest) != _place(seen)


def _place(published: Published) -> tuple[int, int, datetime]:
    return published.generation, published.number, published.at

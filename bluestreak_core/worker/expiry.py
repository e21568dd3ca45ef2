"""Deleting what ended long ago, now and then, beside the work of a worker.

Not by an index that lets documents expire: that would delete a workflow and leave its steps to the
next one of its id, or take the steps of a workflow that is about to be retried.
"""

from __future__ import annotations

import logging
import random
from datetime import timedelta

from bluestreak_core.argument import to_positive_timedelta
from bluestreak_core.clock import Clock
from bluestreak_core.errors import StoreUnavailable
from bluestreak_core.store import ENDED, Store, SupportsPruning, require

logger = logging.getLogger(__name__)

SHORTEST_PAUSE = timedelta(minutes=1)
"""Between two looks of a worker; the longest is twice that."""

AT_ONCE = 100
BREATH = timedelta(milliseconds=500)
"""Between two batches, in which others have the store for themselves."""


class Expiry:
    """Deletes what ended so long ago, for as long as it runs.

    Workers that start together do not look together, since each pause is of a random length.
    """

    def __init__(self, store: SupportsPruning, clock: Clock, after: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._after = after

    async def run(self) -> None:
        """Delete until cancelled. An unreachable store is left alone until the next time."""
        while True:
            await self._clock.sleep(SHORTEST_PAUSE * random.uniform(1, 2))  # noqa: S311 - no secret
            try:
                await self._expire()
            except StoreUnavailable as error:
                logger.warning("nothing has been expired, trying again later: %r", error)

    async def _expire(self) -> None:
        while True:
            now = self._clock.now()
            pruned = await self._store.prune(now - self._after, ENDED, AT_ONCE, now)
            if not pruned.workflows:
                break
            logger.info("expired: %r", pruned)
            await self._clock.sleep(BREATH)


def to_expiry(name: str, store: Store, after: object) -> Expiry | None:
    """The expiry of a store after a duration; None where nothing is to expire."""
    if after is None:
        return None
    span = to_positive_timedelta(name, after)
    return Expiry(require(store, SupportsPruning, name), store.clock, span)

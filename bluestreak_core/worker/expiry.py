"""Deleting workflows that ended long ago: a chore of a worker.

An index that lets documents expire cannot do this. It would delete a workflow and leave its steps
to the next one of the same id, or delete the steps of a workflow that is about to be retried.
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
"""The shortest pause between two rounds of a worker; the longest is twice as long."""

AT_ONCE = 100
"""The largest number of workflows in a batch."""

BREATH = timedelta(milliseconds=500)
"""The pause between two batches, so that deletions do not slow down other calls."""


class Expiry:
    """Deletes workflows that ended longer ago than `after`.

    Pauses have a random length, so that workers that start together do not delete together.
    """

    def __init__(self, store: SupportsPruning, clock: Clock, after: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._after = after

    async def run(self) -> None:
        """Delete until cancelled. In an outage of the store, try again in the next round."""
        while True:
            await self._clock.sleep(SHORTEST_PAUSE * random.uniform(1, 2))  # noqa: S311 - no secret
            try:
                await self._expire()
            except StoreUnavailable as error:
                logger.warning(
                    "ended workflows could not be deleted, trying again later: %r", error
                )

    async def _expire(self) -> None:
        while True:
            now = self._clock.now()
            pruned = await self._store.prune(now - self._after, ENDED, AT_ONCE, now)
            if not pruned.workflows:
                break
            logger.info("deleted ended workflows: %r", pruned)
            await self._clock.sleep(BREATH)


def to_expiry(name: str, store: Store, after: object) -> Expiry | None:
    """The expiry of a store's workflows after a duration; None if that is None.

    Raises `InvalidDuration`, with `name`, and `Unsupported`.
    """
    if after is None:
        return None
    span = to_positive_timedelta(name, after)
    return Expiry(require(store, SupportsPruning, name), store.clock, span)

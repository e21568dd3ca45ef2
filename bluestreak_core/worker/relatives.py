"""Settling the ends of workflows: a chore of a worker.

The process that ends a workflow settles it at once. This chore settles it if that process has died.
"""

from __future__ import annotations

import logging
import random
from datetime import timedelta

from bluestreak_core.errors import StoreError
from bluestreak_core.run.settling import settle_left
from bluestreak_core.store import Store

logger = logging.getLogger(__name__)


class Relatives:
    """Settles workflows that have ended; looks for them as the worker starts, and repeatedly.

    Pauses have a random length, so that workers that start together do not look together.
    """

    def __init__(self, store: Store, every: timedelta) -> None:
        self._store = store
        self._every = every

    async def run(self) -> None:
        """Settle until cancelled. After an error of the store, try again in the next round."""
        while True:
            try:
                await settle_left(self._store)
            except StoreError as error:
                logger.warning(
                    "ended workflows whose relatives have to know could not be found: %r", error
                )
            pause = self._every * random.uniform(0.5, 1)  # noqa: S311 - nothing secret
            await self._store.clock.sleep(pause)

"""What a worker reports about itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from bluestreak_core.clock import Clock
from bluestreak_core.errors import StoreUnavailable
from bluestreak_core.errors.text import counted
from bluestreak_core.model import WorkerState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """A worker at one moment.

    - `worker`: its name, as in the claim log; None if it is stopped.
    - `runs`: how many of its `max_concurrency` slots are taken.
    - `store_failures`: claims and renewals that failed in a row because the store was unavailable.
    - `last_store_error`: the last of these errors. `last_contact_at`: when the store last answered.
    """

    state: WorkerState
    worker: str | None
    runs: int
    max_concurrency: int
    store_failures: int = 0
    last_store_error: str | None = None
    last_contact_at: datetime | None = None


class Contact:
    """Whether the store answers one worker."""

    def __init__(self, worker: str, clock: Clock) -> None:
        self.failures = 0
        """The number of calls that have failed since the last answer."""
        self.last_error: str | None = None
        self.last_at: datetime | None = None
        self._worker = worker
        self._clock = clock

    def succeeded(self) -> None:
        """Note that the store has answered."""
        if self.failures:
            failures = counted(self.failures, "failure")
            logger.info(
                "%s: store available again after %s",
                *(self._worker, failures),
                extra={"worker": self._worker},
            )
        self.failures = 0
        self.last_at = self._clock.now()

    def failed(self, error: StoreUnavailable) -> None:
        """Note that the store has not answered, and that the caller tries again."""
        self.failures += 1
        self.last_error = str(error)
        logger.warning(
            "%s: store unavailable, trying again: %r",
            *(self._worker, error),
            extra={"worker": self._worker},
        )

"""What a worker reports about itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bluestreak_core.clock import Clock
from bluestreak_core.errors import StoreUnavailable
from bluestreak_core.errors.text import counted
from bluestreak_core.model import RunEnd, WorkerState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """A worker at one moment.

    - `worker`: its name, as in the claim log; None if it is stopped.
    - `runs`: how many of its `max_concurrency` slots are taken.
    - `store_failures`: claims and renewals that failed in a row because the store was unavailable.
    - `last_store_error`: the last of these errors. `last_contact_at`: when the store last answered.
    - `is_ready`: whether it polls, and the store answers. Not so while it drains, before its first
      claim, once a call has failed, and if no answer has come for a lease longer than usual.
    - `claims`: how many workflows it has claimed. `ends`: how these runs have ended, so far.
    """

    state: WorkerState
    worker: str | None
    runs: int
    max_concurrency: int
    store_failures: int = 0
    last_store_error: str | None = None
    last_contact_at: datetime | None = None
    is_ready: bool = False
    claims: int = 0
    ends: Mapping[RunEnd, int] = field(default_factory=dict)


class Contact:
    """Whether the store answers one worker."""

    def __init__(self, worker: str, clock: Clock) -> None:
        self.failures = 0
        """The number of calls that have failed since the last answer."""
        self.last_error: str | None = None
        self.last_at: datetime | None = None
        self.claims = 0
        """The number of workflows that were claimed."""
        self._worker = worker
        self._clock = clock
        self._heard_at = clock.monotonic()

    def is_well(self, within: timedelta) -> bool:
        """Whether a claim has succeeded, no call has failed since, and an answer is so young."""
        age = self._clock.monotonic() - self._heard_at
        return self.last_at is not None and not self.failures and age <= within.total_seconds()

    def heard(self) -> None:
        """Note that the store has answered a call that says nothing of claims."""
        self._heard_at = self._clock.monotonic()

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
        self.heard()

    def failed(self, error: StoreUnavailable) -> None:
        """Note that the store has not answered, and that the caller tries again."""
        self.failures += 1
        self.last_error = str(error)
        logger.warning(
            "%s: store unavailable, trying again: %r",
            *(self._worker, error),
            extra={"worker": self._worker},
        )

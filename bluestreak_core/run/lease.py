"""A claim as its holder sees it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency.outage import pauses
from bluestreak_core.errors import ClaimLost, StoreUnavailable
from bluestreak_core.model import Claim

T = TypeVar("T")
Leased = TypeVar("Leased")
logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3


def by_span(
    leased: Iterable[Leased], lease_of: Callable[[Leased], Lease]
) -> dict[timedelta, list[Leased]]:
    """What is leased, by how long its leases are: a store renews for one span at a time."""
    groups: dict[timedelta, list[Leased]] = {}
    for one in leased:
        groups.setdefault(lease_of(one).span, []).append(one)
    return groups


class Lease:
    """How long this process may act on a claim.

    The deadline is measured on the monotonic clock, from before the claim or its last renewal was
    sent. So it is never later than the instant from which another worker may take over, and it has
    passed when a process wakes up that was stopped for longer than its lease.

    `left`, `error`, `is_withheld` and `extend` may be used from any thread: the deadline is one
    float, which is read whole.
    """

    def __init__(self, claim: Claim, clock: Clock, deadline: float, span: timedelta) -> None:
        self.claim = claim
        self.span = span
        """How long a renewal makes it. What was claimed may be shorter."""
        self.is_withheld = False
        """Whether a renewal would get in the way of a transaction of its own run."""
        self._clock = clock
        self._deadline = deadline
        self._extending = threading.Lock()
        self._lost: ClaimLost | None = None

    @property
    def left(self) -> timedelta:
        """The time until the deadline; negative when it has passed."""
        return timedelta(seconds=self._deadline - self._clock.monotonic())

    def is_due_within(self, pause: timedelta) -> bool:
        """Whether more than a third of it will have been used after a pause."""
        return self.left - pause <= self.span - self.span / RENEWALS_PER_LEASE

    @contextmanager
    def withheld(self) -> Iterator[None]:
        """Not to be renewed beside the transaction that this block is."""
        self.is_withheld = True
        try:
            yield
        finally:
            self.is_withheld = False

    @property
    def error(self) -> ClaimLost | None:
        """Why the claim is no longer ours, or None while it is."""
        if self._lost is None and self._clock.monotonic() >= self._deadline:
            self.lose("outlived its lease")
        return self._lost

    def extend(self, deadline: float) -> None:
        """The claim was renewed. A lease that was lost stays lost, and none is shortened.

        One that somebody was told of as lost is, too: a handler that has met `ClaimLost` must not
        find itself the owner again, and have failed by it.
        """
        with self._extending:
            if self._lost is None:
                self._deadline = max(self._deadline, deadline)

    def lose(self, reason: str) -> None:
        """The claim is no longer ours."""
        self._lost = self._loss(reason)

    def check(self) -> None:
        """Raise `ClaimLost` unless the claim is ours."""
        if (error := self.error) is not None:
            raise error

    async def persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a store call until the store answers, for as long as the claim is ours.

        Raises `ClaimLost`, from the last `StoreUnavailable`, when the lease runs out first.
        """
        self.check()
        outage: Iterator[timedelta] | None = None
        while True:
            try:
                return await call()
            except StoreUnavailable as unavailable:
                logger.warning(
                    "workflow %r: store unavailable, trying again: %r",
                    self.claim.workflow_id,
                    unavailable,
                )
                outage = outage or pauses()
                await self._clock.sleep(min(next(outage), self.left))
                if (error := self.error) is not None:
                    raise error from unavailable

    def _loss(self, reason: str) -> ClaimLost:
        return ClaimLost(self.claim.workflow_id, self.claim.number, reason)

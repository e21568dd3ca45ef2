"""A claim as its holder sees it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import until_answered
from bluestreak_core.errors import ClaimLost, StoreUnavailable
from bluestreak_core.model import Claim

T = TypeVar("T")
logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3


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
    def loss(self) -> ClaimLost | None:
        """Why the claim is no longer ours, as far as that was noticed; `error` looks as well."""
        return self._lost

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

    def until_answered(self, call: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Make a store call until the store answers, for as long as the claim is ours.

        Raises `ClaimLost`, from the last `StoreUnavailable`, when the lease runs out first.
        """
        self.check()
        return until_answered(call, self._pause)

    async def _pause(self, span: timedelta, unavailable: StoreUnavailable) -> None:
        logger.warning(
            "workflow %r: store unavailable, trying again: %r", self.claim.workflow_id, unavailable
        )
        await self._clock.sleep(min(span, self.left))
        if (error := self.error) is not None:
            raise error from unavailable

    def _loss(self, reason: str) -> ClaimLost:
        return ClaimLost(self.claim.workflow_id, self.claim.number, reason)


class Renewal:
    """One renewal of leases that have one span. May be used from any thread."""

    def __init__(self, span: timedelta, leases: Sequence[Lease], clock: Clock) -> None:
        self._span = span
        self._leases = leases
        self._clock = clock
        self._deadline = 0.0

    def send(self, renew: Callable[[Sequence[Claim], datetime, timedelta], T]) -> T:
        """What `Store.renew` or `Renewer.renew` returns for these leases."""
        # The new deadline is measured before all else: the process may be halted between any two
        # lines from here on, while the lease in the store runs.
        self._deadline = self._clock.monotonic() + self._span.total_seconds()
        return renew([lease.claim for lease in self._leases], self._clock.now(), self._span)

    def settle(self, lost: Iterable[Claim]) -> list[Lease]:
        """Extend the leases whose claims are in force; the others, for the caller to lose."""
        lost_keys = {claim.key for claim in lost}
        for lease in self._leases:
            if lease.claim.key not in lost_keys:
                lease.extend(self._deadline)
        return [lease for lease in self._leases if lease.claim.key in lost_keys]


def renewals(leases: Iterable[Lease], clock: Clock) -> Iterator[Renewal]:
    """What it takes to renew these leases: one renewal for each span."""
    by_span: dict[timedelta, list[Lease]] = {}
    for lease in leases:
        by_span.setdefault(lease.span, []).append(lease)
    for span, group in by_span.items():
        yield Renewal(span, group, clock)

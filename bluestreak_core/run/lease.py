"""Leases: how long a claim may be acted on, and their renewal."""

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
from bluestreak_core.run.log import fields

T = TypeVar("T")
logger = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3


class Lease:
    """How long this process may act on a claim.

    The deadline is a time of the monotonic clock, measured before the claim or its last renewal is
    sent. So it is never later than the instant at which another worker may take over, even if this
    process was stopped or the machine suspended in between.

    `left`, `error`, `is_withheld` and `extend` may be used from any thread: the deadline is a
    single float, which is read atomically.
    """

    def __init__(self, claim: Claim, clock: Clock, deadline: float, span: timedelta) -> None:
        self.claim = claim
        self.span = span
        """The length of a renewed lease. The first one, from the claim, may be shorter."""
        self.is_withheld = False
        """Whether a renewal would conflict with a transaction of its own run."""
        self._clock = clock
        self._deadline = deadline
        self._extending = threading.Lock()
        self._lost: ClaimLost | None = None

    @property
    def left(self) -> timedelta:
        """The time until the deadline; negative when it has passed."""
        return timedelta(seconds=self._deadline - self._clock.monotonic())

    def is_due_within(self, pause: timedelta) -> bool:
        """Whether more than a third of the lease will have passed after a pause."""
        return self.left - pause <= self.span - self.span / RENEWALS_PER_LEASE

    @contextmanager
    def withheld(self) -> Iterator[None]:
        """Withhold the lease from renewal during this block, which is a transaction."""
        self.is_withheld = True
        try:
            yield
        finally:
            self.is_withheld = False

    @property
    def loss(self) -> ClaimLost | None:
        """The loss of the claim if it was noticed, else None; unlike `error`, without a check."""
        return self._lost

    @property
    def error(self) -> ClaimLost | None:
        """The loss of the claim, or None; notices that the deadline has passed."""
        if self._lost is None and self._clock.monotonic() >= self._deadline:
            self.lose("outlived its lease")
        return self._lost

    def extend(self, deadline: float) -> None:
        """Set a later deadline after a renewal. A lost lease stays lost; none is shortened.

        Once `error` has reported the loss, a late renewal must not undo it: the handler may have
        failed with that `ClaimLost`, and would now record the failure under a claim in force.
        """
        with self._extending:
            if self._lost is None:
                self._deadline = max(self._deadline, deadline)

    def lose(self, reason: str) -> None:
        """Note that the claim is lost."""
        self._lost = ClaimLost(self.claim.workflow_id, self.claim.number, reason)

    def check(self) -> None:
        """Raise `ClaimLost` if the claim is lost."""
        if (error := self.error) is not None:
            raise error

    def until_answered(self, call: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Repeat a store call until the store answers, as long as the lease lasts.

        Raises `ClaimLost`, from the last `StoreUnavailable`, if the lease runs out first.
        """
        self.check()
        return until_answered(call, self._pause)

    async def _pause(self, span: timedelta, unavailable: StoreUnavailable) -> None:
        logger.warning(
            "workflow %r: store unavailable, trying again: %r",
            *(self.claim.workflow_id, unavailable),
            extra=fields(self.claim.workflow),
        )
        await self._clock.sleep(min(span, self.left))
        if (error := self.error) is not None:
            raise error from unavailable


class Renewal:
    """One renewal of several leases of the same span: `send`, then `settle`. For any thread."""

    def __init__(self, span: timedelta, leases: Sequence[Lease], clock: Clock) -> None:
        self._span = span
        self._leases = leases
        self._clock = clock
        self._deadline = 0.0

    def send(self, renew: Callable[[Sequence[Claim], datetime, timedelta], T]) -> T:
        """Call `renew`, which is `Store.renew` or `Renewer.renew`, and return what it returns."""
        # Measure the new deadline before anything else. The process may be stopped between any two
        # lines, and the lease in the store, which counts from `now`, would end before the deadline.
        self._deadline = self._clock.monotonic() + self._span.total_seconds()
        return renew([lease.claim for lease in self._leases], self._clock.now(), self._span)

    def settle(self, lost: Iterable[Claim]) -> list[Lease]:
        """Extend the leases whose claims are in force; return the others for the caller to lose."""
        lost_keys = {claim.key for claim in lost}
        for lease in self._leases:
            if lease.claim.key not in lost_keys:
                lease.extend(self._deadline)
        return [lease for lease in self._leases if lease.claim.key in lost_keys]


def renewals(leases: Iterable[Lease], clock: Clock) -> Iterator[Renewal]:
    """The renewals of these leases, one for each span."""
    by_span: dict[timedelta, list[Lease]] = {}
    for lease in leases:
        by_span.setdefault(lease.span, []).append(lease)
    for span, group in by_span.items():
        yield Renewal(span, group, clock)

"""The power to renew leases from a thread."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from bluestreak_core.model import (
    Claim,
)


class Renewer(Protocol):
    """Renews leases with blocking calls, from a single thread other than the event loop's.

    The event loop may be blocked at each call, so do not depend on it.
    """

    def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        """`Store.renew` as a blocking call. Connect at the first call.

        Raise `StoreUnavailable` after a third of the lease, the time between two renewals.
        """
        ...

    def close(self) -> None:
        """Release what `renew` opened, without a long wait. A repeated call does nothing."""
        ...


@runtime_checkable
class SupportsThreadRenewal(Protocol):
    """A store that can renew leases while the event loop is blocked."""

    def renewer(self) -> Renewer | None:
        """A new renewer, which the caller closes; None if this instance cannot make one."""
        ...

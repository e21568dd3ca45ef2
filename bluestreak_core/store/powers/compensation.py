"""The power to keep workflows that compensate."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable

from bluestreak_core.model import (
    Claim,
    ErrorRecord,
)


@runtime_checkable
class SupportsCompensation(Protocol):
    """A store whose workflows can compensate before they are aborted or cancelled.

    `control` carries out a `stop` where it is asked to `cancel` a workflow that compensates, and
    refuses to `retry` one that has compensated, as `machine.control_change` does. `claim` hands out
    what is due in any of the `machine.claimable` states.
    """

    async def promise(self, claim: Claim) -> None:
        """Set `compensates` on the workflow, as `machine.promise` does. Atomic.

        A repeat changes nothing. A stale caller gets `ClaimLost`: a workflow that was cancelled
        before is not changed any more.
        """
        ...

    async def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        """End the claim of a workflow that compensates, as `machine.give_up` does.

        It is `stopping`, due at once, and shows the error. A repeat changes nothing. A stale caller
        gets `ClaimLost`.
        """
        ...

    async def hand_over(self, claim: Claim, now: datetime) -> None:
        """Let nothing wait for the lease of a claim that was taken, since its run is over.

        Do so if `machine.was_taken`, as `machine.hand_over` does: a stopping workflow is due at
        once, and a paused one is as soon as it is cancelled. If not, or in a repeat, change
        nothing.
        """
        ...

    async def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        """End the claim of a compensating workflow, which is due again at an instant.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        """End a compensating workflow as its `outcome` says, like `machine.end_compensated`.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

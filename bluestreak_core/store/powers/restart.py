"""The power to start a workflow over."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from bluestreak_core.model import (
    Claim,
)


@runtime_checkable
class SupportsRestart(Protocol):
    """A store in which a workflow can start over under its own id."""

    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        """End the claim as `machine.restart` does, and forget what the workflow has recorded.

        The change of the workflow is atomic. From then on its steps, naps and attempts count as
        those of a deleted workflow of the same id, also those that a run of the last generation
        still records; compare them by `machine.is_of`. Delete them then. If that is interrupted,
        a later call completes it: `history`, the next `restart`, or `prune`.

        The mailbox stays. `received` has the ids of the messages that the run knows to be received:
        those stay received. What a step of the last generation has received without its knowledge,
        or receives from now on, is received by the new generation all the same.

        A repeat changes nothing. A stale caller gets `ClaimLost`. Refuse an input that cannot be
        stored before anything is written.
        """
        ...

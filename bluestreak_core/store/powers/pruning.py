"""The power to delete."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Protocol, runtime_checkable

from bluestreak_core.model import (
    Status,
)
from bluestreak_core.store.query import (
    Pruned,
)


@runtime_checkable
class SupportsPruning(Protocol):
    """A store that can delete workflows that have ended, with all their records."""

    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        """Delete up to `limit` workflows that ended before an instant, in one of these states.

        Delete in this order: mark the workflow with `pruned_at`, so that `control` refuses it;
        delete its steps, naps and messages; delete the workflow. So a retried workflow never lacks
        steps, and no step is left for the next workflow of its id. Complete interrupted deletions
        first, whatever instant and states this call names.

        Fewer than `limit` may be deleted; none only if nothing is left to delete. For a workflow
        that the JavaScript library ended, use the end of its last lease.
        """
        ...

"""The power to know the children of a workflow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from bluestreak_core.model import (
    Claim,
    Standing,
)


@runtime_checkable
class SupportsChildren(Protocol):
    """A store that knows the children of a workflow. It has `SupportsMessages`, too.

    `create` keeps the parent of a new workflow. What the end of a workflow means to its children
    and to its parent is settled after it, in several calls; `Workflow.unsettled` says of a workflow
    that this is to come. `prune` spares it until then.
    """

    async def adopt(self, claim: Claim) -> None:
        """Note that the workflow is about to have a child, as `machine.adopt` does.

        Needs the claim in force, and is atomic. A repeat changes nothing. A stale caller gets
        `ClaimLost`.
        """
        ...

    async def find_children(
        self, workflow_id: str, created_at: datetime | None, limit: int
    ) -> Sequence[str]:
        """The ids of up to `limit` children that can be cancelled, and end with their parent.

        Those that have ended cannot, nor those that compensate. The parent is the workflow of this
        id and `created_at`. Include every child whose creation was acknowledged before the call.
        Fewer than `limit` only if there are no more.
        """
        ...

    async def find_mail(self, workflow_id: str) -> int:
        """The `mail` of a workflow, as of the last acknowledged write; 0 if it does not exist.

        Do not read the input. Answer concurrent calls with one read, as in `Store.find_standing`.
        """
        ...

    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        """Change a workflow as `machine.deliver` does for a message of this name. Atomic.

        Do nothing if the workflow has finished, is marked for deletion, or is not the one of this
        `created_at`. A repeat counts once more.
        """
        ...

    async def find_unsettled(self, limit: int) -> Sequence[Standing]:
        """Up to `limit` workflows that have ended and are `unsettled`, without their results.

        Skip unreadable documents.
        """
        ...

    async def settle(self, seen: Standing) -> None:
        """Note that the end that was seen is settled, as `machine.settle` does. Atomic.

        Do nothing unless `machine.is_settled_by` holds.
        """
        ...

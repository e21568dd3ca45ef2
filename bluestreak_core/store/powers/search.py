"""The power to list and count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from bluestreak_core.store.query import (
    CountBy,
    ListPosition,
    Query,
    Records,
    WorkflowSummary,
)


@runtime_checkable
class SupportsSearch(Protocol):
    """A store that can list and count its workflows. No call may load an input or a result."""

    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        """The first `limit` workflows after a position that the query accepts, in its order.

        Return fewer only if there are no more, and no workflow twice, whatever changes during the
        call. Skip unreadable documents.
        """
        ...

    async def count(self, by: CountBy) -> Mapping[str, int]:
        """The numbers of workflows by status or by handler id, without zeros.

        Workflows that are marked for deletion may be counted until they are deleted.
        """
        ...

    async def records(self, workflow_id: str) -> Records:
        """All steps, naps and failed attempts of one workflow; empty if it does not exist.

        Skip unreadable documents.
        """
        ...

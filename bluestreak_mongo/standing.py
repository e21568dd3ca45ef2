"""How far workflows are, for callers that wait for their ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core.model import Standing
from bluestreak_mongo.feed import Feed
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.shared_read import SharedRead

_WITHOUT_INPUT = {wf.INPUT: 0}


class Standings:
    """Reads the standing of workflows, and lets the feed know which documents they are."""

    def __init__(self, workflows: AsyncCollection[Document], feed: Feed) -> None:
        self._feed = feed
        self._shared = SharedRead(workflows, _WITHOUT_INPUT, self._to_standing)

    async def find(self, workflow_id: str) -> Standing | None:
        """See `Store.find_standing`."""
        return await self._shared.find(workflow_id)

    def _to_standing(self, document: Mapping[str, Any]) -> Standing:
        standing = wf.to_workflow(document).standing
        self._feed.identify_for_end(document)
        return standing

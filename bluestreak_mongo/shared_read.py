"""One read of workflows for however many callers of this process ask meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bson.errors import InvalidBSON
from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core.concurrency import finish_despite_cancel, wait_ended
from bluestreak_core.errors import CorruptDocument
from bluestreak_mongo.driver import store_errors
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.unreadable import undecodable

T = TypeVar("T")

READ_AT_ONCE = 250


@dataclass(eq=False, slots=True)
class _Group(Generic[T]):
    """Callers that share a read. Those that come after it has been sent share the next one."""

    asked: dict[str, None]
    read: asyncio.Task[dict[str, T | CorruptDocument]]
    callers: int = 0


class SharedRead(Generic[T]):
    """Reads single workflows: one read at a time, for all that ask meanwhile.

    `fields` is the projection, which must contain the workflow's id, and `to_value` makes of a
    document what callers get. It may raise `CorruptDocument`.
    """

    def __init__(
        self,
        workflows: AsyncCollection[Document],
        fields: Document,
        to_value: Callable[[Mapping[str, Any]], T],
    ) -> None:
        self._workflows = workflows
        self._fields = fields
        self._to_value = to_value
        self._turn = asyncio.Lock()
        self._gathering: _Group[T] | None = None

    async def find(self, workflow_id: str) -> T | None:
        """A workflow, or None. The read is broken off when its last caller is cancelled."""
        group = self._gathering
        if group is None:
            asked: dict[str, None] = {}
            group = self._gathering = _Group(asked, asyncio.create_task(self._read(asked)))
        group.asked[workflow_id] = None
        group.callers += 1
        try:
            await wait_ended(group.read)
        finally:
            group.callers -= 1
            if not group.callers and not group.read.done():
                self._close(group.asked)
                group.read.cancel()
                await finish_despite_cancel(group.read)
        with store_errors():
            found = group.read.result().get(workflow_id)
        if isinstance(found, CorruptDocument):
            raise found
        return found

    async def _read(self, asked: dict[str, None]) -> dict[str, T | CorruptDocument]:
        async with self._turn:
            self._close(asked)
            found: dict[str, T | CorruptDocument] = {}
            ids = list(asked)
            for start in range(0, len(ids), READ_AT_ONCE):
                found |= await self._read_all(ids[start : start + READ_AT_ONCE])
            return found

    def _close(self, asked: dict[str, None]) -> None:
        """Let no other caller join."""
        if self._gathering is not None and self._gathering.asked is asked:
            self._gathering = None

    async def _read_all(self, workflow_ids: Sequence[str]) -> dict[str, T | CorruptDocument]:
        theirs = {wf.WORKFLOW_ID: {"$in": workflow_ids}}
        try:
            cursor = self._workflows.find(theirs, self._fields, batch_size=READ_AT_ONCE + 1)
            documents = await cursor.to_list(None)
            return {found[wf.WORKFLOW_ID]: self._to_value(found) for found in documents}
        except (InvalidBSON, CorruptDocument) as error:
            if len(workflow_ids) == 1:
                return {workflow_ids[0]: self._named(workflow_ids[0], error)}
            apart: dict[str, T | CorruptDocument] = {}
            for workflow_id in workflow_ids:
                apart |= await self._read_all([workflow_id])
            return apart

    def _named(self, workflow_id: str, error: InvalidBSON | CorruptDocument) -> CorruptDocument:
        if isinstance(error, CorruptDocument):
            return error
        return undecodable(self._workflows.name, workflow_id, error)

"""The JavaScript library's algorithm as a plain script: what claims and steps cost unbatched.

It follows notes on the behaviour of that library, which Bluestreak goes back to. A claim is one
find-and-update and one find; a step is one find, one upsert and one update; the end is one update.
It runs on the same driver as `MongoStore`, with the same documents and concerns. Unlike the
original it holds a bounded number of workflows, so that both sides have the same concurrency.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ASCENDING
from pymongo.asynchronous.database import AsyncDatabase

from benchmarks.database import CLAIMABLE, Document

Handler = Callable[["JavaScriptContext", Any], Awaitable[Any]]

LEASE = timedelta(seconds=10)


class JavaScript:
    """One worker of the JavaScript library."""

    def __init__(self, database: AsyncDatabase[Document], handler: Handler) -> None:
        self.workflows = database["workflows"]
        self.steps = database["steps"]
        self._handler = handler

    async def init(self) -> None:
        """Create its own indexes, in case today's store does without some of them."""
        await self.workflows.create_index([("workflowId", ASCENDING)], unique=True)
        await self.workflows.create_index([("status", ASCENDING), ("timeoutAt", ASCENDING)])
        key = [("workflowId", ASCENDING), ("stepId", ASCENDING)]
        await self.steps.create_index(key, unique=True)

    async def run_all(self, concurrency: int) -> None:
        """Claim one workflow after the other and run them concurrently until none is due."""
        slots = asyncio.Semaphore(concurrency)
        async with asyncio.TaskGroup() as runs:
            while True:
                await slots.acquire()
                workflow = await self._claim()
                if workflow is None:
                    return
                run = runs.create_task(self._run(workflow))
                run.add_done_callback(lambda _: slots.release())

    async def push(self, workflow_id: str) -> None:
        """Renew the lease."""
        await self.workflows.update_one(
            {"workflowId": workflow_id}, {"$set": {"timeoutAt": datetime.now(UTC) + LEASE}}
        )

    async def _claim(self) -> Document | None:
        now = datetime.now(UTC)
        claimed = await self.workflows.find_one_and_update(
            CLAIMABLE | {"timeoutAt": {"$lt": now}},
            {"$set": {"status": "running", "timeoutAt": now + LEASE}},
        )
        if claimed is None:
            return None
        return await self.workflows.find_one({"workflowId": claimed["workflowId"]})

    async def _run(self, workflow: Document) -> None:
        workflow_id = workflow["workflowId"]
        result = await self._handler(JavaScriptContext(self, workflow_id), workflow["input"])
        await self.workflows.update_one(
            {"workflowId": workflow_id}, {"$set": {"status": "finished", "result": result}}
        )


class JavaScriptContext:
    """What a handler of the JavaScript library gets."""

    def __init__(self, worker: JavaScript, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        self._worker = worker

    async def step(self, step_id: str, fn: Callable[[], Awaitable[Any]]) -> Any:
        key = {"workflowId": self.workflow_id, "stepId": step_id}
        found = await self._worker.steps.find_one(key)
        if found is not None:
            return found["output"]
        output = await fn()
        await self._worker.steps.update_one(key, {"$setOnInsert": {"output": output}}, upsert=True)
        await self._worker.push(self.workflow_id)
        return output

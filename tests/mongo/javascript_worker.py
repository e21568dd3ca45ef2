"""The JavaScript library's worker, by notes on its behaviour: a stranger in a mixed fleet.

It knows the fields that it writes itself and no others, and guards its writes by id alone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pymongo import ASCENDING, ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from bluestreak_core import Clock

Document = dict[str, Any]


class JavaScriptWorker:
    """One worker. Every call is one operation of the JavaScript library."""

    def __init__(self, database: AsyncDatabase[Document], clock: Clock) -> None:
        self._workflows = database["workflows"]
        self._steps = database["steps"]
        self._naps = database["naps"]
        self._clock = clock
        self._timeout = timedelta(seconds=10)

    async def init(self) -> None:
        await self._workflows.create_index([("workflowId", ASCENDING)], unique=True)
        await self._workflows.create_index([("status", ASCENDING), ("timeoutAt", ASCENDING)])
        await self._steps.create_index(
            [("workflowId", ASCENDING), ("stepId", ASCENDING)], unique=True
        )
        await self._naps.create_index(
            [("workflowId", ASCENDING), ("napId", ASCENDING)], unique=True
        )

    async def start(self, workflow_id: str, handler_id: str, input: Any) -> bool:
        document = {
            "workflowId": workflow_id,
            "handlerId": handler_id,
            "input": input,
            "failures": 0,
            "status": "idle",
            "timeoutAt": self._clock.now(),
        }
        try:
            await self._workflows.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    async def claim(self) -> str | None:
        now = self._clock.now()
        found = await self._workflows.find_one_and_update(
            {"status": {"$in": ["idle", "running", "failed"]}, "timeoutAt": {"$lt": now}},
            {"$set": {"status": "running", "timeoutAt": now + self._timeout}},
            projection={"workflowId": 1, "_id": 0},
            return_document=ReturnDocument.AFTER,
        )
        return None if found is None else found["workflowId"]

    async def step(self, workflow_id: str, step_id: str, function: Callable[[], Any]) -> Any:
        key = {"workflowId": workflow_id, "stepId": step_id}
        found = await self._steps.find_one(key)
        if found is not None:
            return found["output"]
        output = function()
        await self._steps.update_one(key, {"$setOnInsert": {"output": output}}, upsert=True)
        await self._push(workflow_id, self._timeout)
        return output

    async def sleep(self, workflow_id: str, nap_id: str, span: timedelta) -> None:
        key = {"workflowId": workflow_id, "napId": nap_id}
        found = await self._naps.find_one(key)
        if found is None:
            wake_up_at = self._clock.now() + span
            await self._naps.update_one(
                key, {"$setOnInsert": {"wakeUpAt": wake_up_at}}, upsert=True
            )
            await self._push(workflow_id, span + self._timeout)
        else:
            wake_up_at = found["wakeUpAt"]
        await self._clock.sleep(wake_up_at - self._clock.now())

    async def finish(self, workflow_id: str, result: Any) -> None:
        await self._workflows.update_one(
            {"workflowId": workflow_id}, {"$set": {"status": "finished", "result": result}}
        )

    async def fail(self, workflow_id: str, retry_in: timedelta) -> None:
        await self._workflows.update_one(
            {"workflowId": workflow_id},
            {
                "$set": {"status": "failed", "timeoutAt": self._clock.now() + retry_in},
                "$inc": {"failures": 1},
            },
        )

    async def _push(self, workflow_id: str, span: timedelta) -> None:
        await self._workflows.update_one(
            {"workflowId": workflow_id}, {"$set": {"timeoutAt": self._clock.now() + span}}
        )

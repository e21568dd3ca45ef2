"""The workflow that most benchmarks run: five trivial steps. And the proof that all of it ran."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pymongo.asynchronous.database import AsyncDatabase

from benchmarks.database import Document
from benchmarks.report import Integrity
from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import schema
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.step import OUTPUT, STEP_ID

HANDLER_ID = "five-steps"
STEP_IDS = ("reserve", "charge", "pack", "send", "tell")
STEPS = len(STEP_IDS)

Call = tuple[str, str]
"""A workflow's id and a step's."""


class Ledger:
    """The handler, every call of its steps, and when a number of handlers have returned."""

    def __init__(self, workflows: int) -> None:
        self.calls: list[Call] = []
        self.all_returned = asyncio.Event()
        self._left = workflows

    async def step(self, workflow_id: str, step_id: str) -> Document:
        self.calls.append((workflow_id, step_id))
        return {"step": step_id, "ok": True}

    async def handle(self, ctx: Context, input: Document) -> Document:
        for step_id in STEP_IDS:
            await ctx.step(step_id, self.step, ctx.workflow_id, step_id)
        self.returned()
        return {"order": input["order"]}

    def returned(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.all_returned.set()


@asynccontextmanager
async def polling(bluestreak: Bluestreak) -> AsyncIterator[Bluestreak]:
    """Poll for as long as the block lasts."""
    async with bluestreak:
        poll = asyncio.create_task(bluestreak.poll())
        try:
            yield bluestreak
        finally:
            bluestreak.stop()
            await poll


async def verify(
    database: AsyncDatabase[Document], workflows: int, calls: Sequence[Call]
) -> Integrity:
    """Look at what is stored: every workflow, every step as it was returned, each called once."""
    finished = await database[schema.WORKFLOWS].count_documents({wf.STATUS: "finished"})
    altered = await database[schema.STEPS].count_documents(
        {"$expr": {"$ne": [f"${OUTPUT}.step", f"${STEP_ID}"]}}
    )
    return Integrity(
        lost_writes=workflows - finished + altered + await _missing_steps(database, workflows),
        double_claims=await claimed_not(1, database) + len(calls) - len(set(calls)),
    )


async def claimed_not(times: int, database: AsyncDatabase[Document]) -> int:
    """How many workflows were claimed another number of times.

    The JavaScript algorithm does not count claims; its calls show what it leaves at 0.
    """
    return await database[schema.WORKFLOWS].count_documents({wf.CLAIMS: {"$nin": [0, times]}})


async def _missing_steps(database: AsyncDatabase[Document], workflows: int) -> int:
    group = {"_id": f"${wf.WORKFLOW_ID}", "steps": {"$sum": 1}}
    cursor = await database[schema.STEPS].aggregate([{"$group": group}, {"$group": _TOTAL}])
    found = await cursor.to_list(None)
    complete = found[0]["complete"] if found else 0
    return workflows - int(complete)


_TOTAL = {"_id": None, "complete": {"$sum": {"$cond": [{"$eq": ["$steps", STEPS]}, 1, 0]}}}

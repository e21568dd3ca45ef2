"""Documents that the store itself has written, to be multiplied.

A benchmark needs many thousand workflows that it does not want to measure the making of. They are
copies of real ones, so they have whatever fields the store gives them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from benchmarks.database import Document, fill, new_database, until
from benchmarks.workload import HANDLER_ID, STEP_IDS, Ledger, polling
from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import MongoStore
from bluestreak_mongo.schema import STEPS, WORKFLOWS
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.step import OUTPUT, STEP_ID

NAP_ID = "winter"
LONG = timedelta(days=90)
_PATIENCE = 20  # seconds
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimens:
    """One workflow that was just created, one that is parked, one that has finished; and a step."""

    created: Document
    parked: Document
    finished: Document
    step: Document


async def collect(url: str) -> Specimens:
    """Let the product run one workflow of each kind, and take the documents as they are stored."""
    async with new_database(url) as database:
        store = MongoStore.from_database(database)
        bluestreak = Bluestreak(store, unknown_handler="skip")
        bluestreak.register_handler(HANDLER_ID, Ledger(1).handle)
        bluestreak.register_handler("park", _nap)
        async with asyncio.timeout(_PATIENCE), polling(bluestreak):
            for kind, handler_id in _KINDS.items():
                await bluestreak.start(kind, handler_id, {"order": 1})
            await bluestreak.wait("finished")
            await until(lambda: _is_parked(bluestreak))
        return Specimens(
            created=await _take(database, WORKFLOWS, "created"),
            parked=await _take(database, WORKFLOWS, "parked"),
            finished=await _take(database, WORKFLOWS, "finished"),
            step=await _take(database, STEPS, "finished"),
        )


_KINDS = {"created": "nobody's", "parked": "park", "finished": HANDLER_ID}


def workflow_id(number: int) -> str:
    return f"order-{number:08}"


async def create(
    database: AsyncDatabase[Document], specimens: Specimens, numbers: range, handler_id: str
) -> None:
    """Workflows of these numbers, due one a millisecond until now."""
    earliest = datetime.now(UTC) - numbers.stop * _MILLISECOND
    rows = [
        specimens.created
        | {
            wf.WORKFLOW_ID: workflow_id(number),
            wf.HANDLER_ID: handler_id,
            wf.INPUT: {"order": number},
            wf.TIMEOUT_AT: earliest + number * _MILLISECOND,
            wf.CREATED_AT: earliest + number * _MILLISECOND,
        }
        for number in numbers
    ]
    await fill(database, WORKFLOWS, rows)


def steps(specimens: Specimens, workflows: int) -> list[Document]:
    """The steps of so many workflows."""
    return [
        specimens.step
        | {
            wf.WORKFLOW_ID: workflow_id(number),
            STEP_ID: step_id,
            OUTPUT: {"step": step_id, "ok": True},
        }
        for number in range(workflows)
        for step_id in STEP_IDS
    ]


async def _nap(ctx: Context, input: Any) -> None:
    await ctx.sleep(NAP_ID, LONG)


async def _is_parked(bluestreak: Bluestreak) -> bool:
    workflow = await bluestreak.find_workflow("parked")
    return workflow is not None and workflow.claims == 1 and workflow.status == "idle"


async def _take(database: AsyncDatabase[Document], collection: str, name: str) -> Document:
    found: Document = await database[collection].find_one({wf.WORKFLOW_ID: name}, {"_id": 0}) or {}
    return found

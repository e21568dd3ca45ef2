"""A worker process: `python -m tests.chaos.program URL DATABASE LEDGER_URL LEASE BLOCKED_FOR`.

SIGTERM stops it; SIGUSR1 lets the next async step block the event loop for `BLOCKED_FOR` seconds.
SIGUSR2 makes it write down what its tasks wait for, and SIGQUIT where its threads are.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

from pymongo import AsyncMongoClient, MongoClient

from bluestreak_core import Abort, Bluestreak, Clock, Context, StoreUnavailable
from bluestreak_mongo import MongoStore
from tests.chaos.ledger import (
    COLLECTION,
    DATABASE,
    EFFECTS,
    EFFECTS_DATABASE,
    Call,
    Document,
    Effect,
    from_call,
    from_effect,
)
from tests.chaos.stories import STORIES, Kind
from tests.chaos.workload import PARK_AFTER, PLANS, Run

LONGEST_STEP = 0.05  # seconds, after the ledger has been written
READY = "the worker is ready"
_TRY_AGAIN = 0.2  # seconds


class Stumbled(Exception):
    """The first call of a step that is to be tried again."""


class Worker:
    """What the runs of this process share."""

    def __init__(self, clock: Clock, ledger_url: str, blocked_for: float) -> None:
        self.clock = clock
        self.calls = AsyncMongoClient[Document](ledger_url)[DATABASE][COLLECTION]
        self.calls_in_thread = MongoClient[Document](ledger_url)[DATABASE][COLLECTION]
        self._blocked_for = blocked_for
        self._is_to_block = False

    def block(self) -> None:
        self._is_to_block = True

    def blocks_next(self) -> bool:
        asked, self._is_to_block = self._is_to_block, False
        return asked

    def handler(self, handler_id: str) -> Callable[[Context, float], Awaitable[Document]]:
        async def handle(context: Context, seconds: float) -> Document:
            name = uuid4().hex
            run = Run(context, seconds, Steps(self, context.workflow_id, name))
            await PLANS[handler_id].handler(run)
            return {"run": name, "pid": os.getpid(), "saw": run.saw}

        return handle

    def story(self, kind: Kind) -> Callable[[Context, Any], Awaitable[Any]]:
        async def tell(context: Context, input: Any) -> Any:
            return await STORIES[kind](
                context, input, Steps(self, context.workflow_id, uuid4().hex)
            )

        return tell

    async def work_on(self, *, blocked: bool) -> None:
        """The rest of an async step, which a fault may hit."""
        if blocked:
            time.sleep(self._blocked_for)  # noqa: ASYNC251 - the fault
        await asyncio.sleep(random.uniform(0, LONGEST_STEP))


class Steps:
    """The steps of one run."""

    def __init__(self, worker: Worker, workflow_id: str, run: str) -> None:
        self._worker = worker
        self._new_call = partial(Call, workflow_id=workflow_id, run=run, pid=os.getpid())

    def call(self, step_id: str, saw: Mapping[str, str]) -> Callable[[], Awaitable[Document]]:
        async def fn() -> Document:
            call = self._begin(step_id, saw, blocked=self._worker.blocks_next())
            await self._worker.calls.insert_one(from_call(call))
            await self._worker.work_on(blocked=call.blocked)
            return {"token": call.token}

        return fn

    def call_in_thread(self, step_id: str, saw: Mapping[str, str]) -> Callable[[], Document]:
        def fn() -> Document:
            call = self._begin(step_id, saw)
            self._worker.calls_in_thread.insert_one(from_call(call))
            time.sleep(random.uniform(0, LONGEST_STEP))
            return {"token": call.token}

        return fn

    def stumble(self, step_id: str, saw: Mapping[str, str]) -> Callable[[], Awaitable[Document]]:
        return self._raising_first(step_id, saw, Stumbled)

    def give_up(self, step_id: str, saw: Mapping[str, str]) -> Callable[[], Awaitable[Document]]:
        return self._raising_first(step_id, saw, Abort)

    def write(self, step_id: str, saw: Mapping[str, str]) -> Callable[[Any], Awaitable[Document]]:
        async def fn(session: Any) -> Document:
            call = self._begin(step_id, saw)
            await self._worker.calls.insert_one(from_call(call))
            effect = Effect(workflow_id=call.workflow_id, step_id=step_id, token=call.token)
            effects = session.client[EFFECTS_DATABASE][EFFECTS]
            await effects.insert_one(from_effect(effect), session=session)
            await self._worker.work_on(blocked=False)
            return {"token": call.token}

        return fn

    def _raising_first(
        self, step_id: str, saw: Mapping[str, str], error: type[Exception]
    ) -> Callable[[], Awaitable[Document]]:
        async def fn() -> Document:
            calls = self._worker.calls
            begun = self._begin(step_id, saw)
            same = {"workflowId": begun.workflow_id, "stepId": step_id}
            raises = await calls.find_one(same) is None
            call = self._begin(step_id, saw, raised=raises)
            await calls.insert_one(from_call(call))
            if raises:
                raise error(f"in process {os.getpid()}")
            await self._worker.work_on(blocked=False)
            return {"token": call.token}

        return fn

    def _begin(self, step_id: str, saw: Mapping[str, str], **facts: Any) -> Call:
        return self._new_call(
            step_id=step_id,
            token=uuid4().hex,
            called_at=datetime.now(UTC),
            by_store_at=self._worker.clock.now(),
            saw=saw,
            **facts,
        )


async def opened(bluestreak: Bluestreak, is_stopping: Callable[[], bool]) -> bool:
    """Open, which raises during an outage; False if told to stop meanwhile."""
    while not is_stopping():
        try:
            await bluestreak.init()
        except StoreUnavailable as error:
            logging.warning("not open yet: %s", error)
            await asyncio.sleep(_TRY_AGAIN)
        else:
            return True
    return False


def show_tasks() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


async def work(url: str, database: str, ledger_url: str, lease: float, blocked_for: float) -> None:
    store = MongoStore(url, database=database)
    worker = Worker(store.clock, ledger_url, blocked_for)
    bluestreak = Bluestreak(
        store,
        timeout_interval=lease,
        poll_interval=0.5,
        wait_retry_interval=0.2,
        max_concurrency=50,
        max_crashes=None,  # leases run out here for nothing that a workflow does
        park_after=PARK_AFTER,
        drain_timeout=1,
    )
    for handler_id in PLANS:
        bluestreak.register_handler(handler_id, worker.handler(handler_id))
    for kind in STORIES:
        bluestreak.register_handler(kind, worker.story(kind))
    stopping = asyncio.Event()

    def stop() -> None:
        stopping.set()
        bluestreak.stop()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGUSR1, worker.block)
    loop.add_signal_handler(signal.SIGUSR2, show_tasks)
    if await opened(bluestreak, stopping.is_set):
        logging.info(READY)
        await bluestreak.poll()
    await bluestreak.close()
    await worker.calls.database.client.close()
    worker.calls_in_thread.database.client.close()


if __name__ == "__main__":
    faulthandler.register(signal.SIGQUIT)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    _url, _database, _ledger_url, _lease, _blocked_for = sys.argv[1:]
    asyncio.run(work(_url, _database, _ledger_url, float(_lease), float(_blocked_for)))

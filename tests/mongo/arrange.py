"""What the tests of MongoStore share: looking at documents and at commands, and a whole life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

from bson import CodecOptions
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from typing_extensions import override

from bluestreak_core import (
    Attempt,
    Bluestreak,
    Claim,
    Context,
    CountBy,
    ErrorRecord,
    FailedStep,
    Failure,
    NewMessage,
    NewWorkflow,
    Published,
    Query,
    Status,
    WorkerRecord,
    WorkerState,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.store import ENDED
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_core.testing.clock import START
from bluestreak_mongo import MongoStore

Document = dict[str, Any]

NOW = START
SECOND = timedelta(seconds=1)
LEASE = 10 * SECOND
ERROR = ErrorRecord(type="ValueError", message="no such card", traceback="Traceback: ...")
ATTEMPT = Attempt(
    workflow_id="w", step_id="s", round=0, number=1, error=ERROR, retry_at=NOW, saved_at=NOW
)
FAILED_STEP = FailedStep(step_id="s", error=ERROR, attempts=1, failed_at=NOW)
WORKER = WorkerRecord(
    name="worker",
    host="host",
    pid=4711,
    bluestreak_version="1.0",
    python_version="3.13.1",
    started_at=NOW,
    seen_at=NOW,
    until=NOW + LEASE,
    state=WorkerState.POLLING,
    max_concurrency=1,
    runs=0,
)
PUBLISHED = Published(name="progress", number=1, value=40, at=NOW)
AWARE: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)


def new(workflow_id: str, handler_id: str = "h", input: Any = None) -> NewWorkflow:
    return NewWorkflow(workflow_id=workflow_id, handler_id=handler_id, input=input, created_at=NOW)


def message(
    message_id: str = "m", name: str = "paid", payload: Any = None, workflow_id: str = "w"
) -> NewMessage:
    return NewMessage(
        workflow_id=workflow_id, message_id=message_id, name=name, payload=payload, sent_at=NOW
    )


def failure(*, retry: bool) -> Failure:
    return Failure(error=ERROR, retry_at=NOW + SECOND if retry else None)


async def claimed(store: MongoStore, workflow_id: str = "w", input: Any = None) -> Claim:
    """A claim made at NOW, with nothing else due."""
    await store.create(new(workflow_id, input=input))
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    assert claim.workflow_id == workflow_id
    return claim


async def _write_nothing(session: object) -> int:
    return 1


CALLS: dict[str, Callable[[MongoStore, Claim], Awaitable[object]]] = {
    "create": lambda store, _: store.create(new("w2")),
    "create_many": lambda store, _: store.create_many([new("w2"), new("w3")]),
    "find_workflow": lambda store, _: store.find_workflow("w"),
    "find_standing": lambda store, _: store.find_standing("w"),
    "find_step": lambda store, _: store.find_step("w", "s"),
    "find_nap": lambda store, _: store.find_nap("w", "n"),
    "claim": lambda store, _: store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)
    ),
    "history": lambda store, claim: store.history([claim]),
    "renew": lambda store, claim: store.renew([claim], NOW + SECOND, LEASE),
    "save_step": lambda store, claim: store.save_step(claim, "s", 1, NOW),
    "save_nap": lambda store, claim: store.save_nap(claim, "n", NOW, NOW),
    "save_attempt": lambda store, claim: store.save_attempt(claim, ATTEMPT),
    "fail_step": lambda store, claim: store.fail_step(claim, FAILED_STEP),
    "transact": lambda store, claim: store.transact(claim, "s", _write_nothing, lambda: NOW),
    "park": lambda store, claim: store.park(claim, NOW),
    "release": lambda store, claim: store.release(claim, NOW),
    "finish": lambda store, claim: store.finish(claim, None, NOW),
    "fail": lambda store, claim: store.fail(claim, failure(retry=True), NOW),
    "control": lambda store, _: store.control("w", Transition.PAUSE, NOW),
    "fork": lambda store, _: store.fork("w", "f", None, NOW),
    "wait_for_control": lambda store, _: store.wait_for_control("worker", NOW, timedelta(0)),
    "find_page": lambda store, _: store.find_page(Query(handler_id="h", id_prefix="w"), None, 1),
    "count": lambda store, _: store.count(CountBy.HANDLER_ID),
    "records": lambda store, _: store.records("w"),
    "prune": lambda store, _: store.prune(NOW + LEASE, ENDED, 10, NOW),
    "send": lambda store, _: store.send(message()),
    "receive": lambda store, claim: store.receive(claim, "s", ["paid"], NOW, give_up=True),
    "park_until_message": lambda store, claim: store.park_until_message(
        claim, NOW + SECOND, ["paid"], 0, NOW
    ),
    "wait_for_message": lambda store, _: store.wait_for_message("w", 0, timedelta(0)),
    "find_unread": lambda store, _: store.find_unread("w", 10),
    "find_message": lambda store, _: store.find_message("w", "m"),
    "beat": lambda store, _: store.beat("w", "s", NOW),
    "adopt": lambda store, claim: store.adopt(claim),
    "find_children": lambda store, _: store.find_children("w", NOW, 10),
    "find_mail": lambda store, _: store.find_mail("w"),
    "nudge": lambda store, _: store.nudge("w", NOW, "child/c", NOW),
    "find_unsettled": lambda store, _: store.find_unsettled(10),
    "settle": lambda store, claim: store.settle(claim.workflow.standing),
    "restart": lambda store, claim: store.restart(claim, None, ["m"], NOW),
    "publish": lambda store, claim: store.publish(claim, [PUBLISHED]),
    "promise": lambda store, claim: store.promise(claim),
    "give_up": lambda store, claim: store.give_up(claim, ERROR, NOW),
    "hand_over": lambda store, claim: store.hand_over(claim, NOW),
    "postpone": lambda store, claim: store.postpone(claim, NOW),
    "end_compensated": lambda store, claim: store.end_compensated(claim, NOW),
    "register_worker": lambda store, _: store.register_worker(WORKER),
    "unregister_worker": lambda store, _: store.unregister_worker("worker"),
    "find_workers": lambda store, _: store.find_workers(NOW),
}
"""Every call of a MongoStore that is sent to the server, by name."""


@asynccontextmanager
async def polling(bluestreak: Bluestreak) -> AsyncIterator[None]:
    """Polls for as long as the block lasts."""
    poll = asyncio.create_task(bluestreak.poll())
    try:
        yield
    finally:
        bluestreak.stop()
        bluestreak.stop()
        await poll


async def whole_life(store: MongoStore, clock: ManualClock) -> None:
    """Run a workflow that records a step and a nap, is parked, fails, is tried again and ends."""
    recording = RecordingStore(store)
    bluestreak = Bluestreak(recording, wait_retry_interval=0)
    calls: list[str] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: list[int]) -> list[int]:
        total = await ctx.step("total", sum, input)
        await ctx.sleep("night", timedelta(days=1))
        calls.append("woken")
        if len(calls) == 1:
            raise ValueError
        return [total, await ctx.step("double", lambda: total * 2)]

    await bluestreak.init()
    assert await bluestreak.start("life", "h", [1, 2])
    async with polling(bluestreak):
        await recording.until_returned("park")
        clock.advance(timedelta(days=1))
        assert await bluestreak.wait("life") == [3, 6]
    life = await bluestreak.find_workflow("life")
    assert life is not None
    assert (life.status, life.failures, life.claims) == (Status.FINISHED, 1, 3)
    await bluestreak.close()


class Sent(CommandListener):
    """The commands that a client sends, as they are."""

    def __init__(self) -> None:
        self.commands: list[Document] = []
        self.connections: set[int | None] = set()
        """The connections that they were sent on, as the server numbers them."""
        self.before: dict[str, Callable[[], object]] = {}
        """What to do just before a command of this name is sent, by name; done once."""

    @override
    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(dict(event.command))
        self.connections.add(event.server_connection_id)
        if event.command_name in self.before:
            self.before.pop(event.command_name)()

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nobody asks."""

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        """Nobody asks."""

    @property
    def names(self) -> list[str]:
        return [next(iter(command)) for command in self.commands]

    def named(self, *names: str) -> list[Document]:
        return [command for command in self.commands if next(iter(command)) in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A program that uses MongoDB itself, and gives its database to a store."""

    database: AsyncDatabase[Document]
    store: MongoStore
    sent: Sent

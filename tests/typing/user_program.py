"""A user's program. It is only type-checked: `mypy --strict` covers tests/."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, assert_type

from bluestreak_core import (
    Bluestreak,
    Claim,
    Context,
    Handler,
    Nap,
    Renewer,
    Status,
    Step,
    Store,
    SupportsThreadRenewal,
    WorkerHealth,
    Workflow,
    WorkflowAborted,
)
from bluestreak_memory import MemoryStore
from bluestreak_mongo import BsonRules, LocalMongo, MongoStore


async def create_user(email: str) -> int:
    return len(email)


def send(email: str, subject: str, *, urgent: bool = False) -> bytes:
    return f"{email}{subject}{urgent}".encode()


def on_error(workflow_id: str, error: BaseException) -> None: ...


async def on_error_async(workflow_id: str, error: BaseException) -> None: ...


bluestreak = Bluestreak(
    MongoStore("mongodb://localhost:27017", database="app"),
    timeout_interval=timedelta(seconds=10),
    poll_interval=1,
    wait_retry_interval=0.5,
    max_failures=3,
    error_callback=on_error,
    should_stop=lambda: False,
    unknown_handler="skip",
)
Bluestreak(MemoryStore(rules=BsonRules()), error_callback=on_error_async)
store: Store = MemoryStore()


@bluestreak.handler("welcome")
async def welcome(ctx: Context, input: dict[str, str]) -> dict[str, int]:
    user_id = await ctx.step("create", create_user, input["email"])
    assert_type(user_id, int)
    assert_type(await ctx.step("sync", send, "a", "b"), bytes)
    assert_type(await ctx.step("lambda", lambda: send("a", "b")), bytes)
    assert_type(await ctx.step("async lambda", lambda: create_user("a")), int)
    assert_type(await ctx.step("partial", partial(send, "a", "b", urgent=True)), bytes)
    assert_type(await ctx.sleep("day", timedelta(days=1)), None)
    assert_type(ctx.workflow_id, str)
    await ctx.step("wrong type", create_user, 1)  # type: ignore[arg-type]
    await ctx.step(1, create_user, "a")  # type: ignore[call-overload]
    await ctx.sleep("nap", "a day")  # type: ignore[arg-type]
    return {"user_id": user_id}


# The decorator hands the function back as it was.
async def call_directly(ctx: Context) -> None:
    assert_type(await welcome(ctx, {"email": "a"}), dict[str, int])


async def use() -> None:
    async with bluestreak as opened:
        assert_type(opened, Bluestreak)
        assert_type(await bluestreak.start("w", "welcome", {"email": "a"}), bool)
        assert_type(await bluestreak.find_workflow("w"), Workflow | None)
        assert_type(await bluestreak.find_step("w", "create"), Step | None)
        assert_type(await bluestreak.find_nap("w", "day"), Nap | None)
        assert_type(bluestreak.health(), WorkerHealth)
        assert_type(bluestreak.handlers, Mapping[str, Handler])
        await bluestreak.poll(should_stop=lambda: True)
        try:
            await bluestreak.wait("w", retries=100, pause_interval=timedelta(seconds=1))
        except WorkflowAborted as aborted:
            assert_type(aborted.error_message, str)


def look(workflow: Workflow, nap: Nap, claim: Claim) -> None:
    assert_type(workflow.status, Status)
    assert_type(workflow.timeout_at, datetime)
    assert_type(workflow.input, Any)
    assert_type(nap.wake_up_at, datetime)
    assert_type(claim.workflow_id, str)
    workflow.status = Status.IDLE  # type: ignore[misc]


def renew(store: Store, claim: Claim, now: datetime) -> None:
    if isinstance(store, SupportsThreadRenewal):
        assert_type(store.renewer(), Renewer | None)
        if (renewer := store.renewer()) is not None:
            assert_type(renewer.renew([claim], now, timedelta(seconds=10)), list[Claim])
            renewer.close()


async def serve() -> None:
    async with LocalMongo() as server:
        assert_type(server.url, str)

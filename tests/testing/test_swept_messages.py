"""What workflows receive, wherever a worker dies meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Claim,
    Client,
    Context,
    Message,
    MessageTimeout,
    Received,
    Status,
    Step,
)
from bluestreak_core.model import NoMessage
from bluestreak_core.testing import CrashUnsafe, Environment, Sweep, crash_everywhere
from bluestreak_core.testing.clock import START
from bluestreak_memory import MemorySession, MemoryStore

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unmeasured")]

DAY = timedelta(days=1)
ORDERED = Message("ordered", str)
APPROVED = Message("approved", str)
REJECTED = Message("rejected", str)
PAYLOADS = ["a", "b", "c"]


def calls_of(sweep: Sweep) -> set[str]:
    """The store calls at which it has crashed the worker."""
    return {point.call for point in sweep.crashes}


def lines_of(unsafe: CrashUnsafe) -> set[str]:
    """All differences, of whatever crash."""
    return {line for account in unsafe.differences.values() for line in account}


class Ledger:
    """Counts what is booked, in transactions."""

    def __init__(self) -> None:
        self.booked: dict[str, int] = {}
        self.counts: list[dict[str, int]] = []

    def reset(self) -> None:
        self.counts.append(dict(self.booked))
        self.booked.clear()

    async def book(self, session: MemorySession, payload: str) -> int:
        count = self.booked.get(payload, 0) + 1
        session.set(self.booked, payload, count)
        await asyncio.sleep(1)
        return count


# Receiving ----------------------------------------------------------------------------------------


def each_at(*seconds: float) -> Any:
    def send(env: Environment) -> None:
        for payload, delay in zip(PAYLOADS, seconds, strict=True):
            env.send_later("workflow", ORDERED, payload, delay=delay, message_id=f"id {payload}")

    return send


@pytest.mark.parametrize(
    "seconds", [(0, 0, 0), (0, 3, 3), (5, 60, 61), (2.5, 86_400, 90_000)], ids=str
)
def test_each_payload_is_handled_once(seconds: tuple[float, ...]) -> None:
    """Sent before the run, while it waits in memory, while it works, and while it is parked."""
    ledger = Ledger()

    async def worker(ctx: Context, input: None) -> list[str]:
        received = []
        for number in range(len(PAYLOADS)):
            payload = await ctx.receive(f"receive {number}", ORDERED)
            await ctx.transaction(f"book {number}", ledger.book, payload)
            received.append(payload)
        return received

    sweep = crash_everywhere(worker, meanwhile=each_at(*seconds), before_each=ledger.reset)
    assert sweep.outcome.result == PAYLOADS
    assert sweep.outcome.unread == []
    assert all(counts == dict.fromkeys(PAYLOADS, 1) for counts in ledger.counts[1:])
    assert {"receive 'receive 0'", "receive 'receive 2'"} <= calls_of(sweep)
    assert ("park_until_message" in calls_of(sweep)) is (max(seconds) > 10)


def test_a_payload_is_received_though_the_workflow_is_moved_from_outside_meanwhile() -> None:
    async def order(ctx: Context, input: None) -> str:
        return await ctx.receive("await", ORDERED)

    def pause(env: Environment) -> None:
        env.advance(60)
        env.call(env.bluestreak.pause("workflow"))
        env.advance(60)
        env.send("workflow", ORDERED, "a")
        env.advance(DAY)
        assert env.outcome("workflow").status is Status.PAUSED
        env.call(env.bluestreak.resume("workflow"))

    def cancel(env: Environment) -> None:
        env.advance(60)
        env.send("workflow", "of no interest")
        env.call(env.bluestreak.cancel("workflow"))
        env.send("workflow", ORDERED, "a")
        env.advance(60)
        env.call(env.bluestreak.retry("workflow"))

    for meanwhile in (pause, cancel):
        sweep = crash_everywhere(order, meanwhile=meanwhile)
        assert sweep.outcome.result == "a"


def test_what_has_come_stays_while_the_handler_fails() -> None:
    async def order(ctx: Context, input: None) -> str:
        payload = await ctx.receive("await", ORDERED)
        await ctx.step("fails", fails)
        return payload + await ctx.receive("await another", ORDERED)

    def fails() -> None:
        calls.append(None)
        if len(calls) < 3:
            raise ConnectionError

    calls: list[None] = []
    sweep = crash_everywhere(order, meanwhile=each_at(0, 0, 1), before_each=calls.clear)
    assert sweep.outcome.result == "ab"
    assert [message.message_id for message in sweep.outcome.unread] == ["id c"]


def test_branches_receive_what_each_waits_for() -> None:
    async def both(ctx: Context, input: None) -> list[str]:
        return list(
            await asyncio.gather(
                ctx.receive("approval", APPROVED),
                ctx.receive("order", ORDERED, timeout=2 * DAY),
                ctx.step("work", asyncio.sleep, 30, "worked"),
            )
        )

    def send(env: Environment) -> None:
        env.send_later("workflow", ORDERED, "a", delay=15)
        env.send_later("workflow", APPROVED, "yes", delay=DAY)

    sweep = crash_everywhere(both, meanwhile=send)
    assert sweep.outcome.result == ["yes", "a", "worked"]
    assert "park_until_message" in calls_of(sweep)


# Time limits --------------------------------------------------------------------------------------


async def await_payment(ctx: Context, input: Any) -> list[str]:
    try:
        payload = await ctx.receive("await", ORDERED, timeout=3600)
    except MessageTimeout:
        await ctx.step("give up", str)
        return ["late", await ctx.receive("await longer", ORDERED)]
    return ["in time", payload]


def test_a_timeout_is_decided_once() -> None:
    sweep = crash_everywhere(await_payment, meanwhile=each_at(7200, 7200, 7200))
    assert sweep.outcome.result == ["late", "a"]
    assert sweep.outcome.receipts["await"].timed_out
    assert len(sweep.outcome.unread) == 2
    assert "receive 'await'" in calls_of(sweep)


def test_a_message_before_the_timeout_wins() -> None:
    sweep = crash_everywhere(await_payment, meanwhile=each_at(1800, 1800, 9000))
    assert sweep.outcome.result == ["in time", "a"]
    assert sweep.outcome.workflow.finished_at == START + timedelta(seconds=1800)


def test_a_timeout_that_nobody_catches_aborts() -> None:
    async def order(ctx: Context, input: None) -> None:
        await ctx.receive("await", ORDERED, deadline=START + DAY)

    sweep = crash_everywhere(order)
    assert sweep.outcome.status is Status.ABORTED
    assert sweep.outcome.workflow.finished_at == START + DAY
    assert "fail" in calls_of(sweep)


def test_what_is_there_is_received_without_a_wait() -> None:
    async def drain(ctx: Context, input: None) -> list[str]:
        drained: list[str] = []
        with_names = [APPROVED, ORDERED]
        while True:
            try:
                found = await ctx.receive_any(f"{len(drained)}", with_names, timeout=0)
            except MessageTimeout:
                return drained
            drained.append(found.payload)

    sweep = crash_everywhere(drain, meanwhile=each_at(0, 0, 0))
    assert sweep.outcome.result == PAYLOADS
    assert sweep.outcome.workflow.finished_at == START


# Several messages ---------------------------------------------------------------------------------


async def decide(ctx: Context, input: None) -> list[str]:
    answers: list[Received[str]] = [
        await ctx.receive_any(f"answer {number}", [APPROVED, REJECTED], timeout=DAY)
        for number in range(2)
    ]
    return [f"{answer.message_id}: {answer.payload}" for answer in answers]


def test_the_first_of_several_messages_is_received_first() -> None:
    def send(env: Environment) -> None:
        env.send("workflow", "of no interest")
        env.send_later("workflow", REJECTED, "ada", delay=60, message_id="1")
        env.send_later("workflow", APPROVED, "bob", delay=3600, message_id="2")

    sweep = crash_everywhere(decide, meanwhile=send)
    assert sweep.outcome.result == ["1: ada", "2: bob"]
    assert [receipt.name for receipt in sweep.outcome.receipts.values()] == ["rejected", "approved"]
    assert [message.name for message in sweep.outcome.unread] == ["of no interest"]


def test_a_message_that_is_sent_again_is_received_once() -> None:
    def send(env: Environment) -> None:
        for delay in (60, 61, 600):
            env.send_later("workflow", APPROVED, "ada", delay=delay, message_id="1")
        env.send_later("workflow", APPROVED, "bob", delay=700, message_id="2")

    sweep = crash_everywhere(decide, meanwhile=send)
    assert sweep.outcome.result == ["1: ada", "2: bob"]


# What is unsafe -----------------------------------------------------------------------------------


class Shop:
    """A workflow that receives orders, and a customer who sends one in a step."""

    def __init__(self, *, with_an_id: bool) -> None:
        self._with_an_id = with_an_id
        self._clients: list[Client] = []

    async def trade(self, ctx: Context, ordered: str | None) -> list[str]:
        if ordered is not None:
            await ctx.step("order", self._order, ctx, ordered)
            return []
        orders: list[str] = []
        with suppress(MessageTimeout):
            while True:
                orders.append(await ctx.receive(f"{len(orders)}", ORDERED, timeout=DAY))
        return orders

    async def _order(self, ctx: Context, ordered: str) -> None:
        message_id = ctx.idempotency_key("order") if self._with_an_id else None
        await self._clients[-1].send("workflow", ORDERED, ordered, message_id=message_id)

    def start_customer(self, env: Environment) -> None:
        self._clients.append(env.bluestreak)
        env.start("customer", "trade", "kite", delay=60)


def test_a_step_that_sends_a_message_with_an_id_is_safe() -> None:
    shop = Shop(with_an_id=True)
    sweep = crash_everywhere(shop.trade, meanwhile=shop.start_customer)
    assert sweep.outcome.result == ["kite"]
    assert "save_step 'order'" in calls_of(sweep)


def test_a_step_that_sends_a_message_without_an_id_is_found() -> None:
    shop = Shop(with_an_id=False)
    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(shop.trade, meanwhile=shop.start_customer)
    found = {str(point): account for point, account in raised.value.differences.items()}
    (account,) = [account for point, account in found.items() if "before" in point]
    assert "result: ['kite', 'kite'], at first ['kite']" in account
    (point,) = found
    assert point.endswith(", save_step 'order'")


def test_a_receive_that_is_another_one_after_a_crash_is_found() -> None:
    async def order(ctx: Context, input: None) -> str:
        return await ctx.receive(f"await {next(runs)}", ORDERED)

    runs = itertools.count()

    def restart() -> None:
        nonlocal runs
        runs = itertools.count()

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(order, meanwhile=each_at(0, 0, 0), before_each=restart)
    found = {str(point): account for point, account in raised.value.differences.items()}
    assert [
        line.partition(":")[0] for line in found["just after store call 2, receive 'await 0'"]
    ] == [*("result", "recorded steps", "received messages", "unread messages")]
    assert "unread messages: {'ordered': 1}, at first {'ordered': 2}" in lines_of(raised.value)


def test_another_message_of_the_same_payload_is_a_difference() -> None:
    async def answer(ctx: Context, input: None) -> None:
        await ctx.receive_any("answer", [APPROVED, REJECTED])

    def send(env: Environment) -> None:
        runs.append(None)
        env.send("workflow", REJECTED if len(runs) > 1 else APPROVED, "by ada")

    runs: list[None] = []
    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(answer, meanwhile=send)
    assert lines_of(raised.value) == {
        "received messages: {'answer': 'rejected'}, at first {'answer': 'approved'}"
    }


async def ship(ctx: Context, input: None) -> str:
    payload = await ctx.receive("await", ORDERED)
    await ctx.step("ship", str, payload)
    return payload


class TakesFirst(MemoryStore):
    """Takes a message out of its mailbox, and records later that it was received, or never."""

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        received = await super().receive(claim, step_id, names, now, give_up=give_up)
        if isinstance(received, Step):
            record = self._workflows.claimed(claim)
            del record.steps[step_id]
            await asyncio.sleep(0)
        return received


def test_a_message_that_is_lost_in_a_crash_is_found() -> None:
    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(
            ship, meanwhile=each_at(0, 0, 60), store=lambda clock: TakesFirst(clock=clock)
        )
    found = {str(point): account for point, account in raised.value.differences.items()}
    assert found["just after store call 2, receive 'await'"] == [
        "result: 'b', at first 'a'",
        "unread messages: {}, at first {'ordered': 1}",
        "arguments of step 'ship': ['b'], at first ['a']",
    ]


def test_a_message_without_which_nothing_goes_on_is_named() -> None:
    with pytest.raises(CrashUnsafe, match="workflow 'workflow' waits for 'ordered'"):
        crash_everywhere(
            ship,
            meanwhile=lambda env: env.send("workflow", ORDERED, "a"),
            store=lambda clock: TakesFirst(clock=clock),
        )

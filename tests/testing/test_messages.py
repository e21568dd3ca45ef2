"""Messages to workflows in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Context,
    InvalidArgument,
    InvalidDuration,
    Message,
    MessageTimeout,
    Status,
    UsageError,
    WorkflowEnded,
    WorkflowNotFound,
)
from bluestreak_core.model import Receipt
from bluestreak_core.testing import Environment, Stuck
from bluestreak_core.testing.clock import START

DAY = timedelta(days=1)
PAID = Message("paid", int)


@pytest.fixture
def env() -> Iterator[Environment]:
    with Environment() as environment:
        yield environment


async def order(ctx: Context, input: None) -> str:
    try:
        paid = await ctx.receive("await payment", PAID, timeout=3 * DAY)
    except MessageTimeout:
        return await ctx.step("cancel", str, "cancelled")
    return await ctx.step("ship", str, f"shipped for {paid}")


async def wait_for_payment(ctx: Context, input: None) -> int:
    return await ctx.receive("await payment", PAID)


# Sending ------------------------------------------------------------------------------------------


def test_a_message_is_received_as_soon_as_time_passes(env: Environment) -> None:
    env.register_handler("order", order)
    env.start("o-1", "order")
    env.advance(DAY)
    assert env.outcome("o-1").workflow.waiting_for == ("paid",)
    assert env.send("o-1", PAID, 7)
    outcome = env.wait("o-1")
    assert outcome.result == "shipped for 7"
    assert env.now == START + DAY


def test_a_message_may_be_sent_before_the_workflow_runs(env: Environment) -> None:
    env.register_handler("order", order)
    env.start("o-1", "order")
    env.send("o-1", "paid", 7)
    assert env.wait("o-1").result == "shipped for 7"
    assert env.now == START


def test_a_message_of_an_id_is_sent_once(env: Environment) -> None:
    env.register_handler("order", order)
    env.start("o-1", "order")
    assert env.send("o-1", PAID, 7, message_id="evt-1")
    assert not env.send("o-1", PAID, 8, message_id="evt-1")
    outcome = env.wait("o-1")
    assert outcome.result == "shipped for 7"
    assert outcome.receipts == {
        "await payment": Receipt(message_id="evt-1", name="paid", sent_at=START)
    }
    assert outcome.unread == []


def test_messages_that_nobody_has_received_are_left(env: Environment) -> None:
    env.register_handler("order", order)
    env.start("o-1", "order")
    for number in range(3):
        env.send("o-1", PAID, number)
    assert [message.name for message in env.outcome("o-1").unread] == ["paid"] * 3
    outcome = env.wait("o-1")
    assert outcome.result == "shipped for 0"
    assert len(outcome.unread) == 2
    assert {message.payload for message in outcome.unread} == {None}


def test_a_message_is_refused_as_by_a_client(env: Environment) -> None:
    with pytest.raises(WorkflowNotFound):
        env.send("o-1", PAID, 7)
    env.run(wait_for_nothing, workflow_id="o-1")
    with pytest.raises(WorkflowEnded):
        env.send("o-1", PAID, 7)


async def wait_for_nothing(ctx: Context, input: None) -> None: ...


# Sending later ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [{"delay": 2 * DAY}, {"at": START + 2 * DAY}])
def test_a_message_is_sent_when_its_time_has_come(env: Environment, when: Any) -> None:
    env.send_later("workflow", PAID, 7, **when)
    outcome = env.run(order)
    assert outcome.result == "shipped for 7"
    assert outcome.receipts["await payment"].sent_at == START + 2 * DAY
    assert env.now == START + 2 * DAY


def test_a_message_that_is_sent_after_the_timeout_is_too_late(env: Environment) -> None:
    env.send_later("workflow", PAID, 7, delay=4 * DAY)
    outcome = env.run(order)
    assert outcome.result == "cancelled"
    assert outcome.receipts["await payment"].timed_out
    assert env.now == START + 3 * DAY
    with pytest.raises(WorkflowEnded, match="'workflow' has ended"):
        env.advance(DAY)
    env.advance(DAY)  # it is reported once


def test_a_timeout_is_no_nap_of_the_handler(env: Environment) -> None:
    assert env.run(order).naps == {}


def test_a_late_message_to_a_workflow_that_is_not_there_is_reported(env: Environment) -> None:
    env.send_later("o-1", PAID, 7, delay=5)
    env.send_later("o-2", PAID, 7, delay=9)
    with pytest.raises(WorkflowNotFound, match="'o-1'"):
        env.run(order)
    assert env.now == START + timedelta(seconds=5)
    with pytest.raises(WorkflowNotFound, match="'o-2'"):
        env.wait("workflow")


def test_messages_are_sent_in_the_order_of_their_times(env: Environment) -> None:
    async def three(ctx: Context, input: None) -> list[int]:
        return [await ctx.receive(f"{number}", PAID) for number in range(3)]

    for seconds in (30, 10, 20):
        env.send_later("workflow", PAID, seconds, delay=seconds)
    assert env.run(three).result == [10, 20, 30]


def test_messages_of_one_time_are_sent_in_the_order_of_the_calls(env: Environment) -> None:
    async def all_of_them(ctx: Context, input: None) -> list[int]:
        return [await ctx.receive(f"{number}", PAID) for number in range(20)]

    for number in range(20):
        env.send_later("workflow", PAID, number, delay=60)
    assert env.run(all_of_them).result == list(range(20))


def test_a_time_that_cannot_be_meant_is_refused(env: Environment) -> None:
    for both in ({}, {"delay": 1, "at": START}):
        with pytest.raises(InvalidArgument, match="expected either a delay or an instant"):
            env.send_later("o-1", PAID, 7, **both)  # type: ignore[arg-type]
    with pytest.raises(InvalidDuration, match="delay -1"):
        env.send_later("o-1", PAID, 7, delay=-1)
    with pytest.raises(InvalidArgument, match=r"at .*: expected an aware datetime"):
        env.send_later("o-1", PAID, 7, at=datetime(2030, 1, 2))  # noqa: DTZ001 - refused
    env.advance(DAY)


def test_nothing_is_sent_by_a_closed_environment() -> None:
    env = Environment()
    env.send_later("o-1", PAID, 7, delay=5)
    env.close()
    with pytest.raises(UsageError, match="closed"):
        env.send_later("o-1", PAID, 7, delay=5)
    with pytest.raises(UsageError, match="closed"):
        env.send("o-1", PAID, 7)


# Waiting in vain ----------------------------------------------------------------------------------


def test_a_message_that_never_comes_is_named(env: Environment) -> None:
    waits = r"has not happened\n  workflow 'workflow' waits for 'paid'$"
    with pytest.raises(Stuck, match=waits) as raised:
        env.run(wait_for_payment)
    assert raised.value.parked == {"workflow": ("paid",)}
    assert env.now < START + DAY  # no time has passed in vain
    env.send("workflow", PAID, 7)
    assert env.wait("workflow").result == 7  # and the environment can still be used


def test_a_worker_that_looks_for_work_by_the_clock_waits_in_vain_too() -> None:
    with (
        Environment(poll_interval=60, turns=5000) as env,
        pytest.raises(Stuck, match="workflow 'workflow' waits for 'paid'"),
    ):
        env.run(wait_for_payment)


def test_all_that_a_workflow_waits_for_is_named(env: Environment) -> None:
    async def answer(ctx: Context, input: None) -> None:
        await ctx.receive_any("answer", ["approved", "rejected"])

    with pytest.raises(Stuck, match="workflow 'workflow' waits for 'approved' or 'rejected'"):
        env.run(answer)


def test_many_workflows_that_wait_are_counted(env: Environment) -> None:
    env.register_handler("wait", wait_for_payment)
    for number in range(12):
        env.start(f"o-{number}", "wait")
    with pytest.raises(Stuck) as raised:
        env.wait("o-0")
    assert len(raised.value.parked) == 12
    assert str(raised.value).count("waits for 'paid'") == 10
    assert str(raised.value).endswith("\n  and 2 more wait for messages")


def test_a_workflow_that_another_one_sends_to_is_not_stuck(env: Environment) -> None:
    async def customer(ctx: Context, input: None) -> None:
        await ctx.sleep("think", 400 * DAY)
        await ctx.step("pay", env.bluestreak.send, "o-1", "paid", 7)

    env.register_handler("wait", wait_for_payment)
    env.register_handler("customer", customer)
    env.start("o-1", "wait")
    env.start("c-1", "customer")
    assert env.wait("o-1").result == 7
    assert env.now == START + 400 * DAY


def test_a_workflow_that_waits_is_not_stuck_while_time_passes(env: Environment) -> None:
    env.register_handler("wait", wait_for_payment)
    env.start("o-1", "wait")
    env.advance(1000 * DAY)
    assert env.outcome("o-1").status is Status.IDLE
    assert env.runs == 0


def test_a_wait_beside_a_step_that_is_stuck_is_stuck() -> None:
    async def both(ctx: Context, input: None) -> None:
        await asyncio.gather(
            ctx.receive("await payment", PAID), ctx.step("ever", asyncio.Event().wait)
        )

    with Environment(turns=1000) as env, pytest.raises(Stuck, match=r"waiting in .*both at "):
        env.run(both)


def test_a_paused_workflow_ends_the_wait_for_it_at_once(env: Environment) -> None:
    env.register_handler("wait", wait_for_payment)
    env.start("o-1", "wait")
    env.call(env.bluestreak.pause("o-1"))
    with pytest.raises(Stuck):
        env.wait("o-1")
    assert env.now == START


def test_an_environment_may_begin_at_the_end_of_the_calendar() -> None:
    with Environment(start=START.replace(year=9990)) as env:
        env.send_later("workflow", PAID, 7, delay=2 * DAY)
        assert env.run(order).result == "shipped for 7"
        with pytest.raises(Stuck, match="waits for 'paid'"):
            env.run(wait_for_payment, workflow_id="o-2")

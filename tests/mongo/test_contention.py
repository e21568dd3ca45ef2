"""Transactions that change the same document: few calls for each commit, and nobody shut out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pymongo.database import Database

from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, VirtualLoop
from bluestreak_mongo.contention import CALM, SLOW, WIDEST, Turns
from tests.arrange import eventually
from tests.mongo.arrange import LEASE, NOW, Application, Document, new

Run = Callable[[Coroutine[Any, Any, Any]], Any]

TRANSACTIONS = 60


@pytest.mark.asyncio
@pytest.mark.server
async def test_transactions_that_change_one_document_call_their_functions_about_twice(
    application: Application, raw: Database[Document], clock: ManualClock
) -> None:
    raw["accounts"].insert_one({"_id": "hot", "cents": 0})
    await application.store.create_many([new(f"w{number}") for number in range(TRANSACTIONS)])
    claims = await application.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=TRANSACTIONS)
    )
    calls: list[None] = []

    async def pay(session: Any) -> None:
        calls.append(None)
        accounts = application.database["accounts"]
        await accounts.update_one({"_id": "hot"}, {"$inc": {"cents": 1}}, session=session)

    await asyncio.gather(
        *(application.store.transact(claim, "pay", pay, clock.now) for claim in claims)
    )
    paid = raw["accounts"].find_one({"_id": "hot"})
    assert paid == {"_id": "hot", "cents": TRANSACTIONS}
    assert len(calls) < 3 * TRANSACTIONS


@pytest.mark.asyncio
@pytest.mark.server
async def test_one_that_waits_to_try_again_can_be_cancelled(
    application: Application, raw: Database[Document], clock: ManualClock
) -> None:
    raw["accounts"].insert_one({"_id": "hot", "cents": 0})
    await application.store.create_many([new("w1"), new("w2")])
    first, second = await application.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=2)
    )
    has_paid, may_go_on = asyncio.Event(), asyncio.Event()
    calls: list[None] = []

    async def pay(session: Any) -> None:
        accounts = application.database["accounts"]
        await accounts.update_one({"_id": "hot"}, {"$inc": {"cents": 1}}, session=session)

    async def pay_slowly(session: Any) -> None:
        await pay(session)
        has_paid.set()
        await may_go_on.wait()

    async def pay_in_vain(session: Any) -> None:
        calls.append(None)
        await pay(session)

    slow = asyncio.create_task(application.store.transact(first, "pay", pay_slowly, clock.now))
    await has_paid.wait()
    vain = asyncio.create_task(application.store.transact(second, "pay", pay_in_vain, clock.now))
    await eventually(lambda: len(calls) >= 2)
    vain.cancel()
    await asyncio.wait({vain})
    assert vain.cancelled()
    may_go_on.set()
    await slow
    assert raw["accounts"].find_one({"_id": "hot"}) == {"_id": "hot", "cents": 1}
    assert raw.workflows.count_documents({"session": {"$exists": True}}) == 0


# Turns, in virtual time ------------------------------------------------------------------------


@pytest.fixture
def run() -> Iterator[Run]:
    random.seed(7)
    loop = VirtualLoop()
    yield loop.run_until_complete
    loop.close()


@dataclass(slots=True)
class Account:
    """What one transaction at a time can change: the later one fails, as on the server."""

    cents: int = 0
    attempts: int = 0
    is_locked: bool = False

    async def try_to_pay(self, seconds: float = 0.01) -> bool:
        self.attempts += 1
        if self.is_locked:
            await asyncio.sleep(0.001)
            return False
        self.is_locked = True
        await asyncio.sleep(seconds)
        self.is_locked = False
        self.cents += 1
        return True


async def pay(turns: Turns, account: Account) -> None:
    turn = await turns.take()
    try:
        while not await account.try_to_pay():
            turn = await turns.after_conflict(turn)
        turns.committed()
    finally:
        turns.release(turn)


@pytest.mark.parametrize("processes", [1, 10])
def test_hundreds_that_meet_make_few_attempts_each(run: Run, processes: int) -> None:
    account = Account()
    fleet = [Turns() for _ in range(processes)]

    async def meet() -> None:
        await asyncio.gather(*(pay(fleet[number % processes], account) for number in range(300)))

    run(meet())
    assert account.cents == 300
    assert account.attempts < 5 * 300


def test_those_that_meet_nobody_do_not_wait_for_each_other(run: Run) -> None:
    turns = Turns()

    async def take_all() -> None:
        for turn in [await turns.take() for _ in range(WIDEST)]:
            turns.release(turn)

    run(asyncio.wait_for(take_all(), SLOW / 2))


def test_a_slow_transaction_is_not_waited_for_any_more(run: Run) -> None:
    turns = Turns()

    async def wait_behind_a_slow_one() -> float:
        turn = await turns.after_conflict(await turns.take())
        begun = asyncio.get_running_loop().time()
        other = await turns.take()
        waited = asyncio.get_running_loop().time() - begun
        turns.release(turn)
        turns.release(other)
        return waited

    assert run(wait_behind_a_slow_one()) <= SLOW


def test_commits_without_a_conflict_let_more_try_at_once(run: Run) -> None:
    turns = Turns()

    async def recover() -> None:
        turn = await turns.after_conflict(await turns.take())
        for _ in range(CALM):
            turns.committed()
        async with asyncio.timeout(0):
            turns.release(await turns.take())
        turns.release(turn)

    run(recover())


def test_a_turn_that_comes_to_one_that_was_cancelled_goes_to_the_next(run: Run) -> None:
    turns = Turns()

    async def cancel_as_it_comes() -> None:
        turn = await turns.after_conflict(await turns.take())
        cancelled, next_one = asyncio.create_task(turns.take()), asyncio.create_task(turns.take())
        await asyncio.sleep(0)
        turns.release(turn)
        cancelled.cancel()
        async with asyncio.timeout(SLOW / 2):
            turns.release(await next_one)
        assert cancelled.cancelled()

    run(cancel_as_it_comes())


def test_one_that_was_cancelled_while_it_waited_gets_no_turn(run: Run) -> None:
    turns = Turns()

    async def cancel_while_waiting() -> None:
        turn = await turns.after_conflict(await turns.take())
        cancelled, next_one = asyncio.create_task(turns.take()), asyncio.create_task(turns.take())
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        turns.release(turn)
        async with asyncio.timeout(SLOW / 2):
            turns.release(await next_one)

    run(cancel_while_waiting())

"""The examples do what they say, on the memory store and as programs on a real server."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import pytest
from httpx import ASGITransport, AsyncClient
from pymongo import MongoClient
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    ClaimEntry,
    Context,
    Nap,
    Status,
    Step,
    Store,
    StoreUnavailable,
    WorkerState,
    Workflow,
    WorkflowAborted,
    WorkflowCancelled,
)
from bluestreak_core.testing import (
    Environment,
    ManualClock,
    Outcome,
    RecordingStore,
    crash_everywhere,
)
from bluestreak_memory import MemoryStore
from bluestreak_pydantic import PydanticCodec

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))

import agent
import approval
import demo
import email_campaign
import fan_out
import fastapi_app
import import_progress
import onboarding
import order_fulfilment
import payment
import payment_webhook
import shipping
import subscription

pytestmark = pytest.mark.usefixtures("unmeasured")

T = TypeVar("T")
EXAMPLES = Path(demo.__file__).parent
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
ORDER = order_fulfilment.Order(order_id="order-17", customer_id="ada", items=["kite"], cents=2495)
PAYMENT = payment.Payment(order_id="order-17", customer_id="ada", cents=2495)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> RecordingStore:
    return RecordingStore(MemoryStore(clock=clock))


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What was printed since the last time: the examples' stand-ins print that they are called."""

    def lines() -> list[str]:
        return capsys.readouterr().out.splitlines()

    return lines


@asynccontextmanager
async def running(bluestreak: Bluestreak, handler_id: str, input: Any) -> AsyncIterator[None]:
    """Start one workflow, `example`, and poll beside the block."""
    async with asyncio.timeout(10), bluestreak, asyncio.TaskGroup() as tasks:
        assert await bluestreak.start("example", handler_id, input)
        tasks.create_task(bluestreak.poll())
        yield
        bluestreak.stop()


async def settle() -> None:
    """Let everything happen that can happen before the clock moves."""
    for _ in range(500):
        await asyncio.sleep(0)


# The four workflows, on the memory store ---------------------------------------------------------


@pytest.mark.asyncio
async def test_onboarding_writes_again_after_a_day_and_not_before(
    clock: ManualClock, store: RecordingStore, printed: Callable[[], list[str]]
) -> None:
    bluestreak = Bluestreak(store)
    onboarding.register(bluestreak, onboarding.Services())
    sign_up = onboarding.SignUp(email="ada@example.org", name="Ada")
    async with running(bluestreak, "send-welcome-email", sign_up):
        await settle()
        assert printed() == [
            "create a user for ada@example.org",
            "send 'Welcome!' to ada@example.org",
        ]
        clock.advance(DAY - SECOND)
        await settle()
        assert printed() == []
        clock.advance(SECOND)
        result = await bluestreak.wait("example")
    assert result == {"user_id": "user-ada", "status": "completed"}
    assert printed() == ["send 'How is it going?' to ada@example.org"]


@pytest.mark.asyncio
async def test_an_order_is_reserved_charged_and_shipped_once_however_often_it_is_started(
    store: RecordingStore, printed: Callable[[], list[str]]
) -> None:
    bluestreak = Bluestreak(store)
    order_fulfilment.register(bluestreak, order_fulfilment.Services())
    async with running(bluestreak, "order-fulfilment", ORDER):
        result = await bluestreak.wait("example")
        assert not await bluestreak.start("example", "order-fulfilment", ORDER)
        for step_id in ("reserve-inventory", "charge-customer", "ship-items"):
            assert await bluestreak.find_step("example", step_id) is not None
    assert result == {
        "order_id": "order-17",
        "parcel_id": "parcel-order-17",
        "status": "fulfilled",
    }
    assert printed() == [
        "reserve kite for order-17",
        "charge ada 2495 cents for order-17",
        "ship reservation-order-17 of order-17",
    ]


@pytest.mark.asyncio
async def test_an_order_that_is_cancelled_is_undone_the_last_first(
    clock: ManualClock, store: RecordingStore, printed: Callable[[], list[str]]
) -> None:
    bluestreak = Bluestreak(store)
    order_fulfilment.register(bluestreak, order_fulfilment.Services(carrier_takes=3600))
    async with running(bluestreak, "order-fulfilment", ORDER):
        await store.until_returned("save_step", 2)
        await settle()
        assert printed()[-1] == "ship reservation-order-17 of order-17"
        assert await bluestreak.cancel("example", "by the customer")
        clock.advance(5 * SECOND)  # when the worker renews its lease at the latest
        await store.until_returned("save_step", 4)
        with pytest.raises(WorkflowCancelled, match="by the customer"):
            await bluestreak.wait("example")
    assert printed() == ["refund order-17", "release what is reserved for order-17"]


@pytest.mark.slow
def test_a_cancelled_order_is_undone_whenever_its_worker_died_before() -> None:
    bluestreak = Bluestreak(MemoryStore())
    order_fulfilment.register(bluestreak, order_fulfilment.Services(carrier_takes=3600))

    def cancel(env: Environment) -> None:
        env.advance(60)
        env.call(env.bluestreak.cancel("workflow"))

    fulfil = bluestreak.handlers["order-fulfilment"]
    sweep = crash_everywhere(fulfil, ORDER, meanwhile=cancel)
    assert sweep.outcome.calls[-2:] == ["refund-customer", "release-inventory"]


def pay(outages: int, customer_id: str = "ada") -> Outcome:
    bluestreak = Bluestreak(MemoryStore())
    payment.register(bluestreak, payment.Services(outages))
    handler = bluestreak.handlers["process-payment"]
    with Environment() as env:
        return env.run(handler, PAYMENT | {"customer_id": customer_id}, workflow_id="example")


FOUND, CHARGED = "find order-17", "charge ada 2495 cents"


def test_a_payment_is_tried_again_while_the_gateway_is_down(
    printed: Callable[[], list[str]],
) -> None:
    outcome = pay(outages=3)
    assert outcome.result == {"order_id": "order-17", "status": f"paid by charge-{KEY[:8]}"}
    assert printed() == [
        FOUND,
        *[CHARGED] * 4,
        "mark order-17 as paid",
        "send 'Payment received' to ada@example.org",
    ]
    workflow = outcome.workflow
    assert workflow.failures == 0
    assert workflow.finished_at is not None
    assert workflow.created_at is not None
    assert workflow.finished_at - workflow.created_at == timedelta(seconds=0.5 + 2 + 8)


KEY = sha256(b"example\0charge-payment").hexdigest()


def test_an_order_is_given_back_when_the_attempts_are_used_up(
    printed: Callable[[], list[str]],
) -> None:
    outcome = pay(outages=4)
    assert outcome.result == {
        "order_id": "order-17",
        "status": "not paid: the payment gateway does not answer",
    }
    assert printed() == [
        FOUND,
        *[CHARGED] * 4,
        "mark order-17 as not paid",
        "send 'Please try later' to ada@example.org",
    ]


def test_a_declined_card_ends_the_payment_at_once(printed: Callable[[], list[str]]) -> None:
    outcome = pay(outages=4, customer_id="eve")
    with pytest.raises(WorkflowAborted, match="the card of eve is declined"):
        outcome.result  # noqa: B018 - which raises
    assert printed() == [FOUND, "charge eve 2495 cents"]


def test_a_campaign_that_nobody_runs_for_two_weeks_is_given_up() -> None:
    with Environment() as env:
        email_campaign.register(env, email_campaign.Services())  # type: ignore[arg-type]
        env.start("example", "email-campaign", {"campaign_id": "spring", "email": "ada"})
        env.advance(3600)
        env.call(env.bluestreak.pause("example"))
        env.advance(15 * DAY)
        env.call(env.bluestreak.resume("example"))
        with pytest.raises(WorkflowAborted, match="its deadline"):
            env.wait("example").result  # noqa: B018 - which raises


@pytest.mark.asyncio
async def test_a_campaign_sends_its_mails_at_once_after_3_days_and_after_10(
    clock: ManualClock, store: RecordingStore, printed: Callable[[], list[str]]
) -> None:
    bluestreak = Bluestreak(store)
    email_campaign.register(bluestreak, email_campaign.Services())
    subscription = email_campaign.Subscription(campaign_id="spring", email="ada@example.org")
    mails: dict[int, list[str]] = {}
    async with running(bluestreak, "email-campaign", subscription):
        for day in range(12):
            await settle()
            mails[day] = printed()
            clock.advance(DAY)
        result = await bluestreak.wait("example")
    assert result == {"campaign_id": "spring", "emails_sent": 3}
    assert {day: lines for day, lines in mails.items() if lines} == {
        0: ["send 'Welcome to kites' to ada@example.org"],
        3: ["send 'Ten knots worth knowing' to ada@example.org"],
        10: ["send 'A second string, half price' to ada@example.org"],
    }


# The web application -----------------------------------------------------------------------------


@asynccontextmanager
async def served(store: RecordingStore) -> AsyncIterator[tuple[AsyncClient, Bluestreak]]:
    """A client of the application, which is up for as long as the block lasts."""
    app = fastapi_app.create_app(store)
    async with (
        asyncio.timeout(10),
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app=app), base_url="http://shop") as client,
    ):
        yield client, app.state.bluestreak


@pytest.mark.asyncio
async def test_a_placed_order_is_accepted_run_and_shown(store: RecordingStore) -> None:
    async with served(store) as (client, bluestreak):
        placed = await client.post("/orders", json=ORDER)
        assert (placed.status_code, placed.json()["order_id"]) == (202, "order-17")
        result = await bluestreak.wait("order-17")
        shown = await client.get("/orders/order-17")
    assert shown.status_code == 200
    assert shown.json() == {
        "order_id": "order-17",
        "status": "finished",
        "result": result,
        "error": None,
    }


@pytest.mark.asyncio
async def test_an_order_placed_again_is_not_run_again(
    store: RecordingStore, printed: Callable[[], list[str]]
) -> None:
    async with served(store) as (client, bluestreak):
        await client.post("/orders", json=ORDER)
        await bluestreak.wait("order-17")
        assert len(printed()) == 3
        again = await client.post("/orders", json=ORDER)
    assert (again.status_code, again.json()["status"]) == (200, "finished")
    assert printed() == []


@pytest.mark.asyncio
async def test_an_order_is_cancelled_until_it_has_ended(store: RecordingStore) -> None:
    async with served(store) as (client, bluestreak):
        assert (await client.delete("/orders/order-17")).status_code == 404
        await client.post("/orders", json=ORDER)
        cancelled = await client.delete("/orders/order-17")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        assert (await client.delete("/orders/order-17")).status_code == 409
        with pytest.raises(WorkflowCancelled, match="by the customer"):
            await bluestreak.wait("order-17")


@pytest.mark.asyncio
async def test_a_different_order_of_the_same_id_is_refused_and_changes_nothing(
    store: RecordingStore,
) -> None:
    async with served(store) as (client, bluestreak):
        await client.post("/orders", json=ORDER)
        await bluestreak.wait("order-17")
        before = await bluestreak.find_workflow("order-17")
        other = await client.post("/orders", json=ORDER | {"cents": 1})
        assert other.status_code == 409
        assert await bluestreak.find_workflow("order-17") == before


@pytest.mark.asyncio
async def test_what_is_no_order_is_refused(store: RecordingStore) -> None:
    async with served(store) as (client, _):
        assert (await client.post("/orders", json=ORDER | {"order_id": ""})).status_code == 422
        assert (await client.get("/orders/%00")).status_code == 422
        assert (await client.get("/orders/order-18")).status_code == 404
    assert store.begun["create"] == 0


@pytest.mark.asyncio
async def test_an_order_that_cannot_be_stored_may_be_placed_again(store: RecordingStore) -> None:
    async with served(store) as (client, _):
        store.failing["create"] = StoreUnavailable("nobody is there")
        refused = await client.post("/orders", json=ORDER)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        del store.failing["create"]
        assert (await client.post("/orders", json=ORDER)).status_code == 202


@pytest.mark.asyncio
async def test_the_worker_polls_from_startup_to_shutdown_and_leaves_no_task(
    store: RecordingStore,
) -> None:
    before = asyncio.all_tasks()
    async with served(store) as (client, bluestreak):
        await store.until_begun("claim")
        health = await client.get("/health")
        assert (health.status_code, health.json()["state"]) == (200, "polling")
    assert bluestreak.health().state is WorkerState.STOPPED
    assert asyncio.all_tasks() == before


class SlowStore(RecordingStore):
    """Records no step before it may."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.may_record = asyncio.Event()

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name == "save_step":
            await self.may_record.wait()
        return await super().around(name, call)


@pytest.mark.asyncio
async def test_an_order_that_is_running_at_shutdown_is_finished_first(clock: ManualClock) -> None:
    store = SlowStore(MemoryStore(clock=clock))

    async def go_on_during_shutdown() -> None:
        await settle()
        store.may_record.set()

    async with served(store) as (client, bluestreak):
        await client.post("/orders", json=ORDER)
        await settle()
        assert bluestreak.health().runs == 1
        going_on = asyncio.create_task(go_on_during_shutdown())
    await going_on
    workflow = await store.find_workflow("order-17")
    assert workflow is not None
    assert workflow.status is Status.FINISHED


@pytest.mark.asyncio
async def test_a_worker_that_fails_is_logged_shown_and_raised_at_shutdown(
    store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[object] = []

    async def serve() -> None:
        async with served(store) as (client, _):
            await settle()
            seen.append((await client.get("/health")).status_code)
            seen.extend(record.levelname for record in caplog.records)

    store.failing["claim"] = ZeroDivisionError("of the worker")
    with pytest.raises(ZeroDivisionError, match="of the worker"):
        await serve()
    assert seen == [503, "ERROR", "CRITICAL"]


# Parcels ------------------------------------------------------------------------------------------


class Careless(shipping.Carrier):
    """It loses one of the parcels."""

    @override
    async def is_lost(self, tracking_id: str) -> bool:
        return tracking_id == "track-2"


def test_the_parcels_of_an_order_are_shipped_side_by_side(
    printed: Callable[[], list[str]],
) -> None:
    parcels = [shipping.Parcel(number, ["kite"]) for number in (1, 2, 3)]
    with Environment(codec=PydanticCodec()) as env:
        shipping.register(env, Careless())  # type: ignore[arg-type]
        env.start("order-17", "ship-order", shipping.Order("order-17", parcels))
        env.advance(DAY)
        assert printed() == [f"send parcel {number}" for number in (1, 2, 3)]
        assert env.wait("order-17").result == ["track-1", "track-3"]
        assert env.outcome("order-17/parcel-2").status is Status.ABORTED
    assert printed() == ["refund parcel 2"]


@pytest.mark.parametrize("end", ["cancel", "nothing"])
def test_parcels_are_not_sent_twice_and_not_for_a_cancelled_order(end: str) -> None:
    def meanwhile(env: Environment) -> None:
        shipping.register(env, shipping.Carrier())  # type: ignore[arg-type]
        env.start("order-17", "ship-order", order)
        if end == "cancel":
            env.advance(DAY)
            env.call(env.bluestreak.cancel("order-17"))

    async def nothing(ctx: Context, input: None) -> None: ...

    order = shipping.Order("order-17", [shipping.Parcel(number, ["kite"]) for number in (1, 2)])
    sweep = crash_everywhere(nothing, meanwhile=meanwhile, codec=PydanticCodec())
    ended = Status.CANCELLED if end == "cancel" else Status.FINISHED
    for workflow_id in ("order-17", "order-17/parcel-1", "order-17/parcel-2"):
        assert sweep.outcomes[workflow_id].status is ended


# The payment webhook -----------------------------------------------------------------------------


SALE = payment_webhook.Order(order_id="order-17", items=["kite"], cents=2495)
BY_CARD = {"cents": 2495, "method": "card"}
PAID_EVENT = {"event_id": "evt-1", "order_id": "order-17", "payment": BY_CARD}
SECRET = "of the provider and us"
ASKED, CLOSED, SHIPPED = (
    "ask for 2495 cents for order-17",
    "close the payment of order-17",
    "ship kite for order-17",
)


class Provider(payment_webhook.Services):
    """The stand-in, and somebody who pays just before the payment is closed."""

    @override
    async def close_payment(self, order_id: str) -> bool:
        return not await super().close_payment(order_id)


def selling(services: payment_webhook.Services) -> Environment:
    env = Environment(codec=PydanticCodec())
    payment_webhook.register(env, services)  # type: ignore[arg-type]
    env.start("order-17", "sell", SALE)
    return env


def paid(env: Environment, workflow_id: str = "order-17") -> bool:
    by_card = payment_webhook.Payment(cents=2495, method="card")
    return env.send(workflow_id, payment_webhook.PAID, by_card, message_id="evt-1")


def test_an_order_is_shipped_once_it_is_paid(printed: Callable[[], list[str]]) -> None:
    with selling(payment_webhook.Services()) as env:
        env.advance(2 * DAY)
        assert printed() == [ASKED]
        assert paid(env)
        assert not paid(env)
        assert env.wait("order-17").result == "paid by card"
    assert printed() == [SHIPPED]


def test_an_order_that_nobody_pays_is_closed_after_three_days(
    printed: Callable[[], list[str]],
) -> None:
    with selling(payment_webhook.Services()) as env:
        env.advance(3 * DAY - SECOND)
        assert printed() == [ASKED]
        env.advance(SECOND)
        assert env.wait("order-17").result == "not paid"
    assert printed() == [CLOSED]


def test_a_payment_at_the_last_moment_is_waited_for(printed: Callable[[], list[str]]) -> None:
    with selling(Provider()) as env:
        env.advance(4 * DAY)
        assert paid(env)
        assert env.wait("order-17").result == "paid by card"
    assert printed() == [ASKED, CLOSED, SHIPPED]


@pytest.mark.slow
def test_a_payment_is_not_lost_wherever_the_worker_crashes() -> None:
    def pay(env: Environment) -> None:
        env.advance(60)
        paid(env, "workflow")

    bluestreak = Bluestreak(MemoryStore(), codec=PydanticCodec())
    payment_webhook.register(bluestreak, payment_webhook.Services())
    sell = bluestreak.handlers["sell"]
    sweep = crash_everywhere(sell, SALE, meanwhile=pay, codec=PydanticCodec())
    assert sweep.outcome.result == "paid by card"


@asynccontextmanager
async def shop(store: RecordingStore) -> AsyncIterator[AsyncClient]:
    """A client of the shop, which is up for as long as the block lasts."""
    app = payment_webhook.create_app(store, SECRET)
    async with (
        asyncio.timeout(10),
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app=app), base_url="http://shop") as client,
    ):
        yield client


async def posted(client: AsyncClient, event: Any, secret: str = SECRET) -> int:
    body = json.dumps(event).encode()
    signature = hmac.new(secret.encode(), body, sha256).hexdigest()
    answer = await client.post(
        "/webhooks/payments", content=body, headers={"X-Signature": signature}
    )
    return answer.status_code


@pytest.mark.asyncio
async def test_an_order_that_is_placed_and_paid_by_http_is_shipped(store: RecordingStore) -> None:
    worker = Bluestreak(store, codec=PydanticCodec())
    payment_webhook.register(worker, payment_webhook.Services())
    async with shop(store) as client, asyncio.TaskGroup() as tasks:
        assert await posted(client, PAID_EVENT) == 404
        assert (await client.post("/orders", json=SALE.model_dump())).status_code == 202
        assert [await posted(client, PAID_EVENT) for _ in range(2)] == [204, 204]
        await worker.init()
        tasks.create_task(worker.poll())
        assert await worker.wait("order-17") == "paid by card"
        assert await posted(client, PAID_EVENT) == 204
        assert await posted(client, PAID_EVENT | {"event_id": "evt-2"}) == 409
        worker.stop()


@pytest.mark.asyncio
async def test_an_event_that_the_provider_has_not_signed_is_refused(store: RecordingStore) -> None:
    async with shop(store) as client:
        await client.post("/orders", json=SALE.model_dump())
        assert await posted(client, PAID_EVENT, "another secret") == 403
        unsigned = await client.post("/webhooks/payments", json=PAID_EVENT)
        assert unsigned.status_code == 422
        odd = await client.post(
            "/webhooks/payments", json=PAID_EVENT, headers={b"X-Signature": b"\xe9"}
        )
        assert odd.status_code == 403
        assert await posted(client, {"event_id": "evt-1"}) == 422
        assert await posted(client, PAID_EVENT | {"event_id": "\0"}) == 422
    assert store.begun["send"] == 0


@pytest.mark.asyncio
async def test_an_event_that_cannot_be_stored_is_asked_for_again(store: RecordingStore) -> None:
    async with shop(store) as client:
        await client.post("/orders", json=SALE.model_dump())
        store.failing["send"] = StoreUnavailable("nobody is there")
        assert await posted(client, PAID_EVENT) == 503
        del store.failing["send"]
        assert await posted(client, PAID_EVENT) == 204


# Branches and loops ------------------------------------------------------------------------------


def test_thumbnails_are_made_and_broken_pictures_are_counted() -> None:
    bluestreak = Bluestreak(MemoryStore())
    fan_out.register(bluestreak, fan_out.Services())
    with Environment(turns=10**7) as env:
        outcome = env.run(bluestreak.handlers["thumbnails"], {"name": "kites", "pictures": 10_000})
    assert outcome.result == "all: 9990 done, 10 broken"
    assert len(outcome.steps) == 9990 + 1


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("yes", "bought a red kite"),
        ("no", "I may not buy a red kite"),
        (None, "nobody has answered"),
    ],
)
def test_an_agent_asks_before_it_buys(
    answer: str | None, result: str, printed: Callable[[], list[str]]
) -> None:
    bluestreak = Bluestreak(MemoryStore())
    agent.register(bluestreak, agent.Services())
    with Environment() as env:
        if answer is not None:
            env.send_later("workflow", agent.ANSWER, answer, delay=DAY)
        outcome = env.run(bluestreak.handlers["agent"], "find me a kite")
    assert outcome.result == result
    assert printed()[:5] == [
        "think about 1 notes",
        "search for kites",
        "search for strings",
        "think about 3 notes",
        "ask the owner: may I buy a red kite?",
    ]
    assert ("turn-1/buy" in outcome.calls) is (answer == "yes")


# The approval ------------------------------------------------------------------------------------


EXPENSE = approval.Expense(expense_id="trip-7", employee="ada", approver="grace", cents=12_345)


@asynccontextmanager
async def office(
    store: RecordingStore, services: approval.Services
) -> AsyncIterator[tuple[AsyncClient, Bluestreak]]:
    """A client of the pages, and the worker, both of which are up as long as the block lasts."""
    app = approval.create_app(store)
    worker = Bluestreak(store, codec=PydanticCodec(), park_after=0)
    approval.register(worker, services)
    async with (
        asyncio.timeout(10),
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app=app), base_url="http://office") as client,
        asyncio.TaskGroup() as tasks,
    ):
        await worker.init()
        tasks.create_task(worker.poll())
        yield client, worker
        worker.stop()


async def asked(client: AsyncClient, store: RecordingStore, services: approval.Services) -> str:
    """The link in the mail that asks for a decision."""
    assert (await client.post("/expenses", json=EXPENSE.model_dump())).status_code == 202
    await store.until_returned("park_until_message")
    mail = services.outbox[0]
    assert mail.to == "grace"
    text, _, link = mail.text.partition(": ")
    assert text == "ada spent 123.45 EUR"
    return link


def buttons(page: str) -> dict[str, str]:
    """Where each button of a page leads, by what is written on it."""
    found = re.findall(r'<button formaction="([^"]*)">(\w+)</button>', page)
    return {label: action for action, label in found}


@pytest.fixture
def services() -> approval.Services:
    return approval.Services(site="http://office")


@pytest.mark.asyncio
async def test_an_expense_is_paid_once_a_button_is_pressed(
    store: RecordingStore, services: approval.Services, printed: Callable[[], list[str]]
) -> None:
    async with office(store, services) as (client, worker):
        page = await client.get(await asked(client, store, services))
        assert (page.status_code, page.headers["Referrer-Policy"]) == (200, "no-referrer")
        assert list(buttons(page.text)) == ["Approve", "Reject"]
        pressed = await client.post(buttons(page.text)["Approve"])
        assert (pressed.status_code, "Your decision: approve" in pressed.text) == (200, True)
        assert await worker.wait("trip-7") == "approve"
        for again, status in (("Approve", 200), ("Reject", 409)):
            answer = await client.post(buttons(page.text)[again])
            assert (answer.status_code, "approve" in answer.text) == (status, True)
    assert "pay 12345 cents to ada" in printed()
    assert services.outbox[1:] == [approval.Mail("ada", "trip-7: approve")]


@pytest.mark.asyncio
async def test_a_mail_scanner_that_opens_the_link_decides_nothing(
    store: RecordingStore, services: approval.Services
) -> None:
    async with office(store, services) as (client, worker):
        link = await asked(client, store, services)
        page = await client.get(link)
        for action in buttons(page.text).values():
            assert (await client.get(action)).status_code == 405
            assert (await client.head(action)).status_code == 405
        assert store.begun["send"] == 0
        await client.post(buttons(page.text)["Reject"])
        assert await worker.wait("trip-7") == "reject"
    assert services.outbox[1:] == [approval.Mail("ada", "trip-7: reject")]


@pytest.mark.asyncio
async def test_a_decision_that_comes_too_late_is_refused(
    clock: ManualClock, store: RecordingStore, services: approval.Services
) -> None:
    async with office(store, services) as (client, worker):
        page = await client.get(await asked(client, store, services))
        clock.advance(14 * DAY)
        assert await worker.wait("trip-7") == "reject"
        answer = await client.post(buttons(page.text)["Approve"])
        assert (answer.status_code, "too late" in answer.text) == (410, True)
    assert services.outbox[1:] == [approval.Mail("ada", "trip-7: reject")]


@pytest.mark.asyncio
async def test_a_link_that_is_not_valid_is_refused(
    store: RecordingStore, services: approval.Services
) -> None:
    async with office(store, services) as (client, worker):
        page = await client.get(await asked(client, store, services))
        action = buttons(page.text)["Approve"]
        assert (await client.post(action.replace("/approve", "x/approve"))).status_code == 404
        assert (await client.post(action.replace("/approve", "/both"))).status_code == 422
        assert (await client.get("/decisions/<script>")).status_code == 422
        store.failing["send"] = StoreUnavailable("nobody is there")
        assert (await client.post(action)).status_code == 503
        del store.failing["send"]
        assert (await client.post(action)).status_code == 200
        assert await worker.wait("trip-7") == "approve"


@pytest.mark.slow
def test_an_expense_is_decided_wherever_the_worker_crashes() -> None:
    services = approval.Services()

    def decide(env: Environment) -> None:
        env.advance(DAY)
        token = services.outbox[0].text.rpartition("/")[2]
        env.resolve(token, "approve")

    bluestreak = Bluestreak(MemoryStore(), codec=PydanticCodec())
    approval.register(bluestreak, services)
    refund = bluestreak.handlers["refund-expense"]
    sweep = crash_everywhere(
        *(refund, EXPENSE),
        meanwhile=decide,
        before_each=services.outbox.clear,
        codec=PydanticCodec(),
    )
    assert sweep.outcome.result == "approve"


# Programs on a real server -----------------------------------------------------------------------


SWEPT: list[tuple[Any, str, Any]] = [
    (onboarding, "send-welcome-email", {"email": "ada@example.org", "name": "Ada"}),
    (order_fulfilment, "order-fulfilment", ORDER),
    (payment, "process-payment", PAYMENT),
    (email_campaign, "email-campaign", {"campaign_id": "spring", "email": "ada@example.org"}),
    (fan_out, "thumbnails", {"name": "kites", "pictures": 5}),
    (agent, "agent", "find me a kite"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "handler_id", "input"), SWEPT, ids=[swept[1] for swept in SWEPT]
)
def test_an_example_survives_a_crash_anywhere(module: Any, handler_id: str, input: Any) -> None:
    bluestreak = Bluestreak(MemoryStore())
    module.register(bluestreak, module.Services())
    sweep = crash_everywhere(bluestreak.handlers[handler_id], input)
    assert sweep.outcome.status is Status.FINISHED
    assert len(sweep.crashes) > 6


def wait_until(condition: Callable[[], bool], description: str, timeout: float = 20.0) -> None:
    """The one place that sleeps: for processes, which no clock of ours moves."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain until {description}"
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Program:
    """An example that runs as a process, the first of a group, as a terminal would start it."""

    process: subprocess.Popen[str]
    folder: Path
    """Its folder for temporary files, by whose name in the environment its processes are known."""

    def until(self, text: str) -> str:
        """Read up to the line that has this text, and return that line."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            if text in line:
                return line
            seen.append(line)
        raise AssertionError(f"{text!r} was not printed, but:\n{''.join(seen)}")

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def rest(self) -> str:
        """What it still prints, until it has ended."""
        return self.process.communicate(timeout=90)[0]

    def leaves_nothing(self) -> bool:
        return not self.pids() and not list(self.folder.iterdir())

    def pids(self) -> list[int]:
        """Every process that it has started, and those that these have."""
        mark = f"TMPDIR={self.folder}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is somebody else's
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found


@contextmanager
def program(name: str, folder: Path, **environment: str) -> Iterator[Program]:
    switches = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"}
    inherited = {key: value for key, value in os.environ.items() if key != demo.URL}
    with subprocess.Popen(
        [sys.executable, EXAMPLES / name],
        env=inherited | environment | switches | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        started = Program(process, folder)
        try:
            yield started
        finally:
            for pid in started.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def examples_url(mongodb_url: str, mongodb: MongoClient[dict[str, object]]) -> Iterator[str]:
    """A server on which none of the examples has run yet."""

    def clear() -> None:
        for name in mongodb.list_database_names():
            if name.startswith("example_"):
                mongodb.drop_database(name)

    clear()
    yield mongodb_url
    clear()


FULFILMENT = """\
reserve kite, string for order-17
charge ada 2495 cents for order-17
ship reservation-order-17 of order-17
"""
FULFILLED = "{'order_id': 'order-17', 'parcel_id': 'parcel-order-17', 'status': 'fulfilled'}\n"
PROCESSING = """\
find order-17
charge ada 2495 cents
charge ada 2495 cents
charge ada 2495 cents
mark order-17 as paid
send 'Payment received' to ada@example.org
"""
PAID_BY = sha256(b"payment-of-order-17\0charge-payment").hexdigest()[:8]
PROCESSED = f"{{'order_id': 'order-17', 'status': 'paid by charge-{PAID_BY}'}}\n"
DECLINING = "find order-18\ncharge eve 2495 cents\n"
DECLINED = "order-18 is not paid: the card of eve is declined\n"
TRANSFERRED = "{'ada': -500, 'bob': 500}\n"


@pytest.mark.parametrize(
    ("name", "first", "again"),
    [
        ("order_fulfilment.py", FULFILMENT + FULFILLED, FULFILLED),
        ("payment.py", PROCESSING + PROCESSED + DECLINING + DECLINED, PROCESSED + DECLINED),
        ("transfer.py", TRANSFERRED, TRANSFERRED),
    ],
)
def test_a_program_that_is_run_again_repeats_its_result_and_no_step(
    name: str, first: str, again: str, tmp_path: Path, examples_url: str
) -> None:
    for expected in (first, again):
        with program(name, tmp_path, MONGODB_URL=examples_url) as example:
            output = example.rest()
        logged = r"workflow .* failed, (trying again.*\n|aborted(.*\n)*?\S+\.Abort: .*\n)"
        assert re.sub(logged, "", output) == expected
        assert example.process.returncode == 0


@pytest.mark.parametrize(
    ("name", "database", "said"),
    [
        ("onboarding.py", "example_onboarding", "Welcome"),
        ("email_campaign.py", "example_campaigns", "Welcome"),
        ("agent.py", "example_agent", "ask the owner"),
    ],
)
def test_a_program_whose_workflow_waits_for_days_ends_well_at_ctrl_c(  # noqa: PLR0917
    name: str,
    database: str,
    said: str,
    tmp_path: Path,
    examples_url: str,
    mongodb: MongoClient[dict[str, object]],
) -> None:
    with program(name, tmp_path, MONGODB_URL=examples_url) as example:
        example.until(said)
        napping = {"status": "idle", "claims": 1}
        wait_until(lambda: mongodb[database].workflows.count_documents(napping) == 1, "it naps")
        example.interrupt()
        assert example.rest() == ""
    assert example.process.returncode == 0


# The demo ----------------------------------------------------------------------------------------


@pytest.mark.server
def test_a_killed_worker_is_replaced_by_another_that_repeats_no_recorded_step(
    tmp_path: Path,
) -> None:
    with program("demo.py", tmp_path) as example:
        output = example.rest()
        assert example.process.returncode == 0, output
        assert example.leaves_nothing()
    told, recorded, counted = re.split(r"\nWhat is recorded.*\n|\nHow often.*\n", output)
    pids = re.findall(r"worker \d is started, process (\d+)", told)
    assert re.findall(r"(worker \d): (\w+ \S+)", told) == [
        ("worker 1", "create a"),
        ("worker 1", "send 'Welcome!'"),
        ("worker 2", "send 'Welcome!'"),
        ("worker 2", "send 'How"),
    ]
    assert "worker 1 is killed by SIGKILL in the middle of this step" in told
    assert "the workflow is finished: {'user_id': 'user-ada', 'status': 'completed'}" in told
    assert re.findall(r" s  (.+?)(?:: .*|-\w+)?\n", recorded) == [
        "workflow created",
        f"claim 1 by {os.uname().nodename}-{pids[0]}",
        "step create-user",
        f"claim 2, after a crash, by {os.uname().nodename}-{pids[1]}",
        "step send-welcome",
        "nap wait-day begins",
        "nap wait-day ends",
        f"claim 3 by {os.uname().nodename}-{pids[1]}",
        "step send-followup",
        "workflow finished",
    ]
    instants = [float(at) for at in re.findall(r"(\S+) s  ", recorded)]
    assert instants == sorted(instants)
    assert re.findall(r"(\d) x  (\w+ \S+)", counted) == [
        ("1", "create a"),
        ("2", "send 'Welcome!'"),
        ("1", "send 'How"),
    ]
    assert counted.endswith("All as promised.\n")


@pytest.mark.server
@pytest.mark.parametrize(
    "moment",
    ["starting a MongoDB", "worker 1: create", "worker 2 is started", "its nap is recorded"],
)
def test_an_interrupted_demo_leaves_no_process_and_no_file(moment: str, tmp_path: Path) -> None:
    with program("demo.py", tmp_path) as example:
        example.until(moment)
        example.interrupt()
        output = example.rest()
        assert example.leaves_nothing()
    assert output.endswith("interrupted, and nothing is left\n")
    assert "Traceback" not in output
    assert example.process.returncode == 130


@pytest.mark.server
def test_a_demo_that_is_interrupted_again_while_it_cleans_up_leaves_nothing(
    tmp_path: Path,
) -> None:
    with program("demo.py", tmp_path) as example:
        example.until("worker 1: send")
        example.interrupt()
        example.until("cleaning up")
        example.interrupt()
        example.until("still cleaning up")
        output = example.rest()
        assert example.leaves_nothing()
    assert "Traceback" not in output
    assert example.process.returncode == 130


def test_the_worker_of_a_killed_demo_ends_too(
    tmp_path: Path, mongodb_url: str, mongodb: MongoClient[dict[str, object]]
) -> None:
    before = set(mongodb.list_database_names())
    with program("demo.py", tmp_path, **{demo.URL: mongodb_url}) as example:
        example.until("worker 1: create")
        assert len(example.pids()) == 2
        example.process.kill()
        example.process.wait()
        wait_until(lambda: not example.pids(), "the worker has noticed")
    for name in set(mongodb.list_database_names()) - before:
        mongodb.drop_database(name)


def test_a_demo_on_a_given_server_drops_its_database(
    tmp_path: Path, mongodb_url: str, mongodb: MongoClient[dict[str, object]]
) -> None:
    before = set(mongodb.list_database_names())
    with program("demo.py", tmp_path, **{demo.URL: mongodb_url}) as example:
        example.until("worker 1: create")
        assert set(mongodb.list_database_names()) > before
        example.interrupt()
        assert "starting a MongoDB server" not in example.rest()
    assert set(mongodb.list_database_names()) == before


@pytest.mark.slow
def test_a_demo_without_its_server_fails_and_says_so(tmp_path: Path) -> None:
    url = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"
    with program("demo.py", tmp_path, **{demo.URL: url}) as example:
        output = example.rest()
    assert output.startswith("the demo failed: 127.0.0.1:1: ")
    assert example.process.returncode == 1


class Billing(subscription.Services):
    """Refuses a card from some month on."""

    def __init__(self, valid_for: int = 10_000) -> None:
        self.keys: list[str] = []
        self.cents: list[int] = []
        self.mails: list[str] = []
        self._valid_for = valid_for

    @override
    async def charge(self, customer: str, cents: int, key: str) -> None:
        if len(self.keys) >= self._valid_for:
            raise ConnectionError("card refused")
        self.keys.append(key)
        self.cents.append(cents)

    @override
    async def mail(self, customer: str, text: str) -> None:
        self.mails.append(text)


@contextmanager
def subscribed(billing: Billing) -> Iterator[Environment]:
    with Environment(codec=PydanticCodec()) as env:
        subscription.register(env, billing)  # type: ignore[arg-type]
        first = subscription.Month(1, 999, env.now + 30 * DAY)
        env.start("ada", "subscription", first)
        yield env


def test_a_subscription_renews_for_years_and_keeps_the_records_of_one_month() -> None:
    billing = Billing()
    with subscribed(billing) as env:
        env.advance(10 * 365 * DAY)
        assert len(billing.keys) == len(set(billing.keys)) == 122
        outcome = env.outcome("ada")
        assert list(outcome.steps) == ["charge"]
        assert outcome.published == {"paid until": START + 122 * 30 * DAY}
        env.send("ada", subscription.CHANGE_PLAN, 1999)
        env.send_later("ada", subscription.CANCEL, delay=31 * DAY)
        assert env.wait("ada").result == "cancelled in month 123"
        assert billing.cents[-2:] == [999, 1999]
        assert billing.mails == ["good-bye"]


def test_a_subscription_that_is_not_paid_ends_after_three_attempts() -> None:
    billing = Billing(valid_for=5)
    with subscribed(billing) as env:
        assert env.wait("ada").result == "not paid in month 6"
        assert len([call for call in env.calls if call.step_id == "charge"]) == 5 + 3
        assert billing.mails == ["no payment"]


class Chunks(import_progress.Services):
    """Imports a chunk when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = asyncio.Semaphore(0)

    @override
    async def import_chunk(self, name: str, chunk: int) -> int:
        await self.may_go_on.acquire()
        return await super().import_chunk(name, chunk)


def test_an_import_shows_its_progress_wherever_a_worker_dies() -> None:
    handlers: dict[str, Any] = {}

    class Registry:
        def handler(self, handler_id: str) -> Callable[[Any], Any]:
            return lambda function: handlers.setdefault(handler_id, function)

    import_progress.register(Registry(), import_progress.Services())  # type: ignore[arg-type]
    sweep = crash_everywhere(handlers["import"], 3)
    assert sweep.outcome.published == {"progress": {"percent": 100, "rows": 3000}}
    assert "publish" in {point.call for point in sweep.crashes}


@pytest.mark.asyncio
async def test_an_import_is_followed_on_a_web_page() -> None:
    services = Chunks()
    app = import_progress.create_app(MemoryStore(), services)
    transport = ASGITransport(app=app)
    async with (
        asyncio.timeout(30),
        app.router.lifespan_context(app),
        AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        assert (await client.get("/imports/customers/events")).status_code == 404
        assert (await client.post("/imports/customers?chunks=2")).status_code == 202
        progress = (await client.get("/imports/customers")).json()
        assert progress == {"percent": 0, "rows": 0}
        services.may_go_on.release()
        while not progress["rows"]:
            await settle()
            progress = (await client.get("/imports/customers")).json()
        assert progress == {"percent": 50, "rows": 1000}
        services.may_go_on.release()
        followed = (await client.get("/imports/customers/events")).text
    assert followed.endswith('event: progress\ndata: {"percent": 100, "rows": 2000}\n\n')


START = datetime(2030, 1, 1, tzinfo=UTC)
AS_PROMISED = demo.Record(
    workflow=Workflow(
        workflow_id=demo.WORKFLOW_ID,
        handler_id="send-welcome-email",
        input=None,
        status=Status.FINISHED,
        timeout_at=START,
        result=demo.PROMISED_RESULT,
        claim_log=tuple(
            ClaimEntry(worker=worker, claimed_at=START, after_crash=after_crash)
            for worker, after_crash in [("1", False), ("2", True), ("2", False)]
        ),
    ),
    steps=[
        Step(workflow_id=demo.WORKFLOW_ID, step_id=step_id, output=None, saved_at=START)
        for step_id in ("create-user", "send-welcome", "send-followup")
    ],
    naps=[Nap(workflow_id=demo.WORKFLOW_ID, nap_id="wait-day", wake_up_at=START)],
)


def test_a_demo_that_went_well_has_broken_no_promise() -> None:
    assert demo.broken_promises(AS_PROMISED, demo.PROMISED_CALLS) == []


@pytest.mark.parametrize(
    ("record", "calls", "told"),
    [
        (AS_PROMISED, demo.PROMISED_CALLS | {demo.CREATE: 2}, "the calls were"),
        (
            replace(AS_PROMISED, workflow=replace(AS_PROMISED.workflow, result=None)),
            demo.PROMISED_CALLS,
            "the result is None",
        ),
        (
            replace(AS_PROMISED, workflow=replace(AS_PROMISED.workflow, claim_log=())),
            demo.PROMISED_CALLS,
            "the claims are",
        ),
        (
            replace(AS_PROMISED, steps=AS_PROMISED.steps[1:]),
            demo.PROMISED_CALLS,
            "the recorded steps are",
        ),
        (
            replace(AS_PROMISED, naps=[replace(AS_PROMISED.naps[0], wake_up_at=START + SECOND)]),
            demo.PROMISED_CALLS,
            "the last step is of",
        ),
        (replace(AS_PROMISED, naps=[]), demo.PROMISED_CALLS, "the last step is of"),
    ],
)
def test_the_demo_notices_each_promise_that_is_broken(
    record: demo.Record, calls: dict[str, int], told: str
) -> None:
    (broken,) = demo.broken_promises(record, calls)
    assert broken.startswith(told)

"""Orders that wait for a payment, which the payment provider reports.

export MONGODB_URL=mongodb://localhost:27017 WEBHOOK_SECRET=...
uvicorn --app-dir docs/examples payment_webhook:app
python docs/examples/payment_webhook.py

The second line serves orders and webhooks, the third one runs a worker.
"""

import asyncio
import hmac
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from secrets import token_hex
from typing import Annotated

from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Request,
)
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError

from bluestreak_core import (
    Bluestreak,
    Client,
    Context,
    Message,
    MessageTimeout,
    Store,
    StoreUnavailable,
    WorkflowEnded,
    WorkflowNotFound,
)
from bluestreak_mongo import MongoStore
from bluestreak_pydantic import PydanticCodec

Id = Annotated[str, Field(pattern=r"^[\w-]{1,100}$")]


class Order(BaseModel):
    order_id: Id
    items: list[str]
    cents: Annotated[int, Field(gt=0)]


class Payment(BaseModel):
    cents: int
    method: str


class Event(BaseModel):
    """What the payment provider posts; it repeats an event until we answer."""

    event_id: Id
    order_id: Id
    payment: Payment


PAID = Message("paid", Payment)


# The workflow ----------------------------------------------------------------


class Services:
    """A stand-in for a payment provider and a carrier."""

    async def ask_for_payment(self, order_id: str, cents: int) -> None:
        print(f"ask for {cents} cents for {order_id}")

    async def close_payment(self, order_id: str) -> bool:
        """From now on nobody can pay. False if somebody has paid already."""
        print(f"close the payment of {order_id}")
        return True

    async def ship(self, order_id: str, items: list[str]) -> None:
        print(f"ship {', '.join(items)} for {order_id}")


def register(bluestreak: Bluestreak, services: Services) -> None:
    @bluestreak.handler("sell")
    async def sell(ctx: Context, order: Order) -> str:
        order_id = order.order_id
        await ctx.step(
            "ask-for-payment", services.ask_for_payment, order_id, order.cents
        )
        try:
            payment = await ctx.receive(
                "payment", PAID, timeout=timedelta(days=3)
            )
        except MessageTimeout:
            if await ctx.step(
                "close-payment", services.close_payment, order_id
            ):
                return "not paid"
            payment = await ctx.receive("late-payment", PAID)
        await ctx.step("ship", services.ship, order_id, order.items)
        return f"paid by {payment.method}"


# The web application ---------------------------------------------------------


async def client_of(request: Request) -> Client:
    client: Client = request.app.state.client
    return client


async def signed_event(
    request: Request, x_signature: Annotated[str, Header()]
) -> Event:
    """The event in the body, if the provider has signed it."""
    body = await request.body()
    secret: bytes = request.app.state.secret
    signature = hmac.new(secret, body, sha256).hexdigest()
    if not hmac.compare_digest(signature.encode(), x_signature.encode()):
        raise HTTPException(403, "wrong signature")
    try:
        return Event.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(422, "not an event") from error


Workflows = Annotated[Client, Depends(client_of)]
SignedEvent = Annotated[Event, Depends(signed_event)]
router = APIRouter()


@router.post("/orders", status_code=202)
async def place_order(order: Order, workflows: Workflows) -> None:
    await workflows.start(order.order_id, "sell", order.model_dump())


@router.post("/webhooks/payments", status_code=204)
async def report_payment(event: SignedEvent, workflows: Workflows) -> None:
    """The same answer for an event that comes again, which changes nothing."""
    try:
        await workflows.send(
            event.order_id, PAID, event.payment, message_id=event.event_id
        )
    except WorkflowNotFound as error:
        raise HTTPException(404, "no such order") from error
    except WorkflowEnded as error:
        raise HTTPException(409, "the order is not waiting") from error


async def ask_again(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse(
        {"detail": str(error)}, status_code=503, headers={"Retry-After": "5"}
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with app.state.client:
        yield


def create_app(store: Store, secret: str) -> FastAPI:
    app = FastAPI(
        lifespan=lifespan, exception_handlers={StoreUnavailable: ask_again}
    )
    app.state.client = Client(store, codec=PydanticCodec())
    app.state.secret = secret.encode()
    app.include_router(router)
    return app


def create_store() -> MongoStore:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    return MongoStore(url, database="example_webhooks")


# Without a secret that the provider knows, no event has the right signature.
app = create_app(
    create_store(), os.environ.get("WEBHOOK_SECRET") or token_hex()
)


# The worker ------------------------------------------------------------------


async def main() -> None:
    bluestreak = Bluestreak(
        create_store(), codec=PydanticCodec(), max_failures=5
    )
    register(bluestreak, Services())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, bluestreak.stop)
    async with bluestreak:
        await bluestreak.poll()


if __name__ == "__main__":
    asyncio.run(main())

"""Payment: retry while the gateway is down, give up when a card is declined.

    export MONGODB_URL=mongodb://localhost:27017
    python docs/examples/payment.py

A retry policy repeats a charge that raises. When its attempts are used up, the
handler releases the order. A declined card aborts the workflow at once.
"""

import asyncio
import os
from typing import TypedDict

from bluestreak_core import (
    Abort,
    Bluestreak,
    Context,
    Retry,
    StepFailed,
    WorkflowAborted,
)
from bluestreak_mongo import MongoStore

PATIENTLY = Retry(max_attempts=4, initial=0.5, factor=4, jitter=0)


class Payment(TypedDict):
    order_id: str
    customer_id: str
    cents: int


class CardDeclined(Exception):
    pass


class Services:
    """A stand-in for orders, mails and a payment gateway.

    The first `outages` charges fail.
    """

    def __init__(self, outages: int = 0) -> None:
        self._outages = outages

    async def find_order(self, order_id: str) -> dict[str, str]:
        print(f"find {order_id}")
        return {"order_id": order_id, "email": "ada@example.org"}

    async def charge(
        self, customer_id: str, cents: int, idempotency_key: str
    ) -> str:
        """A real gateway does not charge twice for the same key."""
        print(f"charge {customer_id} {cents} cents")
        if customer_id == "eve":
            raise CardDeclined(f"the card of {customer_id} is declined")
        if self._outages > 0:
            self._outages -= 1
            raise ConnectionError("the payment gateway does not answer")
        return f"charge-{idempotency_key[:8]}"

    async def mark(self, order_id: str, status: str) -> None:
        print(f"mark {order_id} as {status}")

    async def send_email(self, to: str, subject: str) -> None:
        print(f"send {subject!r} to {to}")


def register(bluestreak: Bluestreak, services: Services) -> None:
    async def charge(payment: Payment, key: str) -> str:
        try:
            return await services.charge(
                payment["customer_id"], payment["cents"], key
            )
        except CardDeclined as declined:
            raise Abort(str(declined)) from declined

    @bluestreak.handler("process-payment")
    async def process(ctx: Context, payment: Payment) -> dict[str, str]:
        order_id = payment["order_id"]
        order = await ctx.step("validate-order", services.find_order, order_id)
        key = ctx.idempotency_key("charge-payment")
        try:
            charge_id = await ctx.step(
                "charge-payment",
                charge,
                payment,
                key,
                retry=PATIENTLY,
                timeout=10,
            )
        except StepFailed as failed:
            await ctx.step("release-order", services.mark, order_id, "not paid")
            await ctx.step(
                "send-apology",
                services.send_email,
                order["email"],
                "Please try later",
            )
            return {
                "order_id": order_id,
                "status": f"not paid: {failed.error_message}",
            }
        await ctx.step("update-order", services.mark, order_id, "paid")
        await ctx.step(
            "send-confirmation",
            services.send_email,
            order["email"],
            "Payment received",
        )
        return {"order_id": order_id, "status": f"paid by {charge_id}"}


async def main() -> None:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    bluestreak = Bluestreak(MongoStore(url, database="example_payments"))
    register(bluestreak, Services(outages=2))
    async with bluestreak, asyncio.TaskGroup() as tasks:
        tasks.create_task(bluestreak.poll())
        for order_id, customer_id in (("order-17", "ada"), ("order-18", "eve")):
            payment = Payment(
                order_id=order_id, customer_id=customer_id, cents=2495
            )
            await bluestreak.start(
                f"payment-of-{order_id}", "process-payment", payment
            )
            try:
                print(await bluestreak.wait(f"payment-of-{order_id}"))
            except WorkflowAborted as aborted:
                print(f"{order_id} is not paid: {aborted.error_message}")
        bluestreak.stop()


if __name__ == "__main__":
    asyncio.run(main())

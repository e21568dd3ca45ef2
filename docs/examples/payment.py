"""Payment with retries: the gateway is down at times, and somebody is told each time.

    MONGODB_URL=mongodb://localhost:27017 python docs/examples/payment.py

What a step raises fails the workflow, which is tried again, over its recorded steps, after
`wait_retry_interval`. When it has failed more than `max_failures` times, it is aborted.
"""

import asyncio
import os
from typing import TypedDict

from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import MongoStore


class Payment(TypedDict):
    order_id: str
    customer_id: str
    cents: int


class Services:
    """Stand-ins for orders, mails and a payment gateway whose first `outages` charges fail."""

    def __init__(self, outages: int = 0) -> None:
        self._outages = outages

    async def find_order(self, order_id: str) -> dict[str, str]:
        print(f"find {order_id}")
        return {"order_id": order_id, "email": "ada@example.org"}

    async def charge(self, order_id: str, customer_id: str, cents: int) -> str:
        """A gateway that knows the order's id does not charge for it twice."""
        print(f"charge {customer_id} {cents} cents for {order_id}")
        if self._outages > 0:
            self._outages -= 1
            raise TimeoutError("the payment gateway does not answer")
        return f"charge-{order_id}"

    async def mark_paid(self, order_id: str) -> None:
        print(f"mark {order_id} as paid")

    async def send_email(self, to: str, subject: str) -> None:
        print(f"send {subject!r} to {to}")


def alert(workflow_id: str, error: BaseException) -> None:
    print(f"alert: {workflow_id}: {error}")


def register(bluestreak: Bluestreak, services: Services) -> None:
    @bluestreak.handler("process-payment")
    async def process(ctx: Context, payment: Payment) -> dict[str, str]:
        order_id, customer_id = payment["order_id"], payment["customer_id"]
        order = await ctx.step("validate-order", services.find_order, order_id)
        charge_id = await ctx.step(
            "charge-payment", services.charge, order_id, customer_id, payment["cents"]
        )
        await ctx.step("update-order", services.mark_paid, order_id)
        await ctx.step("send-confirmation", services.send_email, order["email"], "Payment received")
        return {"order_id": order_id, "charge_id": charge_id, "status": "completed"}


async def main() -> None:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    bluestreak = Bluestreak(
        MongoStore(url, database="example_payments"),
        max_failures=5,
        wait_retry_interval=1,
        error_callback=alert,
    )
    register(bluestreak, Services(outages=2))
    payment = Payment(order_id="order-17", customer_id="ada", cents=2495)
    async with bluestreak, asyncio.TaskGroup() as tasks:
        tasks.create_task(bluestreak.poll())
        await bluestreak.start("payment-of-order-17", "process-payment", payment)
        print(await bluestreak.wait("payment-of-order-17"))
        bluestreak.stop()


if __name__ == "__main__":
    asyncio.run(main())

"""Order fulfilment: reserve the items, charge the customer, ship.

    export MONGODB_URL=mongodb://localhost:27017
    python docs/examples/order_fulfilment.py

After a crash, recorded steps are not repeated. If the order is cancelled or
cannot be fulfilled, a worker undoes its steps, the last one first.
"""

import asyncio
import os
from typing import TypedDict

from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import MongoStore


class Order(TypedDict):
    order_id: str
    customer_id: str
    items: list[str]
    cents: int


class Services:
    """A stand-in for an inventory, a payment provider and a carrier.

    A process may die between a call and its record; the call is then repeated.
    So each call passes the order's id, by which a real service detects the
    repeat.
    """

    def __init__(self, carrier_takes: float = 0) -> None:
        self._carrier_takes = carrier_takes

    def reserve(self, order_id: str, items: list[str]) -> str:
        """Not async, so it runs in a thread and may block."""
        print(f"reserve {', '.join(items)} for {order_id}")
        return f"reservation-{order_id}"

    async def charge(self, order_id: str, customer_id: str, cents: int) -> None:
        print(f"charge {customer_id} {cents} cents for {order_id}")

    async def ship(self, order_id: str, reservation_id: str) -> str:
        print(f"ship {reservation_id} of {order_id}")
        await asyncio.sleep(self._carrier_takes)
        return f"parcel-{order_id}"

    async def refund(self, order_id: str) -> None:
        """Undo the charge for an order, if there was one."""
        print(f"refund {order_id}")

    async def release(self, order_id: str) -> None:
        """Undo the reservation for an order, if there was one."""
        print(f"release what is reserved for {order_id}")


def register(bluestreak: Bluestreak, services: Services) -> None:
    @bluestreak.handler("order-fulfilment")
    async def fulfil(ctx: Context, order: Order) -> dict[str, str]:
        order_id, customer_id = order["order_id"], order["customer_id"]
        await ctx.compensate("release-inventory", services.release, order_id)
        reservation_id = await ctx.step(
            "reserve-inventory", services.reserve, order_id, order["items"]
        )
        await ctx.compensate("refund-customer", services.refund, order_id)
        await ctx.step(
            "charge-customer",
            services.charge,
            order_id,
            customer_id,
            order["cents"],
        )
        parcel_id = await ctx.step(
            "ship-items", services.ship, order_id, reservation_id
        )
        return {
            "order_id": order_id,
            "parcel_id": parcel_id,
            "status": "fulfilled",
        }


async def main() -> None:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    bluestreak = Bluestreak(
        MongoStore(url, database="example_orders"), max_failures=3
    )
    register(bluestreak, Services())
    order = Order(
        order_id="order-17",
        customer_id="ada",
        items=["kite", "string"],
        cents=2495,
    )
    async with bluestreak, asyncio.TaskGroup() as tasks:
        tasks.create_task(bluestreak.poll())
        await bluestreak.start("order-17", "order-fulfilment", order)
        print(await bluestreak.wait("order-17"))
        bluestreak.stop()


if __name__ == "__main__":
    asyncio.run(main())

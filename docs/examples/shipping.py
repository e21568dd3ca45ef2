"""Orders that are shipped parcel by parcel, each by a workflow of its own.

export MONGODB_URL=mongodb://localhost:27017
python docs/examples/shipping.py
"""

import asyncio
import os
import signal
from dataclasses import dataclass, field
from datetime import timedelta

from bluestreak_core import (
    Abort,
    Bluestreak,
    ChildFailed,
    ChildHandle,
    Context,
    Store,
)
from bluestreak_mongo import MongoStore
from bluestreak_pydantic import PydanticCodec

DAY = timedelta(days=1)


@dataclass
class Parcel:
    number: int
    items: list[str]


@dataclass
class Order:
    order_id: str
    parcels: list[Parcel] = field(default_factory=list)


class Carrier:
    """A stand-in for a carrier's API."""

    async def send(self, parcel: Parcel, key: str) -> str:
        print(f"send parcel {parcel.number}")
        return f"track-{parcel.number}"

    async def is_lost(self, tracking_id: str) -> bool:
        return False

    async def refund(self, parcel: Parcel) -> None:
        print(f"refund parcel {parcel.number}")


def register(bluestreak: Bluestreak, carrier: Carrier) -> None:
    """Register both workflows."""

    @bluestreak.handler("ship-parcel", max_failures=20)
    async def ship(ctx: Context, parcel: Parcel) -> str:
        key = ctx.idempotency_key("send")
        tracking_id = await ctx.step("send", carrier.send, parcel, key)
        await ctx.sleep("on the road", 2 * DAY)
        if await ctx.step("is lost", carrier.is_lost, tracking_id):
            raise Abort(f"parcel {parcel.number} was lost")
        return tracking_id

    @bluestreak.handler("ship-order")
    async def ship_order(ctx: Context, order: Order) -> list[str]:
        shipments: list[ChildHandle[str]] = [
            await ctx.start_child(f"parcel-{parcel.number}", ship, parcel)
            for parcel in order.parcels
        ]
        delivered: list[str] = []
        for parcel, shipment in zip(order.parcels, shipments, strict=True):
            try:
                delivered.append(await shipment.result())
            except ChildFailed:
                step_id = f"refund-{parcel.number}"
                await ctx.step(step_id, carrier.refund, parcel)
        return delivered


async def main(store: Store) -> None:
    bluestreak = Bluestreak(store, codec=PydanticCodec())
    register(bluestreak, Carrier())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, bluestreak.stop)
    async with bluestreak:
        await bluestreak.poll()


if __name__ == "__main__":
    asyncio.run(main(MongoStore(os.environ["MONGODB_URL"])))

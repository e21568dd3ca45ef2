"""A subscription that renews each month for years.

    export MONGODB_URL=mongodb://localhost:27017
    python docs/examples/subscription.py

Each month is one generation of the workflow: it charges the customer, waits
for a cancellation or a new plan, and restarts. So it has never more records
than one month makes.
"""

import asyncio
import os
import signal
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bluestreak_core import (
    Bluestreak,
    Context,
    Message,
    MessageTimeout,
    Retry,
    StepFailed,
)
from bluestreak_mongo import MongoStore
from bluestreak_pydantic import PydanticCodec


@dataclass(frozen=True)
class Month:
    """What one month has to know of the others."""

    number: int
    cents: int
    ends_at: datetime


CHANGE_PLAN = Message("change plan", int)
CANCEL = Message("cancel")

THREE_TIMES = Retry(max_attempts=3, initial=timedelta(days=1))


class Services:
    """A stand-in for a payment provider and a mail server."""

    async def charge(self, customer: str, cents: int, key: str) -> None:
        """Charge once for each key."""
        print(f"charge {customer} {cents} cents")

    async def mail(self, customer: str, text: str) -> None:
        print(f"mail to {customer}: {text}")


def register(
    bluestreak: Bluestreak,
    services: Services,
    *,
    span: timedelta = timedelta(days=30),
) -> None:
    @bluestreak.handler("subscription")
    async def subscription(ctx: Context, month: Month) -> str:
        customer, key = ctx.workflow_id, ctx.idempotency_key("charge")
        try:
            await ctx.step(
                "charge",
                services.charge,
                customer,
                month.cents,
                key,
                retry=THREE_TIMES,
            )
        except StepFailed:
            await ctx.step("mail", services.mail, customer, "no payment")
            return f"not paid in month {month.number}"
        await ctx.publish("paid until", month.ends_at)

        following = replace(
            month, number=month.number + 1, ends_at=month.ends_at + span
        )
        is_cancelled = False
        number = 0
        while True:  # until the month is over
            number += 1
            try:
                received = await ctx.receive_any(
                    f"message-{number}",
                    [CHANGE_PLAN, CANCEL],
                    deadline=month.ends_at,
                )
            except MessageTimeout:
                break
            is_cancelled = is_cancelled or received.message is CANCEL
            if received.message is CHANGE_PLAN:
                following = replace(following, cents=received.payload)
        if not is_cancelled:
            await ctx.restart(following)
        await ctx.step("mail", services.mail, customer, "good-bye")
        return f"cancelled in month {month.number}"


async def main() -> None:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    bluestreak = Bluestreak(
        MongoStore(url, database="example_subscription"),
        codec=PydanticCodec(),
        max_failures=5,
    )
    span = timedelta(seconds=10)  # a month, for those who watch
    register(bluestreak, Services(), span=span)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, bluestreak.stop)
    async with bluestreak:
        first = Month(1, 999, datetime.now().astimezone() + span)
        await bluestreak.start(
            "ada", bluestreak.handlers["subscription"], first
        )
        await bluestreak.poll()


if __name__ == "__main__":
    asyncio.run(main())

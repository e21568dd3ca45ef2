"""Email campaign: three mails in ten days, across any number of restarts.

    export MONGODB_URL=mongodb://localhost:27017
    python docs/examples/email_campaign.py

It polls until Ctrl-C. Between two mails, a workflow is a document and takes no
memory. A workflow that has not finished within two weeks is aborted.
"""

import asyncio
import os
import signal
from datetime import timedelta
from typing import TypedDict

from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import MongoStore


class Subscription(TypedDict):
    campaign_id: str
    email: str


class Services:
    """A stand-in for a mail server."""

    async def send_email(self, to: str, subject: str) -> None:
        print(f"send {subject!r} to {to}")


def register(bluestreak: Bluestreak, services: Services) -> None:
    @bluestreak.handler("email-campaign", deadline=timedelta(weeks=2))
    async def campaign(
        ctx: Context, input: Subscription
    ) -> dict[str, str | int]:
        email = input["email"]
        await ctx.step(
            "send-welcome", services.send_email, email, "Welcome to kites"
        )
        await ctx.sleep("wait-3-days", timedelta(days=3))
        await ctx.step(
            "send-features",
            services.send_email,
            email,
            "Ten knots worth knowing",
        )
        await ctx.sleep("wait-week", timedelta(days=7))
        await ctx.step(
            "send-offer",
            services.send_email,
            email,
            "A second string, half price",
        )
        return {"campaign_id": input["campaign_id"], "emails_sent": 3}


async def main() -> None:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    bluestreak = Bluestreak(
        MongoStore(url, database="example_campaigns"), max_failures=3
    )
    register(bluestreak, Services())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, bluestreak.stop)
    async with bluestreak:
        subscription = Subscription(
            campaign_id="spring", email="ada@example.org"
        )
        await bluestreak.start("spring-ada", "email-campaign", subscription)
        await bluestreak.poll()


if __name__ == "__main__":
    asyncio.run(main())

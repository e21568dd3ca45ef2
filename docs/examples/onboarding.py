"""Onboarding: create an account, send a welcome, write again a day later.

    export MONGODB_URL=mongodb://localhost:27017
    python docs/examples/onboarding.py

It waits for the next day. Stop it with Ctrl-C and run it again: it continues
where it was.
"""

import asyncio
import os
import signal
from datetime import timedelta
from typing import TypedDict

from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import MongoStore


class SignUp(TypedDict):
    email: str
    name: str


class Services:
    """A stand-in for a user database and a mail server.

    Each call takes `latency` seconds.
    """

    def __init__(self, latency: float = 0) -> None:
        self._latency = latency

    async def create_user(self, email: str, name: str) -> str:
        print(f"create a user for {email}")
        await asyncio.sleep(self._latency)
        return f"user-{name.lower()}"

    async def send_email(self, to: str, subject: str) -> None:
        print(f"send {subject!r} to {to}")
        await asyncio.sleep(self._latency)


def register(
    bluestreak: Bluestreak,
    services: Services,
    *,
    day: timedelta = timedelta(days=1),
) -> None:
    @bluestreak.handler("send-welcome-email")
    async def welcome(ctx: Context, input: SignUp) -> dict[str, str]:
        email = input["email"]
        user_id = await ctx.step(
            "create-user", services.create_user, email, input["name"]
        )
        await ctx.step("send-welcome", services.send_email, email, "Welcome!")
        await ctx.sleep("wait-day", day)
        await ctx.step(
            "send-followup", services.send_email, email, "How is it going?"
        )
        return {"user_id": user_id, "status": "completed"}


async def main() -> None:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    bluestreak = Bluestreak(
        MongoStore(url, database="example_onboarding"), max_failures=3
    )
    register(bluestreak, Services())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, bluestreak.stop)
    async with bluestreak:
        sign_up = SignUp(email="ada@example.org", name="Ada")
        await bluestreak.start("user-123", "send-welcome-email", sign_up)
        await bluestreak.poll()


if __name__ == "__main__":
    asyncio.run(main())

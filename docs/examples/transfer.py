"""Transfer: move money from one account to another, exactly once.

    export MONGODB_URL=mongodb://localhost:27017
    python docs/examples/transfer.py

One MongoDB transaction commits each booking together with the record of its
step. Kill this program anywhere and run it again: nothing is booked twice. It
needs a replica set, which may have a single member.
"""

import asyncio
import os
from typing import Any, TypedDict

from pymongo import AsyncMongoClient

from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import MongoStore


class Transfer(TypedDict):
    from_account: str
    to_account: str
    cents: int


class Accounts:
    """Accounts in the same database as the workflows."""

    def __init__(self, database: Any) -> None:
        self._accounts = database["accounts"]

    async def book(self, session: Any, account: str, cents: int) -> int:
        """Called again if a conflict rolls back the transaction."""
        change = {"$inc": {"cents": cents}}
        await self._accounts.update_one(
            {"_id": account}, change, upsert=True, session=session
        )
        found = await self._accounts.find_one({"_id": account}, session=session)
        return int(found["cents"])


def register(bluestreak: Bluestreak, accounts: Accounts) -> None:
    @bluestreak.handler("transfer")
    async def transfer(ctx: Context, input: Transfer) -> dict[str, int]:
        cents = input["cents"]
        left = await ctx.transaction(
            "debit", accounts.book, input["from_account"], -cents
        )
        now = await ctx.transaction(
            "credit", accounts.book, input["to_account"], cents
        )
        return {input["from_account"]: left, input["to_account"]: now}


async def main() -> None:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        database = client["example_accounts"]
        bluestreak = Bluestreak(MongoStore.from_database(database))
        register(bluestreak, Accounts(database))
        async with bluestreak, asyncio.TaskGroup() as tasks:
            tasks.create_task(bluestreak.poll())
            transfer = Transfer(from_account="ada", to_account="bob", cents=500)
            await bluestreak.start("transfer-1", "transfer", transfer)
            print(await bluestreak.wait("transfer-1"))
            bluestreak.stop()


if __name__ == "__main__":
    asyncio.run(main())

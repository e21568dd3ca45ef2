"""Ten thousand thumbnails, a hundred at a time; some pictures are broken.

    export MONGODB_URL=mongodb://localhost:27017
    python docs/examples/fan_out.py

Kill it at any moment and run it again: it continues with the pictures that
are not done yet.
"""

import asyncio
import os
import signal
from typing import TypedDict

from bluestreak_core import Bluestreak, Context, Retry
from bluestreak_mongo import MongoStore


class Album(TypedDict):
    name: str
    pictures: int


class Services:
    """A stand-in for an image service. Each 997th picture is broken."""

    def __init__(self, latency: float = 0) -> None:
        self._latency = latency

    async def thumbnail(self, picture: str) -> str:
        await asyncio.sleep(self._latency)
        number = int(picture.partition("-")[2])
        if number % 997 == 996:
            raise ValueError(f"{picture} is broken")
        return f"thumbnail of {picture}"


TWICE = Retry(max_attempts=2, initial=1)


def register(bluestreak: Bluestreak, services: Services) -> None:
    @bluestreak.handler("thumbnails")
    async def thumbnails(ctx: Context, album: Album) -> str:
        pictures = [f"picture-{n}" for n in range(album["pictures"])]
        outcomes = await ctx.map(
            "thumbnail",
            services.thumbnail,
            pictures,
            key=str,
            limit=100,
            retry=TWICE,
            tolerate=0.01,  # more than one in a hundred: something is wrong
        )
        done, broken = len(outcomes.succeeded), len(outcomes.failed)
        return f"{outcomes.ended_by}: {done} done, {broken} broken"


async def main() -> None:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    bluestreak = Bluestreak(
        MongoStore(url, database="example_fan_out"), max_failures=3
    )
    register(bluestreak, Services(latency=0.01))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, bluestreak.stop)
    async with bluestreak, asyncio.TaskGroup() as tasks:
        tasks.create_task(bluestreak.poll())
        album = Album(name="kites", pictures=10_000)
        await bluestreak.start("album-kites", "thumbnails", album)
        print(await bluestreak.wait("album-kites"))
        bluestreak.stop()


if __name__ == "__main__":
    asyncio.run(main())

"""Three servers that know each other, and are known to clients, by links that can be broken."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any, Self

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from bluestreak_mongo import LocalMongo
from bluestreak_mongo.local import Member
from tests.chaos.origin import owner
from tests.mongo.lossy_link import LossyLink, Passage

Document = dict[str, Any]

PATIENCE = 60.0
_LOOK_AGAIN = 0.05
_ANSWER_WITHIN_MS = 1000


async def eventually(
    description: str, condition: Callable[[], Awaitable[Any]], patience: float = PATIENCE
) -> Any:
    """The one place that looks again and again; what the condition returned at last."""
    deadline = time.monotonic() + patience
    while not (found := await condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience:g} s in vain until {description}")
        await asyncio.sleep(_LOOK_AGAIN)
    return found


class ReplicaSet:
    """A set of three, each member behind a link of its own.

    The hosts in the set's configuration are the ends of the links, so whatever is sent from one
    member to another, or from a client to a member, passes one. A partition goes by processes.
    """

    def __init__(self) -> None:
        self.clients: Callable[[], Iterable[int]] = list
        """The processes that are clients, beside this one."""
        self._links: list[LossyLink] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._local = await stack.enter_async_context(
                LocalMongo(members=3, authorization=False, parameters={"enableTestCommands": "1"})
            )
            for member in self._local.members:
                link = LossyLink(member.port, self._who)
                self._links.append(await stack.enter_async_context(link))
            await self._move_to_links()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """Leads clients to the set by way of its links."""
        hosts = ",".join(f"127.0.0.1:{link.port}" for link in self._links)
        return f"mongodb://{hosts}/?replicaSet=bluestreak"

    @property
    def pids(self) -> list[int]:
        return [member.pid for member in self._local.members]

    async def primary(self) -> Member:
        """The member that leads, once there is one."""

        async def leader() -> Member | None:
            answers = [(await self._hello(member), member) for member in self._local.members]
            leading = [
                (answer["electionId"], member)
                for answer, member in answers
                if answer.get("isWritablePrimary")
            ]
            # One that was partitioned away may not know yet that it leads no longer.
            return max(leading, key=lambda pair: pair[0])[1] if leading else None

        primary: Member = await eventually("the set has a primary", leader)
        return primary

    def link_to(self, member: Member) -> LossyLink:
        return self._links[[local.port for local in self._local.members].index(member.port)]

    async def kill(self, member: Member) -> None:
        await asyncio.to_thread(self._local.kill, member)

    async def restart(self, member: Member) -> None:
        await asyncio.to_thread(self._local.restart, member)

    async def command(self, member: Member, command: Document) -> None:
        """Send a command to a member, past its link."""
        async with _connected(member) as client:
            await client.admin.command(command)

    @contextmanager
    def partitioned(self, apart: Sequence[int], between: Passage) -> Iterator[None]:
        """Let processes on one side reach no member on the other; one side is these processes."""
        with ExitStack() as healing:
            for member, link in zip(self._local.members, self._links, strict=True):
                is_apart = member.pid in apart
                healing.enter_context(
                    link.passing(
                        lambda origin, is_apart=is_apart: (  # type: ignore[misc]
                            Passage.OPEN if (origin in apart) is is_apart else between
                        )
                    )
                )
            yield

    @asynccontextmanager
    async def failing(
        self, member: Member, commands: Sequence[str], **how: Any
    ) -> AsyncIterator[None]:
        """Let commands of Bluestreak fail on a member."""
        fail_point: Document = {"configureFailPoint": "failCommand"}
        data = {"failCommands": [*commands], "appName": "bluestreak", **how}
        await self.command(member, {**fail_point, "mode": "alwaysOn", "data": data})
        try:
            yield
        finally:
            await self._turn_off(member, fail_point)

    async def _turn_off(self, member: Member, fail_point: Document) -> None:
        async def is_off() -> bool:
            if member not in self._local.members:  # started again, without its fail points
                return True
            try:
                await self.command(member, {**fail_point, "mode": "off"})
            except PyMongoError:  # dead or halted, for now
                return False
            return True

        await eventually("commands no longer fail", is_off)

    async def _hello(self, member: Member) -> Document:
        try:
            async with _connected(member) as client:
                return dict(await client.admin.command("hello"))
        except PyMongoError:  # it is not there, or halted
            return {}

    async def _move_to_links(self) -> None:
        primary = await self.primary()
        async with _connected(primary) as client:
            config = (await client.admin.command("replSetGetConfig"))["config"]
            for place, link in zip(config["members"], self._links, strict=True):
                place["host"] = f"127.0.0.1:{link.port}"
            config["version"] += 1
            await client.admin.command("replSetReconfig", config)
        await eventually("all members follow by way of the links", self._is_whole)

    async def _is_whole(self) -> bool:
        async with _connected(await self.primary()) as client:
            status = await client.admin.command("replSetGetStatus")
        return sorted(member["stateStr"] for member in status["members"]) == [
            "PRIMARY",
            "SECONDARY",
            "SECONDARY",
        ]

    def _who(self, port: int) -> int | None:
        return owner(port, [os.getpid(), *self.pids, *self.clients()])


@asynccontextmanager
async def _connected(member: Member) -> AsyncIterator[AsyncMongoClient[Document]]:
    client: AsyncMongoClient[Document] = AsyncMongoClient(
        "127.0.0.1",
        member.port,
        directConnection=True,
        serverSelectionTimeoutMS=_ANSWER_WITHIN_MS,
        connectTimeoutMS=_ANSWER_WITHIN_MS,
        socketTimeoutMS=5 * _ANSWER_WITHIN_MS,
    )
    async with client:
        yield client

"""A connection to a server that loses what a test wants to be lost: answers, bytes, connections."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Self

_CHUNK = 1 << 20


class Passage(Enum):
    """What becomes of a connection."""

    OPEN = "bytes pass"
    FROZEN = "bytes wait, as if packets were dropped; the connection stays"
    CUT = "it is ended, and so is each new one"


Rule = Callable[[int | None], Passage]
"""What becomes of the connections of somebody."""


class LossyLink:
    """Passes bytes on in both directions, between `async with`'s two ends.

    A lost answer ends its connection, as a broken cable does, after the server has answered.

    `who` tells, from the port that a client comes from, who that is; so a link can be open for some
    and closed to others.
    """

    def __init__(self, server_port: int, who: Callable[[int], int | None] | None = None) -> None:
        self._server_port = server_port
        self._who = who
        self._to_lose: dict[bytes, int] = {}
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._rules: list[Rule] = []

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.drop()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port that leads to the server by way of this link."""
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Leads to the server by way of this link, and by no other."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    @contextmanager
    def losing(self, *commands: str, times: int) -> Iterator[None]:
        """Lose the next so many answers to each of these commands, and check that this was done."""
        with ExitStack() as undo:
            undo.callback(self._to_lose.clear)
            self.lose(*commands, times=times)
            yield
            assert not any(self._to_lose.values()), "fewer answers were lost than should have been"

    def lose(self, *commands: str, times: int) -> None:
        """Lose the next so many answers to each of these commands, whenever they come."""
        # A command is the first element of its message, and its value is a string.
        self._to_lose |= {b"\x02%b\0" % command.encode(): times for command in commands}

    @contextmanager
    def passing(self, rule: Rule) -> Iterator[None]:
        """For as long as the block lasts, let everybody pass as this says, by who they are.

        Where blocks overlap, the one that hinders most decides.
        """
        self._rules.append(rule)
        self._look_again()
        try:
            yield
        finally:
            self._rules.remove(rule)
            self._look_again()

    def freeze(self, origin: int | None) -> None:
        """Let no byte pass any more on the connections that somebody has; new ones are as usual."""
        for connection in self._connections.values():
            if connection.origin == origin:
                connection.is_dead = True
                connection.let_pass(Passage.FROZEN)

    def drop(self) -> int:
        """End all connections, once; how many there were."""
        for task in self._connections:
            task.cancel()
        return len(self._connections)

    def _look_again(self) -> None:
        for task, connection in self._connections.items():
            passage = self._passage(connection.origin)
            connection.let_pass(passage)
            if passage is Passage.CUT:
                task.cancel()

    def _passage(self, origin: int | None) -> Passage:
        found = {rule(origin) for rule in self._rules}
        hindering = (passage for passage in (Passage.CUT, Passage.FROZEN) if passage in found)
        return next(hindering, Passage.OPEN)

    def _accept(self, client: StreamReader, to_client: StreamWriter) -> None:
        origin = None
        if self._who is not None:
            origin = self._who(to_client.get_extra_info("peername")[1])
        passage = self._passage(origin)
        if passage is Passage.CUT:
            to_client.transport.abort()
            return
        connection = _Connection(origin, self._to_lose)
        connection.let_pass(passage)
        task = asyncio.create_task(connection.serve(client, to_client, self._server_port))
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)


class _Connection:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, origin: int | None, to_lose: dict[bytes, int]) -> None:
        self.origin = origin
        self.is_dead = False
        self._to_lose = to_lose
        self._is_open = asyncio.Event()
        self._is_lost = False

    def let_pass(self, passage: Passage) -> None:
        """Hold bytes back, or let them go."""
        if self.is_dead or passage is Passage.FROZEN:
            self._is_open.clear()
        else:
            self._is_open.set()

    async def serve(self, client: StreamReader, to_client: StreamWriter, server_port: int) -> None:
        """Return when an end has closed the connection; cancelled, break it off."""
        try:
            await self._is_open.wait()
            server, to_server = await asyncio.open_connection("127.0.0.1", server_port)
        except OSError:  # the server is not there
            to_client.transport.abort()
            return
        except asyncio.CancelledError:
            to_client.transport.abort()
            raise
        passing = [
            asyncio.create_task(self._pass_requests(client, to_server)),
            asyncio.create_task(self._pass_answers(server, to_client)),
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
            to_client.close()
            to_server.close()

    async def _pass_requests(self, client: StreamReader, to_server: StreamWriter) -> None:
        while request := await client.read(_CHUNK):
            await self._is_open.wait()
            for command, times in self._to_lose.items():
                if times and command in request:
                    self._to_lose[command] -= 1
                    self._is_lost = True
            to_server.write(request)
            await to_server.drain()

    async def _pass_answers(self, server: StreamReader, to_client: StreamWriter) -> None:
        while (answer := await server.read(_CHUNK)) and not self._is_lost:
            await self._is_open.wait()
            to_client.write(answer)
            await to_client.drain()

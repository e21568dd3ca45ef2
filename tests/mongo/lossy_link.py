"""A connection to a server that can lose the answer to a command that was carried out."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

_CHUNK = 1 << 20


class LossyLink:
    """Passes bytes on in both directions, between `async with`'s two ends.

    A lost answer ends its connection, as a broken cable does, after the server has answered.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._to_lose: dict[bytes, int] = {}
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def url(self) -> str:
        """Leads to the server by way of this link, and by no other."""
        port = self._listener.sockets[0].getsockname()[1]
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    @contextmanager
    def losing(self, *commands: str, times: int) -> Iterator[None]:
        """Lose the next so many answers to each of these commands, and check that this was done."""
        # A command is the first element of its message, and its value is a string.
        self._to_lose = {b"\x02%b\0" % command.encode(): times for command in commands}
        with ExitStack() as undo:
            undo.callback(self._to_lose.clear)
            yield
            assert not any(self._to_lose.values()), "fewer answers were lost than should have been"

    def _accept(self, client: StreamReader, to_client: StreamWriter) -> None:
        connection = asyncio.create_task(self._connect(client, to_client))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, client: StreamReader, to_client: StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        lost = asyncio.Event()
        passing = [
            asyncio.create_task(self._pass_requests(client, to_server, lost)),
            asyncio.create_task(self._pass_answers(server, to_client, lost)),
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
            to_client.close()
            to_server.close()

    async def _pass_requests(
        self, client: StreamReader, to_server: StreamWriter, lost: asyncio.Event
    ) -> None:
        while request := await client.read(_CHUNK):
            for command, times in self._to_lose.items():
                if times and command in request:
                    self._to_lose[command] -= 1
                    lost.set()
            to_server.write(request)
            await to_server.drain()

    async def _pass_answers(
        self, server: StreamReader, to_client: StreamWriter, lost: asyncio.Event
    ) -> None:
        while (answer := await server.read(_CHUNK)) and not lost.is_set():
            to_client.write(answer)
            await to_client.drain()

"""A link to a replica set that introduces itself as a router of a sharded cluster, a `mongos`.

All else that the server says is passed on as it is, so drivers and stores take it for a router, and
commands mean what they mean to the server. What a router would refuse, `sharding.py` knows.
"""

from __future__ import annotations

import asyncio
import struct
from asyncio import StreamReader, StreamWriter
from typing import Any, Self

import bson

_HEADER = struct.Struct("<iiii")
_REPLY, _MESSAGE = 1, 2013
_BODY_AT = {_REPLY: 20, _MESSAGE: 5}
"""Where the document of an answer begins, after its header."""

_OF_A_MEMBER = {"setName", "setVersion", "hosts", "primary", "me", "electionId", "secondary"}


class Router:
    """Passes bytes on between `async with`'s two ends."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
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
        """Leads to the server by way of this router."""
        return f"mongodb://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/"

    def _accept(self, client: StreamReader, to_client: StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(client, to_client))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, client: StreamReader, to_client: StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        passing = [
            asyncio.create_task(_pass_requests(client, to_server)),
            asyncio.create_task(_pass_answers(server, to_client)),
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)
            to_client.close()
            to_server.close()


async def _pass_requests(client: StreamReader, to_server: StreamWriter) -> None:
    while request := await client.read(1 << 20):
        to_server.write(request)
        await to_server.drain()


async def _pass_answers(server: StreamReader, to_client: StreamWriter) -> None:
    while True:
        length, *rest = _HEADER.unpack(await server.readexactly(_HEADER.size))
        body = _as_of_a_router(rest[2], await server.readexactly(length - _HEADER.size))
        to_client.write(_HEADER.pack(_HEADER.size + len(body), *rest) + body)
        await to_client.drain()


def _as_of_a_router(kind: int, body: bytes) -> bytes:
    if b"\x10maxWireVersion\0" not in body:
        return body
    begin = _BODY_AT[kind]
    hello: dict[str, Any] = bson.decode(body[begin:])
    own = {field: value for field, value in hello.items() if field not in _OF_A_MEMBER}
    return body[:begin] + bson.encode({"msg": "isdbgrid"} | own)

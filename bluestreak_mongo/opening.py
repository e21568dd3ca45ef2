"""A store's way to its database: opened once, opened anew when its user was lost, and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

from bluestreak_core.adapter import ServerClock
from bluestreak_core.argument import check_implements
from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import HomeLoop, finish_despite_cancel
from bluestreak_core.errors import NotInitialised, StoreRefused
from bluestreak_core.store import Hints
from bluestreak_mongo.connection import Connection
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import Unauthenticated, store_errors
from bluestreak_mongo.parts import Parts
from bluestreak_mongo.renewal import BlockingRenewer
from bluestreak_mongo.routing import is_router

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Opening:
    """Opens and closes a store's connection, and makes each of its calls by `call`.

    A server forgets the user of its connections when the user is dropped, even if it is created
    again. A call that meets this is made once more, by a new client.
    """

    def __init__(self, connection: Connection, clock: Clock | None) -> None:
        self.clock: Clock = ServerClock() if clock is None else clock
        check_implements("clock", self.clock, Clock)
        self._connection = connection
        self._former: Connection | None = None
        """Calls may still be under way by the former client, so it is closed later."""
        self._parts: Parts | None = None
        self._hints = Hints(self.clock)
        self._home = HomeLoop()
        self._reopening = asyncio.Lock()

    def __str__(self) -> str:
        return str(self._connection)

    async def open(self) -> None:
        """Connect, check the server and create the indexes; a repeat does nothing."""
        if self._parts is not None:
            self._home.check("init()")
            return
        self._home.enter("init()")
        self._reopening = asyncio.Lock()  # which belongs to the event loop, too
        try:
            self._parts = await finish_despite_cancel(self._connect(self._connection))
        except BaseException as error:
            self._home.leave()
            if isinstance(error, Unauthenticated):  # at once, so there are no credentials
                raise StoreRefused(str(error)) from error.__cause__
            raise

    async def close(self) -> None:
        """End what runs in the background, and close the client if it is the store's own."""
        if self._parts is not None:
            self._home.check("close()")
        self._home.leave()
        parts, self._parts = self._parts, None
        if parts is not None:
            await parts.close()
        await self._connection.close()
        former, self._former = self._former, None
        if former is not None:
            await former.close()

    async def call(
        self,
        method_of: Callable[[Parts], Callable[[*Args], Coroutine[Any, Any, T]]],
        *args: *Args,
    ) -> T:
        """Call a method of one of the parts, again on another connection if this has lost its user.

        A stale clock is measured meanwhile, in the background. Raises `NotInitialised` before
        `open` and after `close`.
        """
        parts = self._opened()
        if parts.timekeeper is not None:
            parts.timekeeper.refresh_soon()
        try:
            return await method_of(parts)(*args)
        except Unauthenticated as error:
            await finish_despite_cancel(self._reopen(parts, error))
            return await method_of(self._opened())(*args)

    def renewer(self) -> BlockingRenewer:
        """Renews leases on a connection of its own."""
        return BlockingRenewer(self._connection)

    def _opened(self) -> Parts:
        if self._parts is None:
            raise NotInitialised("a MongoStore")
        return self._parts

    async def _connect(self, connection: Connection) -> Parts:
        with store_errors():
            database = Database(connection.open())
            try:
                await self._prepare(database)
            except BaseException:
                await connection.close()
                raise
            return Parts.of(database, self.clock, self._hints)

    async def _prepare(self, database: Database) -> None:
        """Measure the clock, refuse what is known not to work, and create the indexes."""
        if isinstance(self.clock, ServerClock):
            await self.clock.measure(database.server_time)
        hello = await database.hello()
        database.is_routed = is_router(hello)
        if isinstance(self.clock, ServerClock):
            await database.check_server(hello)
        await database.check_collections()
        await database.create_indexes()

    async def _reopen(self, parts: Parts, error: Unauthenticated) -> None:
        """Connect by a new client, unless another call has done so."""
        async with self._reopening:
            if self._parts is not parts:
                return
            connection = self._connection.anew()
            if connection is None:
                raise StoreRefused(str(error)) from error.__cause__
            reopened = await self._connect(connection)
            if self._parts is not parts:  # it was closed meanwhile
                await reopened.close()
                await connection.close()
                return
            former, self._former = self._former, self._connection
            self._connection, self._parts = connection, reopened
        await parts.close()
        if former is not None:
            await former.close()

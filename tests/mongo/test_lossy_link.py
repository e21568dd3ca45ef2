"""The link of the tests does to connections what it says, and to those that it says."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.mongo.lossy_link import LossyLink, Passage, Rule

pytestmark = pytest.mark.asyncio

FRIEND, FOE = 1, 2


class Peer:
    """A client of a server that says everything back."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def say(self) -> None:
        self.writer.write(b"hello\n")

    async def is_answered(self) -> bool:
        """False when the connection has been ended instead."""
        try:
            return await self._reader.readline() == b"hello\n"
        except ConnectionError:
            return False

    async def talks(self) -> bool:
        try:
            self.say()
        except ConnectionError:
            return False
        return await self.is_answered()


class Site:
    """A server behind a link, and its clients."""

    def __init__(self) -> None:
        self._coming: deque[int] = deque()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Site]:
        server = await asyncio.start_server(_say_back, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        async with server, LossyLink(port, who=lambda _: self._coming.popleft()) as self.link:
            yield self

    @asynccontextmanager
    async def peer(self, who: int) -> AsyncIterator[Peer]:
        """A connection of somebody."""
        self._coming.append(who)
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.link.port))
        try:
            yield peer
        finally:
            peer.writer.close()


async def _say_back(reader: StreamReader, writer: StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    async with Site().open() as site:
        yield site


def against_foes(passage: Passage) -> Rule:
    return lambda origin: passage if origin == FOE else Passage.OPEN


async def test_bytes_pass_in_both_directions(site: Site) -> None:
    async with site.peer(FRIEND) as friend:
        assert await friend.talks()


async def test_connections_that_are_dropped_end_and_new_ones_are_as_usual(site: Site) -> None:
    async with site.peer(FRIEND) as before:
        assert await before.talks()
        site.link.drop()
        assert not await before.talks()
    async with site.peer(FRIEND) as after:
        assert await after.talks()


async def test_who_is_cut_off_loses_connections_and_gets_no_new_ones(site: Site) -> None:
    async with site.peer(FRIEND) as friend, site.peer(FOE) as foe:
        assert await friend.talks()
        assert await foe.talks()
        with site.link.passing(against_foes(Passage.CUT)):
            assert not await foe.talks()
            async with site.peer(FOE) as again:
                assert not await again.talks()
            assert await friend.talks()
    async with site.peer(FOE) as healed:
        assert await healed.talks()


async def test_who_is_frozen_hears_nothing_until_it_is_over(site: Site) -> None:
    async with site.peer(FRIEND) as friend, site.peer(FOE) as foe:
        assert await foe.talks()
        with site.link.passing(against_foes(Passage.FROZEN)):
            foe.say()
            answer = asyncio.create_task(foe.is_answered())
            assert await friend.talks()
            assert await friend.talks()
            assert not answer.done()
        assert await answer


async def test_of_several_rules_the_one_that_hinders_most_holds_for_as_long_as_it_lasts(
    site: Site,
) -> None:
    frozen = site.link.passing(against_foes(Passage.FROZEN))
    cut = site.link.passing(against_foes(Passage.CUT))
    async with site.peer(FOE) as foe:
        assert await foe.talks()
        with frozen:
            cut.__enter__()
            assert not await foe.talks()
        async with site.peer(FOE) as again:
            assert not await again.talks()
        cut.__exit__(None, None, None)
    async with site.peer(FOE) as healed:
        assert await healed.talks()


async def test_connections_that_are_frozen_for_good_stay_so_and_new_ones_are_as_usual(
    site: Site,
) -> None:
    async with site.peer(FOE) as foe, site.peer(FRIEND) as friend:
        assert await friend.talks()
        assert await foe.talks()
        site.link.freeze(FOE)
        foe.say()
        answer = asyncio.create_task(foe.is_answered())
        with site.link.passing(against_foes(Passage.FROZEN)):
            assert await friend.talks()
        async with site.peer(FOE) as again:
            assert await again.talks()
        assert not answer.done()
        site.link.drop()
        assert not await answer


async def test_without_a_server_a_connection_ends() -> None:
    async with LossyLink(1) as link:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", link.port))
        assert not await peer.talks()
        peer.writer.close()

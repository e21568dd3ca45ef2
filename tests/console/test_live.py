"""Open pages are told when something has changed."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request

from bluestreak_console import live
from bluestreak_console.site import Site
from tests.console.arrange import OPERATOR, Console

pytestmark = pytest.mark.asyncio


def _request(query: str) -> Request:
    return Request({"type": "http", "headers": [], "query_string": query.encode()})


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_PAUSE", 0.001)


@pytest.mark.parametrize("query", ["id=w", "status=idle&status=cancelled", ""])
async def test_a_page_hears_of_a_change_and_of_nothing_else(site: Console, query: str) -> None:
    await site.waiting("w")
    told = live._told(site.bluestreak, _request(query))
    assert await anext(told) == "retry: 2000\n\n"
    assert await anext(told) == ": same\n\n"
    await site.bluestreak.cancel("w")
    async with asyncio.timeout(30):
        while await anext(told) == ": same\n\n":
            pass
    await told.aclose()


async def test_a_stream_ends_so_that_a_server_can(
    site: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LIFE", 0.0)
    assert [each async for each in live._told(site.bluestreak, _request("id=w"))] == [
        "retry: 2000\n\n"
    ]
    assert live._open == 0


async def test_there_are_so_many_streams_and_no_more(
    site: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_STREAMS", 0)
    console = Site(site.bluestreak, lambda request: OPERATOR, title="Bluestreak", secret=None)
    answer = await live.stream(console, _request(""), OPERATOR)
    assert answer.status_code == 204

"""Stores and hooks that are put around those of a client or a worker afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest
from typing_extensions import override

from bluestreak_core import Bluestreak, Context, InvalidArgument, RunHook, Store, UserCall
from bluestreak_core.store import StoreWrapper
from bluestreak_memory import MemoryStore

pytestmark = pytest.mark.asyncio

T = TypeVar("T")


class Named(RunHook):
    """Notes each call under a name."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self._name = name
        self._notes = notes

    @override
    async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
        self._notes.append(f"{self._name} {call.kind.value}")
        return await proceed()


class Noting(StoreWrapper):
    """Notes the names of all calls."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.names: list[str] = []

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.names.append(name)
        return await call()


async def handle(ctx: Context, input: None) -> None:
    """Does nothing."""


async def run(bluestreak: Bluestreak) -> None:
    async with bluestreak:
        polling = asyncio.create_task(bluestreak.poll())
        await bluestreak.start("w", "handle")
        await bluestreak.wait("w")
        bluestreak.stop()
        await polling


async def test_an_added_hook_is_the_outermost_one_of_all_handlers() -> None:
    notes: list[str] = []
    bluestreak = Bluestreak(MemoryStore(), hooks=[Named("inner", notes)])
    bluestreak.register_handler("handle", handle)
    outer = Named("outer", notes)
    bluestreak.add_hook(outer)
    assert bluestreak.hooks[0] is outer
    await run(bluestreak)
    assert notes == ["outer handler", "inner handler"]


async def test_a_wrapped_store_gets_the_calls_of_the_client_and_of_the_worker() -> None:
    wrappers: list[Noting] = []

    def wrap(store: Store) -> Store:
        wrappers.append(Noting(store))
        return wrappers[0]

    bluestreak = Bluestreak(MemoryStore())
    bluestreak.register_handler("handle", handle)
    bluestreak.wrap_store(wrap)
    await run(bluestreak)
    assert {"init", "create", "claim", "finish", "close"} <= set(wrappers[0].names)


async def test_a_store_is_wrapped_by_stores_only() -> None:
    bluestreak = Bluestreak(MemoryStore())
    bluestreak.register_handler("handle", handle)
    with pytest.raises(InvalidArgument, match="wrapped store"):
        bluestreak.wrap_store(lambda _: cast(Store, None))
    await run(bluestreak)

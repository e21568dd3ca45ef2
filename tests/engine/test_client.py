"""A `Client`: a process that starts workflows and looks at them, and runs none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    Client,
    Context,
    HandlerNotRegistered,
    InvalidArgument,
    InvalidHandler,
    InvalidId,
    NotInitialised,
    Status,
    WorkflowCancelled,
    WrongEventLoop,
)
from bluestreak_core.machine import Transition
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_memory import MemoryStore
from bluestreak_pydantic import PydanticCodec
from tests.engine.arrange import Fleet


@dataclass(frozen=True)
class Order:
    item: str
    count: int


@dataclass(frozen=True)
class Receipt:
    total: int


async def buy(ctx: Context, input: Order) -> Receipt:
    return Receipt(total=input.count * 7)


ORDER = Order(item="ink", count=2)


@pytest.mark.asyncio
async def test_a_client_starts_what_a_worker_runs(fleet: Fleet, store: RecordingStore) -> None:
    async def double(ctx: Context, input: int) -> int:
        return input * 2

    worker = await fleet.engine()
    worker.register_handler("double", double)
    client = Client(store)
    await client.init()
    assert await client.start("w", "double", 21)
    async with fleet.polling(worker):
        assert await client.wait("w") == 42
    assert [found.workflow_id async for found in client.list(status="finished")] == ["w"]


class _WakesOnceForNothing(MemoryStore):
    """Its workflow is cancelled between the look and the wait that follow."""

    has_woken = False

    @override
    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        if not self.has_woken:
            self.has_woken = True
            return True
        standing = await self.find_standing(workflow_id)
        if standing is not None and not standing.status.ended:
            await self.control(workflow_id, Transition.CANCEL, self.clock.now())
        return await super().wait_for_end(workflow_id, since, timeout)


@pytest.mark.asyncio
async def test_a_wait_that_was_woken_for_nothing_notices_an_end_of_the_same_millisecond(
    clock: ManualClock,
) -> None:
    async with Client(_WakesOnceForNothing(clock=clock)) as client:
        await client.start("w", "h")
        with pytest.raises(WorkflowCancelled):
            await asyncio.wait_for(client.wait("w"), 10)


@pytest.mark.asyncio
async def test_the_handlers_of_a_client_convert_inputs_and_results(
    fleet: Fleet, store: RecordingStore
) -> None:
    worker = await fleet.engine(codec=PydanticCodec())
    worker.register_handler("buy", buy)
    client = Client(store, codec=PydanticCodec(), handlers={"buy": buy})
    await client.init()
    assert client.handlers == {"buy": buy}
    assert await client.start("w", buy, ORDER)
    async with fleet.polling(worker):
        assert await client.wait("w", handler=buy) == Receipt(total=14)
    workflow = await client.find_workflow("w")
    assert workflow is not None
    assert (workflow.handler_id, workflow.input) == ("buy", {"item": "ink", "count": 2})


@pytest.mark.asyncio
async def test_a_client_without_handlers_starts_by_id_only() -> None:
    async with Client(MemoryStore()) as client:
        with pytest.raises(HandlerNotRegistered, match="function 'buy' is not a registered"):
            await client.start("w", buy, ORDER)
        assert await client.find_workflow("w") is None
        assert await client.start("w", "buy", {"item": "ink", "count": 2})


@pytest.mark.asyncio
async def test_a_client_is_open_within_its_block() -> None:
    client = Client(MemoryStore())
    with pytest.raises(NotInitialised, match=r"^start\(\)"):
        await client.start("w", "h")
    async with client as opened:
        assert opened is client
        assert await client.start("w", "h")
        client.check_open("mine()")
    with pytest.raises(NotInitialised, match=r"^find_workflow\(\)"):
        await client.find_workflow("w")
    with pytest.raises(NotInitialised, match=r"^mine\(\)"):
        client.check_open("mine()")


@pytest.mark.asyncio
async def test_a_client_belongs_to_the_event_loop_that_opened_it() -> None:
    async with Client(MemoryStore()) as client:
        await client.start("w", "h")
        with pytest.raises(WrongEventLoop, match=r"^cancel\(\)"):
            await asyncio.to_thread(lambda: asyncio.run(client.cancel("w")))
        assert await client.count() == dict.fromkeys(Status, 0) | {Status.IDLE: 1}


async def one_argument(ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("handlers", "error"),
    [
        (["buy"], InvalidArgument),
        ({"": buy}, InvalidId),
        ({"buy": "buy"}, InvalidHandler),
        ({"buy": one_argument}, InvalidHandler),
    ],
)
def test_a_client_refuses_what_is_not_a_handler(handlers: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Client(MemoryStore(), handlers=handlers)


def test_a_client_refuses_what_is_not_a_store_or_a_codec() -> None:
    store: Any = object()
    with pytest.raises(InvalidArgument, match="expected a Store"):
        Client(store)
    codec: Any = object()
    with pytest.raises(InvalidArgument, match="expected a Codec"):
        Client(MemoryStore(), codec=codec)


def test_a_bluestreak_is_a_client_and_both_name_their_store() -> None:
    bluestreak = Bluestreak(MemoryStore())
    assert isinstance(bluestreak, Client)
    assert repr(bluestreak) == f"<Bluestreak on {MemoryStore()!r}, stopped>"
    assert repr(Client(MemoryStore())) == f"<Client on {MemoryStore()!r}>"

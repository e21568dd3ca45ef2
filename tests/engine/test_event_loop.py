"""A Bluestreak belongs to the event loop in which it was opened."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bluestreak_core import Bluestreak, Start, UsageError, WorkerState, WrongEventLoop
from bluestreak_core.testing.clock import START
from bluestreak_memory import MemoryStore
from tests.arrange import eventually
from tests.engine.arrange import Fleet


async def _listed(bluestreak: Bluestreak) -> list[Any]:
    return [summary async for summary in bluestreak.list()]


CALLS: dict[str, Callable[[Bluestreak], Awaitable[Any]]] = {
    "init()": lambda bluestreak: bluestreak.init(),
    "close()": lambda bluestreak: bluestreak.close(),
    "start()": lambda bluestreak: bluestreak.start("w2", "h"),
    "start_many()": lambda bluestreak: bluestreak.start_many([Start("w2", "h")]),
    "wait()": lambda bluestreak: bluestreak.wait("w"),
    "poll()": lambda bluestreak: bluestreak.poll(),
    "cancel()": lambda bluestreak: bluestreak.cancel("w"),
    "pause()": lambda bluestreak: bluestreak.pause("w"),
    "resume()": lambda bluestreak: bluestreak.resume("w"),
    "retry()": lambda bluestreak: bluestreak.retry("w"),
    "fork()": lambda bluestreak: bluestreak.fork("w", "f"),
    "find_workflow()": lambda bluestreak: bluestreak.find_workflow("w"),
    "find_step()": lambda bluestreak: bluestreak.find_step("w", "s"),
    "find_nap()": lambda bluestreak: bluestreak.find_nap("w", "n"),
    "list()": _listed,
    "count()": lambda bluestreak: bluestreak.count(),
    "describe()": lambda bluestreak: bluestreak.describe("w"),
    "prune()": lambda bluestreak: bluestreak.prune(ended_before=START),
}


async def _elsewhere(call: Callable[[], Awaitable[Any]]) -> Any:
    """Make a call in the event loop of another thread."""

    async def main() -> Any:
        return await call()

    return await asyncio.to_thread(lambda: asyncio.run(main()))


@pytest.mark.asyncio
async def test_every_call_from_another_event_loop_is_refused_and_disturbs_nobody(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    bluestreak = await fleet.engine()
    gate = asyncio.Event()

    @bluestreak.handler("h")
    async def handle(ctx: object, input: None) -> str:
        await gate.wait()
        return "done"

    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        waiting = asyncio.create_task(bluestreak.wait("w"))
        await eventually(lambda: bluestreak.health().runs == 1)
        for name, call in CALLS.items():
            with pytest.raises(WrongEventLoop) as refused:
                await _elsewhere(lambda: call(bluestreak))  # noqa: B023
            assert refused.value.call == name
        gate.set()
        assert await waiting == "done"
        assert bluestreak.health().state is WorkerState.POLLING
    assert await bluestreak.find_workflow("w2") is None
    assert caplog.text == ""


@pytest.mark.asyncio
async def test_a_list_that_was_made_here_is_refused_where_another_event_loop_iterates(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.engine()
    listed = bluestreak.list()
    with pytest.raises(WrongEventLoop):
        await _elsewhere(lambda: anext(listed))


@pytest.mark.asyncio
async def test_a_store_belongs_to_one_event_loop_even_if_others_open_it(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(WrongEventLoop, match=r"^init\(\)"):
        await _elsewhere(Bluestreak(fleet.store).init)
    assert await bluestreak.start("w", "h")


@pytest.mark.asyncio
async def test_the_refusal_says_what_to_do_and_can_be_pickled() -> None:
    refusal: WrongEventLoop = pickle.loads(pickle.dumps(WrongEventLoop("wait()")))  # noqa: S301
    assert isinstance(refusal, UsageError)
    assert "wait() was called in another event loop than init()" in str(refusal)
    assert "asyncio.run_coroutine_threadsafe()" in str(refusal)


@pytest.mark.asyncio
async def test_a_thread_may_hand_its_calls_over(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    loop = asyncio.get_running_loop()

    def start() -> bool:
        return asyncio.run_coroutine_threadsafe(bluestreak.start("w", "h"), loop).result()

    assert await asyncio.to_thread(start)


@pytest.mark.asyncio
async def test_any_thread_may_stop_a_worker(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(poll_interval=3600)
    poll = asyncio.create_task(bluestreak.poll())
    await fleet.store.until_returned("claim")
    await asyncio.to_thread(bluestreak.stop)
    await poll


def test_what_was_closed_can_be_opened_in_another_event_loop() -> None:
    store = MemoryStore()
    bluestreak = Bluestreak(store)

    async def start(workflow_id: str) -> bool:
        async with bluestreak:
            return await bluestreak.start(workflow_id, "h")

    assert asyncio.run(start("w"))
    assert not asyncio.run(start("w"))


def test_an_event_loop_that_has_ended_is_no_obstacle_to_another() -> None:
    bluestreak = Bluestreak(MemoryStore())

    async def start(workflow_id: str) -> bool:
        await bluestreak.init()
        return await bluestreak.start(workflow_id, "h")

    assert asyncio.run(start("w"))
    with pytest.raises(WrongEventLoop):
        asyncio.run(_listed(bluestreak))
    assert not asyncio.run(start("w"))

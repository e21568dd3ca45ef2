"""Group commit: who shares a write, who waits for what, and what a caller's fate does to others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bluestreak_core import StoreUnavailable
from bluestreak_core.adapter import GroupCommit, Outcome
from tests.arrange import eventually

pytestmark = pytest.mark.asyncio


class Server:
    """Takes groups, and answers each when it is told to."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.refused: dict[str, Exception] = {}
        self._answers: list[asyncio.Future[None]] = []

    async def write(self, items: Sequence[str]) -> list[Outcome]:
        answer = asyncio.get_running_loop().create_future()
        self.groups.append(list(items))
        self._answers.append(answer)
        await answer
        return [self.refused.get(item) for item in items]

    def answer(self, group: int) -> None:
        self._answers[group].set_result(None)

    def break_down(self, group: int, error: Exception) -> None:
        self._answers[group].set_exception(error)

    async def has(self, groups: int) -> None:
        await eventually(lambda: len(self.groups) == groups)


@pytest.fixture
def server() -> Server:
    return Server()


def group_commit(
    server: Server, *, max_items: int = 100, max_bytes: int = 1000, max_writes: int = 1
) -> GroupCommit[str]:
    return GroupCommit(
        server.write, max_items=max_items, max_bytes=max_bytes, max_writes=max_writes
    )


def calls(commit: GroupCommit[str], *items: str, size: int = 1) -> list[asyncio.Task[Outcome]]:
    """Calls that are made in one turn of the loop, the one after the other."""
    return [asyncio.ensure_future(commit.call(item, size)) for item in items]


async def settle() -> None:
    """Let everything go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_call_alone_leaves_at_once_and_waits_for_its_answer(server: Server) -> None:
    (call,) = calls(group_commit(server), "a")
    await server.has(1)
    await settle()
    assert not call.done()
    server.answer(0)
    assert await call is None


async def test_calls_of_one_turn_of_the_loop_share_a_write(server: Server) -> None:
    together = calls(group_commit(server), "a", "b", "c")
    await server.has(1)
    assert server.groups == [["a", "b", "c"]]
    server.answer(0)
    assert await asyncio.gather(*together) == [None, None, None]


async def test_what_gathers_while_a_write_is_under_way_shares_the_next_one(server: Server) -> None:
    commit = group_commit(server)
    (first,) = calls(commit, "a")
    await server.has(1)
    second = [*calls(commit, "b"), *calls(commit, "c")]
    await settle()
    second += calls(commit, "d")
    await settle()
    assert server.groups == [["a"]]
    server.answer(0)
    await first
    await server.has(2)
    assert server.groups[1] == ["b", "c", "d"]
    server.answer(1)
    await asyncio.gather(*second)


async def test_the_next_group_leaves_before_those_who_waited_go_on(server: Server) -> None:
    commit = group_commit(server)
    order: list[str] = []

    async def first() -> None:
        await commit.call("a", 1)
        order.append(f"a went on after {len(server.groups)} writes")

    waiting = asyncio.ensure_future(first())
    await server.has(1)
    (next_one,) = calls(commit, "b")
    await settle()
    server.answer(0)
    await waiting
    assert order == ["a went on after 2 writes"]
    server.answer(1)
    await next_one


async def test_as_many_writes_are_under_way_as_may_be(server: Server) -> None:
    commit = group_commit(server, max_items=2, max_writes=2)
    pending = calls(commit, "a", "b", "c", "d", "e")
    await settle()
    assert server.groups == [["a", "b"], ["c", "d"]]
    server.answer(1)
    await server.has(3)
    assert server.groups[2] == ["e"]
    server.answer(0)
    server.answer(2)
    assert await asyncio.gather(*pending) == [None] * 5


async def test_a_group_keeps_to_its_bytes_and_a_bigger_item_goes_alone(server: Server) -> None:
    commit = group_commit(server, max_bytes=1000)
    pending = [
        asyncio.ensure_future(commit.call(item, size))
        for item, size in [("a", 400), ("b", 600), ("c", 1), ("big", 5000), ("d", 1)]
    ]
    for number in range(4):
        await server.has(number + 1)
        server.answer(number)
    await asyncio.gather(*pending)
    assert server.groups == [["a", "b"], ["c"], ["big"], ["d"]]


async def test_each_call_gets_its_own_outcome(server: Server) -> None:
    server.refused["b"] = ValueError("only b")
    pending = calls(group_commit(server), "a", "b", "c")
    await server.has(1)
    server.answer(0)
    assert await asyncio.gather(*pending) == [None, server.refused["b"], None]


async def test_a_write_that_breaks_down_is_told_to_its_callers_and_to_no_others(
    server: Server,
) -> None:
    commit = group_commit(server)
    first = calls(commit, "a", "b")
    await server.has(1)
    second = calls(commit, "c")
    await settle()
    error = ZeroDivisionError("a bug")
    server.break_down(0, error)
    assert await asyncio.gather(*first) == [error, error]
    await server.has(2)
    server.answer(1)
    assert await asyncio.gather(*second) == [None]


async def test_a_write_that_takes_long_does_not_hold_up_the_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluestreak_core.adapter.group_commit.SLOW", 0)
    monkeypatch.setattr("bluestreak_core.adapter.group_commit.MAX_SLOW_WRITES", 2)
    pending = calls(group_commit(server, max_items=1), "a", "b", "c", "d")
    await server.has(3)
    await settle()
    assert server.groups == [["a"], ["b"], ["c"]]  # two that are slow, and one under way
    server.answer(2)
    await server.has(4)
    for group in (0, 1, 3):
        server.answer(group)
    assert await asyncio.gather(*pending) == [None] * 4


async def test_a_caller_that_is_cancelled_before_its_group_leaves_is_not_written(
    server: Server,
) -> None:
    commit = group_commit(server)
    (first,) = calls(commit, "a")
    await server.has(1)
    given_up, kept = calls(commit, "b", "c")
    await settle()
    given_up.cancel()
    await settle()
    assert given_up.cancelled()
    server.answer(0)
    await server.has(2)
    assert server.groups[1] == ["c"]
    server.answer(1)
    assert [await first, await kept] == [None, None]


async def test_a_caller_that_is_cancelled_later_waits_for_its_write_and_disturbs_nobody(
    server: Server,
) -> None:
    given_up, kept = calls(group_commit(server), "a", "b")
    await server.has(1)
    given_up.cancel()
    await settle()
    assert not given_up.done()
    assert not kept.done()
    server.answer(0)
    assert await kept is None
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_a_group_that_everybody_has_left_is_not_sent(server: Server) -> None:
    commit = group_commit(server)
    (first,) = calls(commit, "a")
    await server.has(1)
    (given_up,) = calls(commit, "b")
    await settle()
    given_up.cancel()
    await settle()
    server.answer(0)
    await first
    await settle()
    assert server.groups == [["a"]]


async def test_a_write_that_the_event_loop_breaks_off_leaves_nobody_waiting(
    server: Server,
) -> None:
    (call,) = calls(group_commit(server), "a")
    await server.has(1)
    (write,) = asyncio.all_tasks() - {call, asyncio.current_task()}
    write.cancel()
    assert isinstance(await call, StoreUnavailable)

"""A client for code that cannot await."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bluestreak_core import (
    Bluestreak,
    Client,
    ClientClosed,
    Context,
    InvalidArgument,
    InvalidId,
    Message,
    Send,
    Start,
    Status,
    Store,
    WorkflowAborted,
    WorkflowNotFound,
    WouldBlock,
)
from bluestreak_core.blocking import BlockingClient
from bluestreak_memory import MemoryStore
from bluestreak_mongo import MongoStore

ROOT = Path(__file__).parents[2]
NOT_FOR_IT = {"init", "check_open", "wrap_store", "watch", "handlers", "close"}
PAID = Message("paid", dict)


def make_worker(store: Store) -> Bluestreak:
    bluestreak = Bluestreak(store, max_failures=0)

    @bluestreak.handler("echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return await ctx.step("step", lambda: value)

    @bluestreak.handler("pay")
    async def pay(ctx: Context, value: Any) -> Any:
        return await ctx.receive("mail", PAID)

    @bluestreak.handler("break")
    async def break_(ctx: Context, text: str) -> None:
        raise ValueError(text)

    return bluestreak


class Working(Bluestreak):
    """A worker that polls from the beginning, in the loop of the client."""

    _polling: asyncio.Task[None]

    async def init(self) -> None:
        await super().init()
        self._polling = asyncio.create_task(self.poll())


@pytest.fixture(params=["memory", pytest.param("mongo", marks=pytest.mark.server)])
def make_store(request: pytest.FixtureRequest) -> Callable[[], Store]:
    if request.param == "memory":
        return MemoryStore
    url = request.getfixturevalue("mongodb_url")
    database = request.getfixturevalue("empty_database")
    return lambda: MongoStore(url, database=database)


@pytest.fixture
def client(make_store: Callable[[], Store]) -> Iterator[BlockingClient]:
    """One beside a worker."""

    def make() -> Client:
        worker = make_worker(make_store())
        worker.__class__ = Working
        return worker

    with BlockingClient(make) as client:
        yield client


def test_it_has_the_calls_of_a_client_with_their_arguments() -> None:
    def calls(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
        return {
            name: [
                (parameter.name, parameter.kind, parameter.default)
                for parameter in inspect.signature(value).parameters.values()
                if parameter.name != "session"
            ]
            for name, value in inspect.getmembers(kind, callable)
            if not name.startswith("_") and name not in NOT_FOR_IT
        }

    assert calls(BlockingClient) == calls(Client)


def test_workflows_are_started_messaged_and_waited_for(client: BlockingClient) -> None:
    assert client.start("w", "echo", {"n": 1})
    assert not client.start("w", "echo", {"n": 1})
    assert client.wait("w") == {"n": 1}
    assert client.start_many([Start("a", "pay"), Start("b", "pay")]) == [True, True]
    assert client.send("a", PAID, {"cents": 5}, message_id="m")
    assert client.send_many([Send("b", PAID, {"cents": 6})]) == [True]
    assert (client.wait("a"), client.wait("b")) == ({"cents": 5}, {"cents": 6})
    assert client.describe("w").workflow.status is Status.FINISHED
    step = client.find_step("w", "step")
    assert step is not None
    assert step.output == {"n": 1}
    assert client.find_nap("w", "nap") is None
    assert client.published("w", "nothing", 7) == 7


def test_workflows_are_controlled(client: BlockingClient) -> None:
    client.start("w", "echo", 1, delay=3600)
    client.pause("w")
    client.resume("w")
    assert client.cancel("w", "too late")
    found = client.find_workflow("w")
    assert found is not None
    assert (found.status, found.reason) == (Status.CANCELLED, "too late")
    assert client.fork("w", "f")
    assert client.wait("f") == 1
    client.retry("w")
    assert client.wait("w") == 1
    assert client.prune(ended_before=datetime.now(UTC) + timedelta(hours=1)).workflows == 2


def test_errors_are_those_of_the_client(client: BlockingClient) -> None:
    with pytest.raises(WorkflowNotFound):
        client.wait("nobody")
    with pytest.raises(InvalidId):
        client.start("", "echo")
    client.start("w", "break", "no such order")
    with pytest.raises(WorkflowAborted, match="no such order"):
        client.wait("w")
    with pytest.raises(InvalidArgument):
        client.list(status="dead")  # at once, before anything is read


@pytest.mark.parametrize(
    ("limit", "count"), [(None, 450), (0, 0), (1, 1), (200, 200), (399, 399), (1000, 450)]
)
def test_a_list_is_read_page_by_page(client: BlockingClient, limit: int | None, count: int) -> None:
    client.start_many([Start(f"w-{number:03}", "h", delay=3600) for number in range(450)])
    found = [summary.workflow_id for summary in client.list(order="id", limit=limit)]
    assert found == [f"w-{number:03}" for number in range(count)]


def test_many_threads_share_one_client(client: BlockingClient) -> None:
    def work(number: int) -> Any:
        client.start(f"w-{number}", "echo", number)
        return client.wait(f"w-{number}")

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(40))) == list(range(40))


def test_it_is_refused_where_an_event_loop_runs() -> None:
    client = BlockingClient(lambda: Client(MemoryStore()))

    async def call() -> None:
        for use in (lambda: client.start("w", "h"), client.list, client.close):
            with pytest.raises(WouldBlock, match="await a Client instead"):
                use()

    asyncio.run(call())
    client.close()


def test_closing_ends_the_calls_that_wait() -> None:
    client = BlockingClient(lambda: Client(MemoryStore()))
    client.start("w", "h", delay=3600)
    caught: list[BaseException] = []
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        try:
            client.wait("w", timeout=600)
        except ClientClosed as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    client.close()
    client.close()
    thread.join()
    assert [str(error) for error in caught] == [
        "wait(): the BlockingClient is closed; make another one"
    ]
    with pytest.raises(ClientClosed, match=r"start\(\)"):
        client.start("w", "h")


def test_what_it_is_made_of_is_checked() -> None:
    with pytest.raises(InvalidArgument, match="a function that makes a Client"):
        BlockingClient(Client(MemoryStore()))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="returns a Client"):
        BlockingClient(MemoryStore).count()  # type: ignore[arg-type]


def test_a_client_that_cannot_be_made_is_made_by_the_next_call() -> None:
    tries: list[Client] = []

    def make() -> Client:
        tries.append(Client(MemoryStore()))
        if len(tries) == 1:
            raise OSError("no route")
        return tries[-1]

    with BlockingClient(make) as client:
        with pytest.raises(OSError, match="no route"):
            client.count()
        assert client.count()["idle"] == 0


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        pytest.param(
            "forked",
            ["of child 0", "of child 1", "of the parent", "of the parent, later"],
            marks=pytest.mark.server,
        ),
        ("interrupted", ["interrupted 1"]),
        # What its thread complains of while Python ends is no matter.
        pytest.param("forgotten", ["the end"], marks=pytest.mark.server),
    ],
)
def test_processes_that_fork_are_interrupted_or_just_end(
    program: str, printed: list[str], mongodb_url: str, empty_database: str
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.blocking.programs"),
            *(program, mongodb_url, empty_database),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, printed), done.stderr

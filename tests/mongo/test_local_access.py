"""Who gets into a `LocalMongo`, where it listens, and what it keeps."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from bluestreak_core.errors import InvalidArgument
from bluestreak_mongo import LocalMongo, LocalMongoError

pytestmark = pytest.mark.server

Document = dict[str, Any]

COMMAND = [sys.executable, "-m", "bluestreak_mongo.local"]
ROOT = Path(__file__).parents[2]


def password_of(server: LocalMongo) -> str:
    return server.url.partition("@")[0].rpartition(":")[2]


def is_private(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.fixture
def free_port() -> int:
    """A port that is free, as is the one after it."""
    while True:
        with socket.socket() as probe, socket.socket() as next_probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                next_probe.bind(("127.0.0.1", port + 1))
                return port


# Who gets in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("replica_set", [True, False])
def test_only_the_url_with_its_password_gets_in(replica_set: bool) -> None:
    with LocalMongo(replica_set=replica_set) as server:
        with MongoClient[Document](server.url) as client:
            client.shop.orders.insert_one({"_id": 1})
        without = server.url.replace(f"bluestreak:{password_of(server)}@", "")
        with (
            MongoClient[Document](without) as stranger,
            pytest.raises(OperationFailure, match="requires authentication"),
        ):
            stranger.shop.orders.find_one()


def test_the_password_is_shown_to_no_other_user() -> None:
    with LocalMongo() as server:
        (member,) = server.members
        assert password_of(server) not in Path(f"/proc/{member.pid}/cmdline").read_text()
        assert is_private(member.folder)
        with pytest.raises(LocalMongoError) as raised:
            LocalMongo(port=member.port).start()
        assert password_of(server) not in str(raised.value)


def test_each_server_has_a_password_of_its_own() -> None:
    with LocalMongo(replica_set=False) as server, LocalMongo(replica_set=False) as other:
        assert password_of(server) != password_of(other)


def test_a_server_without_authorization_takes_everybody() -> None:
    with LocalMongo(authorization=False) as server, MongoClient[Document](server.url) as client:
        assert "@" not in server.url
        client.shop.orders.insert_one({"_id": 1})


@pytest.mark.parametrize("arguments", [["--auth"], ["--keyFile", "key"], ["--keyFile=key"]])
def test_how_users_are_known_is_left_to_local_mongo_or_refused(arguments: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="unless authorization=False") as refused:
        LocalMongo(arguments=arguments)
    assert refused.value.name == "arguments"


def test_a_server_runs_no_javascript_and_compresses_nothing() -> None:
    with LocalMongo() as server, MongoClient[Document](server.url) as client:
        client.shop.orders.insert_one({"_id": 1})
        with pytest.raises(OperationFailure, match="globalScriptEngine"):
            client.shop.orders.find_one({"$where": "true"})
        assert "compression" not in client.admin.command("hello", compression=["zlib", "zstd"])


def test_an_argument_takes_the_place_of_a_flag() -> None:
    arguments = ["--networkMessageCompressors=zlib"]
    with LocalMongo(arguments=arguments) as server, MongoClient[Document](server.url) as client:
        hello = client.admin.command("hello", compression=["zlib", "zstd"])
        assert hello["compression"] == ["zlib"]


# Where it listens --------------------------------------------------------------------------------


def test_members_listen_on_the_port_that_is_given_and_those_after_it(free_port: int) -> None:
    with LocalMongo(members=2, port=free_port) as server:
        assert [member.port for member in server.members] == [free_port, free_port + 1]


def test_a_given_port_that_is_taken_is_not_given_up_for_another() -> None:
    with LocalMongo(replica_set=False) as server:
        port = server.members[0].port
        with pytest.raises(LocalMongoError, match="exited with 48") as raised:
            LocalMongo(port=port).start()
    assert "Address already in use" in raised.value.log


def test_the_ports_of_all_members_have_to_exist() -> None:
    with pytest.raises(InvalidArgument, match="the last port is 65535"):
        LocalMongo(members=2, port=65535)


# What it keeps -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "replica_set"), [(1, True), (3, True), (1, False)])
def test_a_given_folder_keeps_data_and_password_for_other_ports(
    tmp_path: Path, members: int, replica_set: bool
) -> None:
    folder = tmp_path / "new" / "data"
    server = LocalMongo(members=members, replica_set=replica_set, data=folder)
    with server, MongoClient[Document](server.url) as client:
        client.shop.orders.insert_one({"_id": 1})
        before = password_of(server), {member.port for member in server.members}
    assert is_private(folder)
    with server, MongoClient[Document](server.url) as client:
        assert client.shop.orders.find_one() == {"_id": 1}
        client.shop.orders.insert_one({"_id": 2})
        assert password_of(server) == before[0]
        assert before[1].isdisjoint(member.port for member in server.members)


def test_data_outlasts_a_process_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with LocalMongo(data=folder) as server:
        with MongoClient[Document](server.url) as client:
            client.shop.orders.insert_one({"_id": 1})
        guard = int(Path(f"/proc/{server.members[0].pid}/stat").read_text().split()[3])
        os.kill(guard, signal.SIGKILL)
    with LocalMongo(data=folder) as server, MongoClient[Document](server.url) as client:
        assert client.shop.orders.find_one() == {"_id": 1}


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("of value")
    tmp_path.chmod(0o755)
    with pytest.raises(InvalidArgument, match="holds something else") as refused:
        LocalMongo(data=tmp_path).start()
    assert refused.value.name == "data"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match=r"^data .*cannot be used"):
        LocalMongo(data=tmp_path / "file").start()


def test_a_folder_is_not_opened_as_another_kind_of_deployment(tmp_path: Path) -> None:
    with LocalMongo(data=tmp_path / "data", replica_set=False):
        pass
    with pytest.raises(InvalidArgument, match="the folder holds a standalone server"):
        LocalMongo(data=tmp_path / "data").start()


# The command -------------------------------------------------------------------------------------


def test_the_command_takes_a_port_and_a_folder(tmp_path: Path, free_port: int) -> None:
    options = ["--port", str(free_port), "--data", str(tmp_path / "data"), "--members", "1"]
    urls = []
    for _ in range(2):
        with subprocess.Popen(
            [*COMMAND, *options], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as command:
            assert command.stdout is not None
            urls.append(command.stdout.readline().strip())
            with MongoClient[Document](urls[-1]) as client:
                client.shop.orders.insert_one({"run": len(urls)})
                assert client.shop.orders.count_documents({}) == len(urls)
            command.terminate()
        assert command.returncode == 0
    assert urls[0] == urls[1]
    assert f"127.0.0.1:{free_port}/" in urls[0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "--port PORT"),
        (["--prot", "27117"], 2, "unrecognized arguments: --prot 27117"),
        (["--mem", "3"], 2, "unrecognized arguments: --mem 3"),
        (["27117"], 2, "unrecognized arguments: 27117"),
        (["--port", "mine"], 2, "argument --port: invalid int value: 'mine'"),
        (["--port", "70000"], 2, "port 70000: the last port is 65535"),
        (["--members", "9"], 2, "members 9: must be 1 to 7"),
        (["--data", "docs"], 2, "the folder holds something else"),
    ],
)
def test_the_command_explains_itself_and_starts_nothing(
    arguments: list[str], code: int, said: str
) -> None:
    run = subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == code
    assert said in run.stdout + run.stderr
    assert "mongodb://" not in run.stdout

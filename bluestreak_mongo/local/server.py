"""A throw-away MongoDB server on this machine, for tests, demonstrations and laptops.

`python -m bluestreak_mongo.local` runs one until Ctrl-C. `guard.py` says how it is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pymongo.errors import PyMongoError

from bluestreak_core.argument import check_count, to_timedelta
from bluestreak_core.concurrency import finish_despite_cancel
from bluestreak_core.errors import InvalidArgument, UsageError
from bluestreak_mongo.local import deployment
from bluestreak_mongo.local.deployment import HOST, SET_NAME, USER
from bluestreak_mongo.local.folder import check_folder, member_folder, new_key, open_folder
from bluestreak_mongo.local.mongod import Member, Mongod
from bluestreak_mongo.local.program import check_options, check_program, command_line, find_program

if TYPE_CHECKING:
    from typing import Self

    from bluestreak_core.argument import Duration

_MAX_MEMBERS = 7  # more could not all vote
_LAST_PORT = 65_535


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
        check_program(binary)
        if port is not None and check_count("port", port, least=1) > _LAST_PORT - members + 1:
            raise InvalidArgument("port", port, f"the last port is {_LAST_PORT}")
        check_options(parameters, arguments, authorization=authorization)
        self._binary = binary
        self._count = members
        self._replica_set = replica_set
        self._port = port
        self._data = check_folder(data)
        self._authorization = authorization
        self._key = ""
        self._options = command_line(
            parameters, arguments, replica_set=replica_set, is_kept=data is not None
        )
        self._start_timeout = to_timedelta("start_timeout", start_timeout).total_seconds()
        self._mongods: list[Mongod] = []

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
        binary = find_program(self._binary)
        deadline = self._deadline()
        key = self._open_data() or new_key()
        self._key = key if self._authorization else ""
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            for place in range(self._count):
                port = None if self._port is None else self._port + place
                folder = None if self._data is None else member_folder(self._data, place)
                self._mongods.append(Mongod(binary, self._options, self._key, port, folder))
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

    def _mongod_of(self, member: Member) -> Mongod:
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

"""One server process under its guard."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bluestreak_core.errors import StoreError
from bluestreak_mongo.local import guard
from bluestreak_mongo.local.deployment import HOST, LOOK_AGAIN

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Mongod:
    """A server on a port of its own, which is started, killed and started again."""

    def __init__(
        self, binary: str, options: Sequence[str], key: str, port: int | None, folder: Path | None
    ) -> None:
        self._binary = binary
        self._options = options
        self._key = key
        self._given_port = port
        self._kept = folder
        self._launch()

    @property
    def member(self) -> Member | None:
        """The process and its folder, once it has been started."""
        if self._guard.pid is None or self._guard.folder is None:
            return None
        return Member(port=self.port, pid=self._guard.pid, folder=self._guard.folder)

    def listen(self, deadline: float) -> None:
        """Return once this process, on a port that was free, accepts connections."""
        self._listen(deadline, if_taken=self._move if self._given_port is None else None)

    def kill(self, deadline: float) -> None:
        """Return once there is no process."""
        self._guard.order(guard.KILL)
        while self._guard.end is None:
            self._guard.hear()
            if time.monotonic() > deadline:
                raise self.error("was not killed by its guard within start_timeout")
            time.sleep(LOOK_AGAIN)

    def restart(self, deadline: float) -> Member:
        """Start a process again, on the same port and folder."""
        self.kill(deadline)
        self._guard.start_again()
        return self._listen(deadline, if_taken=self._guard.start_again)

    def dismiss(self) -> None:
        """Ask the guard to stop the server and to clean up."""
        self._guard.dismiss()

    def wait(self) -> None:
        """Wait until the guard has done so; clean up after a guard that could not."""
        has_cleaned_up = self._guard.wait()
        if not has_cleaned_up and self._kept is None and self._guard.folder is not None:
            shutil.rmtree(self._guard.folder, ignore_errors=True)

    def error(self, reason: str) -> LocalMongoError:
        """Describe a failure, with what the server has written about it."""
        log = _end_of_log(self._log())
        if "error while loading shared libraries" in log:
            reason += "; install what it needs: apt-get install libcurl4 libssl3"
        return LocalMongoError(self._binary, reason, log)

    def _launch(self) -> None:
        self.port = self._given_port or _free_port()
        command = [self._binary, "--port", str(self.port), *self._options]
        self._guard = _Guard(command, self._key, self._kept)

    def _move(self) -> None:
        self.dismiss()
        self.wait()
        self._launch()

    def _listen(self, deadline: float, if_taken: Callable[[], None] | None) -> Member:
        tries = 1
        while (member := self.member) is None or not self._is_listening():
            self._guard.hear()
            if self._guard.exit_code == _EXIT_PORT_TAKEN and if_taken and tries < _PORT_TRIES:
                tries += 1
                if_taken()
            elif self._guard.end is not None:
                raise self.error(self._guard.end)
            elif time.monotonic() > deadline:
                raise self.error("accepted no connections within start_timeout")
            time.sleep(LOOK_AGAIN)
        return member

    def _is_listening(self) -> bool:
        # The log rather than a connection, which another server on this port would accept as well.
        return self._guard.has_started and "Waiting for connections" in self._log()

    def _log(self) -> str:
        with contextlib.suppress(FileNotFoundError):  # the guard was ended and has cleaned up
            if self._guard.folder is not None:
                return (self._guard.folder / "mongod.log").read_text(errors="replace")
        return ""


class _Guard:
    """The process of `guard.py`: takes orders, and reports what becomes of the server."""

    def __init__(self, command: Sequence[str], key: str, kept: Path | None) -> None:
        self.pid: int | None = None
        self.folder: Path | None = None
        self.has_started = False
        self.exit_code: int | None = None
        self.end: str | None = None
        """Why there is no server process any more, if there is none."""
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - a script of ours, without a shell
                [sys.executable, "-I", "-S", guard.__file__, str(kept or ""), *command],
                env=os.environ | {guard.KEY: key},
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )

    def order(self, order: bytes) -> None:
        """Send an order."""
        with contextlib.suppress(OSError):  # the guard is gone, which `hear` notices
            self._channel.send(order)

    def start_again(self) -> None:
        """Order another server process."""
        self.has_started, self.exit_code, self.end = False, None, None
        self.order(guard.START)

    def hear(self) -> None:
        """Take in what the guard has reported since the last time."""
        try:
            report = self._channel.recv(4096)
        except BlockingIOError:
            return
        if not report and self.end is None:
            self.end = "was lost together with its guard"
        for line in report.splitlines():
            match json.loads(line):
                case {"pid": pid, "folder": folder}:
                    self.pid, self.folder = pid, Path(folder)
                    self.has_started = True
                case {"exit_code": code}:
                    self.exit_code = code
                    self.end = f"exited with {code}"
                case {"error": error}:
                    self.end = f"cannot be run: {error}"

    def dismiss(self) -> None:
        """Ask for the end of the server."""
        # Unlike close(), the guard notices this even if a forked process holds the socket too.
        with contextlib.suppress(OSError):  # the guard is gone
            self._channel.shutdown(socket.SHUT_WR)

    def wait(self) -> bool:
        """Wait for the end of the guard; whether it has cleaned up."""
        try:
            self._process.wait(_GUARD_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._channel.close()
        return self._process.returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _end_of_log(log: str) -> str:
    lines = log.splitlines()
    notable = [line for line in lines if '"s":"I"' not in line]
    return "\n".join((notable or lines)[-_LOG_LINES:])

"""The process between `LocalMongo` and a server, which makes certain that the server is stopped.

Run as a script, with a folder to keep, or "" for a temporary one, and a server's command line. It
starts the server over the folder and reports the server's process id and the folder, or why there
is no server; later, should the server end by itself, its exit code. Each is one line of JSON on
standard output.

It stops the server once standard input has something to read or is at its end, the parent is gone,
or a signal asks for it. A temporary folder is removed: there the server is killed, while one over a
folder to keep may shut down first. If the guard itself is killed, Linux kills the server and the
parent removes the folder; only when both are killed in one stroke a folder is left.

The secret that members share comes by the environment, which only the user of a process can read.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

KILL = b"k"
START = b"s"

KEY = "BLUESTREAK_LOCAL_KEY"
"""The variable that holds the secret of the members, if they have one."""

_END = b""  # what is read at the end of a file
_LOOK_AROUND = 0.1  # seconds
_SHUTDOWN = 8.0  # seconds, less than the parent waits for this process


def main(kept: str, command: Sequence[str]) -> None:
    """Run `command` until it is no longer wanted, and leave no process, nor a temporary folder."""
    asked_to_stop = threading.Event()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    parent = os.getppid()

    def order() -> bytes | None:
        """The next order, `_END` once the server is no longer wanted, or None for the moment."""
        # Whatever the parent has forked holds the pipe open, so its end is not the only sign.
        readable, _, _ = select.select([sys.stdin], [], [], _LOOK_AROUND)
        if asked_to_stop.is_set() or os.getppid() != parent:
            return _END
        try:
            return os.read(sys.stdin.fileno(), 1) if readable else None
        except ConnectionResetError:  # the parent has ended, and has not read all reports
            return _END

    key = os.environ.pop(KEY, "")
    with contextlib.nullcontext(kept) if kept else _temporary_folder() as folder:
        server = _Server([*command, "--dbpath", folder, *_key_file(folder, key)], folder)
        try:
            _serve(server, order)
        finally:
            if kept:
                server.shut_down()
            server.kill()


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="bluestreak-mongo-")


def _key_file(folder: str, key: str) -> list[str]:
    if not key:
        return []
    path = Path(folder, "key")
    path.touch(mode=0o600)
    path.write_text(key)
    return ["--keyFile", str(path)]


def _serve(server: _Server, next_order: Callable[[], bytes | None]) -> None:
    server.start()
    while (order := next_order()) != _END:
        if order is not None:
            server.kill()
        server.report_its_end()  # the parent may still want to read the log
        if order == START:
            server.start()


class _Server:
    """The server over its folder, which outlives its process."""

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self._command = command
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._end_is_reported = False

    def start(self) -> None:
        """Start a process, and report its id, or why there is none."""
        try:
            self._process = _start(self._command, Path(self._folder, "mongod.log"))
        except OSError as error:
            _report(error=str(error))
        else:
            self._end_is_reported = False
            _report(pid=self._process.pid, folder=self._folder)

    def shut_down(self) -> None:
        """Let the process write what it has only in memory, and end."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_SHUTDOWN)

    def kill(self) -> None:
        """Return once there is no process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def report_its_end(self) -> None:
        """Report that the process has ended, once."""
        if self._process is None or self._end_is_reported or self._process.poll() is None:
            return
        self._end_is_reported = True
        _report(exit_code=self._process.returncode)


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    # Not --logpath, which would miss what the dynamic linker and the option parser have to say.
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - the command comes from LocalMongo, without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_ending_with_this_process(),  # noqa: PLW1509 - there is one thread here
        )


def _ending_with_this_process() -> Callable[[], object] | None:
    """What a child calls so that Linux kills it when this process dies; elsewhere there is none."""
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415 - for Linux only

    prctl = ctypes.CDLL(None).prctl
    parent_death_signal = 1  # PR_SET_PDEATHSIG
    return lambda: prctl(parent_death_signal, signal.SIGKILL)


def _report(**facts: object) -> None:
    # Not print: what is left in its buffer is an error at exit when the parent is gone.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

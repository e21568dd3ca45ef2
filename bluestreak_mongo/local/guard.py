"""The process between `LocalMongo` and a server, which makes certain that the server is stopped.

Run as a script, with a server's command line. It starts the server over a new temporary folder and
tells its parent the server's process id and the folder, or why there is no server; later, should
the server end by itself, its exit code. Each is one line of JSON on standard output.

It kills the server and removes the folder once standard input has something to read or is at its
end, the parent is gone, or a signal asks for it. If the guard itself is killed, Linux kills the
server and the parent removes the folder; only when both are killed in one stroke a folder is left.
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

_LOOK_AROUND = 0.1  # seconds


def main(command: Sequence[str]) -> None:
    """Run `command` until it is no longer wanted, and leave neither process nor folder."""
    asked_to_stop = threading.Event()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    parent = os.getppid()

    def wanted() -> bool:
        # Whatever the parent has forked holds the pipe open, so its end is not the only sign.
        readable, _, _ = select.select([sys.stdin], [], [], _LOOK_AROUND)
        return not readable and not asked_to_stop.is_set() and os.getppid() == parent

    with tempfile.TemporaryDirectory(prefix="bluestreak-mongo-") as folder:
        try:
            server = _start([*command, "--dbpath", folder], Path(folder, "mongod.log"))
        except OSError as error:
            _tell(error=str(error))
            return
        try:
            _tell(pid=server.pid, folder=folder)
            _watch(server, wanted)
        finally:
            # Not SIGTERM: a primary may take 15 s to shut down, and nobody wants its data.
            server.kill()
            server.wait()


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


def _watch(server: subprocess.Popen[bytes], wanted: Callable[[], bool]) -> None:
    while wanted():
        if server.poll() is not None:
            _tell(exit_code=server.returncode)
            break
    while wanted():  # the parent may still want to read the log
        pass


def _tell(**facts: object) -> None:
    # Not print: what is left in its buffer is an error at exit when the parent is gone.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])

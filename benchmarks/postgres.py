"""A throw-away PostgreSQL server on this machine, with its default durability."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROGRAMS = Path("/usr/lib/postgresql")
_HOST = "127.0.0.1"
_ROLE = "bench"
_PATIENCE = 30.0  # seconds
_LOOK_AGAIN = 0.05  # seconds


def find() -> Path | None:
    """The folder of the newest installed server's programs, None where there is none."""
    on_path = shutil.which("postgres")
    versions = [path.parent for path in _PROGRAMS.glob("*/bin/postgres")]
    newest = max(versions, key=lambda folder: float(folder.parent.name), default=None)
    return newest or (Path(on_path).resolve().parent if on_path else None)


@contextmanager
def running(programs: Path) -> Iterator[str]:
    """The URL of a server, without a database's name, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="bluestreak-postgres-") as folder:
        user = _user(Path(folder))
        data, log, port = Path(folder, "data"), Path(folder, "log"), _free_port()
        _make_cluster(programs, data, user)
        address = ["-h", _HOST, "-p", str(port), "-k", folder]
        with log.open("wb") as output:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *address],
                user=user,
                stdout=output,
                stderr=output,
                cwd=folder,
            )
        try:
            _wait_for(programs, port, server)
            yield f"postgresql+psycopg://{_ROLE}@{_HOST}:{port}"
        finally:
            server.send_signal(signal.SIGINT)  # its fast shutdown
            server.wait(_PATIENCE)


def _make_cluster(programs: Path, data: Path, user: str | None) -> None:
    options = ["-U", _ROLE, "-A", "trust", "--no-instructions"]
    subprocess.run(
        [programs / "initdb", "-D", data, *options],
        user=user,
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=data.parent,
    )


def _user(folder: Path) -> str | None:
    """Whom to run it as: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return None
    shutil.chown(folder, "postgres")
    return "postgres"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(programs: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    address = ["-h", _HOST, "-p", str(port), "-U", _ROLE]
    deadline = time.monotonic() + _PATIENCE
    while subprocess.run([programs / "pg_isready", "-q", *address], check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise ChildProcessError(f"no answer from {programs / 'postgres'}")
        time.sleep(_LOOK_AGAIN)

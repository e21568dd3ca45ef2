"""Whose connection it is that comes from a port of this machine, as Linux knows it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def owner(port: int, pids: Iterable[int]) -> int | None:
    """Which of some processes has a connection from this loopback port, if any."""
    socket = _socket(port)
    if socket is None:
        return None
    return next((pid for pid in pids if _holds(pid, socket)), None)


def _socket(port: int) -> str | None:
    """The name of the socket at the near end of a connection, as its process holds it."""
    near_end = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines():
        fields = line.split()
        if fields[1] == near_end:
            return f"socket:[{fields[9]}]"
    return None


def _holds(pid: int, socket: str) -> bool:
    try:
        return any(str(held.readlink()) == socket for held in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # the process has ended, or a file was closed just now
        return False

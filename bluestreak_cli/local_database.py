"""The MongoDB of `bluestreak dev`: in a folder, where it is found again at the next run."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bluestreak_cli.application import MONGO
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError

_HOST = "127.0.0.1"


@asynccontextmanager
async def local_database(folder: Path) -> AsyncIterator[str]:
    """Run a server over the data in a folder during the block; yields its URL.

    Its port is that of the last run, if that is free. Raises `CommandError` if there is no server.
    """
    remedy = f"pip install 'bluestreak[local]', or name a server by --mongo URL or {MONGO}"
    try:
        from bluestreak_mongo import LocalMongo, LocalMongoError  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise CommandError(str(error), remedy, ExitCode.REFUSED) from error
    _make(folder)
    noted = folder / "port"
    server = LocalMongo(data=folder / "mongo", port=_free(noted))
    try:
        await server.__aenter__()
    except LocalMongoError as error:
        message = f"no server could be started: {error.reason}"
        if "DBPathInUse" in error.log:
            message = f"the database in {folder} is in use"
            remedy = "end the other 'bluestreak dev' of this folder"
        raise CommandError(message, remedy, ExitCode.REFUSED) from error
    try:
        noted.write_text(str(server.members[0].port))
        yield server.url
    finally:
        await server.__aexit__()


def _make(folder: Path) -> None:
    """Make a folder that git ignores: the password of the server is in there."""
    try:
        folder.mkdir(exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
    except OSError as error:
        remedy = "run it in a folder that you may write to"
        raise CommandError(f"{folder} cannot be used: {error.strerror}", remedy) from error


def _free(noted: Path) -> int | None:
    """The port of the last run, or None if there was none, or if it is taken."""
    with suppress(OSError, ValueError), socket.socket() as probe:
        port = int(noted.read_text())
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((_HOST, port))
        return port
    return None

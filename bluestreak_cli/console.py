"""The command that serves the console on this machine."""

from __future__ import annotations

import asyncio
import getpass
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluestreak_cli.application import Target
from bluestreak_cli.command import Session, add
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_cli.json_form import dumped
from bluestreak_cli.logs import set_up_logs
from bluestreak_cli.running import is_ignored

if TYPE_CHECKING:
    from uvicorn import Server

_PORT = 8788
_FAREWELL = 1  # seconds for open pages


async def console(
    session: Session,
    *,
    application: Annotated[
        str | None, typer.Argument(metavar="APP", help="The application; the same as --app.")
    ] = None,
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535)] = _PORT,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="A host name to be called by; repeatable.", metavar="HOST"),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Look at workflows, and change nothing.")
    ] = False,
) -> ExitCode:
    """Serve pages to find, understand and mend workflows, until Ctrl-C.

    The address that it prints has a key, without which nobody gets in. To serve a team, mount
    `bluestreak_console.app` into a web application with a login.
    """
    client_of = Target(app=application) if application is not None else session.target
    console_of, key = _needed()
    set_up_logs(as_json=session.output.as_json)
    with _listening(host, port) as listening:
        async with client_of.open() as client:
            hosts = [host, *(name or ())]
            app = console_of(
                client, key, user=getpass.getuser(), may_act=not read_only, hosts=hosts
            )
            address = f"http://{host}:{listening.getsockname()[1]}/?key={key}"
            session.output.line(
                dumped({"address": address}) if session.output.as_json else f"console: {address}"
            )
            session.output.flush()
            return await _serve(app, listening)


def _needed() -> tuple[Any, str]:
    """What makes the console, and a new key, if the extra is installed."""
    try:
        import uvicorn  # noqa: F401, PLC0415 - an extra

        from bluestreak_console import local_app, new_key  # noqa: PLC0415 - an extra
    except ImportError as error:
        remedy = "pip install 'bluestreak[cli,console]'"
        raise CommandError(f"the console needs {error.name}", remedy, ExitCode.REFUSED) from error
    return local_app, new_key()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        remedy = "take another one with --port, or 0 for any"
        raise CommandError(f"cannot listen on {host} port {port}: {error}", remedy) from error
    with listening:
        yield listening


async def _serve(app: Any, listening: socket.socket) -> ExitCode:
    from uvicorn import Config, Server  # noqa: PLC0415 - an extra

    class Unsignalled(Server):
        """Leaves signals to the command, which ends without a traceback."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = Config(
        app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=_FAREWELL
    )
    server = Unsignalled(config)
    codes = _stop_by_signals(server)
    await server.serve(sockets=[listening])
    return codes[0] if codes else ExitCode.DONE


def _stop_by_signals(server: Server) -> list[ExitCode]:
    """Let the first signal end the server; the list gets the exit code of it."""
    codes: list[ExitCode] = []
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        server.force_exit = server.should_exit
        server.should_exit = True
        codes.append(ExitCode.INTERRUPTED if number is signal.SIGINT else ExitCode.DONE)

    for number in (signal.SIGINT, signal.SIGTERM):
        if not is_ignored(number):
            loop.add_signal_handler(number, stop, number)
    return codes


def register(app: typer.Typer) -> None:
    """Add this command."""
    add(app, console, example="bluestreak console shop:bluestreak")

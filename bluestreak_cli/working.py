"""The command that runs workers."""

from __future__ import annotations

from typing import Annotated

import typer

from bluestreak_cli.application import load_worker
from bluestreak_cli.command import Session, add
from bluestreak_cli.event_loop import run_fast
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_cli.fleet import Fleet
from bluestreak_cli.instant import read_span
from bluestreak_cli.logs import set_up_logs
from bluestreak_cli.port import Address, serving
from bluestreak_cli.running import work_shown


async def worker(
    session: Session,
    *,
    application: Annotated[
        str | None, typer.Argument(metavar="APP", help="The application; the same as --app.")
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", help="How many processes.", min=1)
    ] = 1,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            help="Serve /healthz, /readyz and /metrics; 0 takes a free port.",
            min=0,
            max=65_535,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Where the port is; 0.0.0.0 is anywhere.")
    ] = "127.0.0.1",
    hung_after: Annotated[
        str,
        typer.Option(
            "--hung-after", metavar="SPAN", help="A process that is blocked so long is not healthy."
        ),
    ] = "60s",
) -> ExitCode:
    """Run workflows until SIGTERM or Ctrl-C.

    These drain the worker, and a second one skips the drain. With several processes, one that dies
    is replaced, and SIGHUP restarts all, one after the other.
    """
    app = application or session.target.app
    if app is None:
        remedy = "name it, as in 'bluestreak worker module:attribute'"
        raise CommandError("no application is given", remedy)
    as_json = session.output.as_json
    seconds = read_span(hung_after, "--hung-after").total_seconds()
    if seconds < 1:
        raise CommandError(f"--hung-after {hung_after} is too short", "give at least 1s")
    address = None if port is None else Address(host=host, port=port, hung_after=seconds)
    if processes == 1:
        bluestreak = load_worker(app)
        set_up_logs(as_json=as_json)
        return await work_shown("worker", bluestreak, address)
    set_up_logs(as_json=as_json)
    given = {"--json": as_json, "--debug": session.debug}
    options = [flag for flag, is_set in given.items() if is_set]
    if address is not None:
        options += ["--beat", str(address.beat)]
    fleet = Fleet(app, processes, options)
    with serving(address, fleet):
        return await fleet.run()


def register(app: typer.Typer) -> None:
    """Add this command."""
    add(app, worker, example="bluestreak worker shop:bluestreak --processes 4", run=run_fast)

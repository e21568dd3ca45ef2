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
from bluestreak_cli.logs import set_up_logs
from bluestreak_cli.running import work


async def worker(
    session: Session,
    *,
    application: Annotated[
        str | None, typer.Argument(metavar="APP", help="The application; the same as --app.")
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", help="How many processes.", min=1)
    ] = 1,
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
    if processes == 1:
        bluestreak = load_worker(app)
        set_up_logs(as_json=as_json)
        return await work("worker", bluestreak)
    set_up_logs(as_json=as_json)
    given = {"--json": as_json, "--debug": session.debug}
    return await Fleet(app, processes, [flag for flag, is_set in given.items() if is_set]).run()


def register(app: typer.Typer) -> None:
    """Add this command."""
    add(app, worker, example="bluestreak worker shop:bluestreak --processes 4", run=run_fast)

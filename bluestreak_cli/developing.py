"""The command for a developer: all that an application needs, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bluestreak_cli.application import APP, DATABASE, MONGO
from bluestreak_cli.command import Session, add
from bluestreak_cli.event_loop import run_fast
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_cli.json_form import dumped
from bluestreak_cli.local_database import local_database
from bluestreak_cli.logs import set_up_logs
from bluestreak_core.errors.text import printable

FOLDER = ".bluestreak"
"""Where the database is kept, in the current folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What runs beside the worker. `environment` is what the application finds it by."""

    environment: Mapping[str, str]
    shown: Mapping[str, str]


async def dev(
    session: Session,
    *,
    application: Annotated[
        str | None, typer.Argument(metavar="APP", help="The application; the same as --app.")
    ] = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option(
            "--watch", metavar="DIR", help="Restart when Python files change here [default: .]."
        ),
    ] = None,
) -> ExitCode:
    """Run a database, and a worker that restarts when the code changes.

    For work on an application, until Ctrl-C. The application finds the database in the variable
    BLUESTREAK_MONGO. Its data is kept in the folder .bluestreak. With --mongo, or if the variable
    is set, that server is used instead.
    """
    app = application or session.target.app or os.environ.get(APP)
    if not app:
        raise CommandError(
            "no application is given", "name it, as in 'bluestreak dev shop:bluestreak'"
        )
    watched = watch or [Path()]
    for path in watched:
        if not path.is_dir():
            raise CommandError(f"--watch {path} is no folder", "name one that exists")
    try:
        from bluestreak_cli.reloading import Reloading  # noqa: PLC0415 - for this command only
    except ImportError as error:
        raise CommandError(str(error), "pip install 'bluestreak[cli]'", ExitCode.REFUSED) from error
    set_up_logs(as_json=session.output.as_json)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    given = {"--json": session.output.as_json, "--debug": session.debug}
    options = [flag for flag, is_set in given.items() if is_set]
    async with _surroundings(session) as beside:
        _print(session, app, beside, watched)
        environment = {**beside.environment, "PYTHONDONTWRITEBYTECODE": "1"}
        return await Reloading(app, options, environment, watched, _folder()).run()


@asynccontextmanager
async def _surroundings(session: Session) -> AsyncIterator[Surroundings]:
    """Run during the block what the worker needs. This is the place for whatever joins it."""
    database = session.target.database
    named = {DATABASE: database} if database else {}
    url = session.target.mongo or os.environ.get(MONGO)
    if url:
        yield Surroundings(
            environment={MONGO: url, **named}, shown={"database": f"that of {MONGO}"}
        )
        return
    async with local_database(_folder()) as url:
        yield Surroundings(
            environment={MONGO: url, **named},
            shown={"database": f"MongoDB, kept in {FOLDER}"},
        )


def _folder() -> Path:
    return Path(FOLDER).absolute()


def _print(session: Session, app: str, beside: Surroundings, watched: list[Path]) -> None:
    output = session.output
    if output.as_json:
        paths = [str(path.absolute()) for path in watched]
        output.line(dumped({"app": app, "environment": beside.environment, "watched": paths}))
        output.flush()
        return
    for line in banner(app, beside, watched):
        output.line(printable(line))
    output.flush()


def banner(app: str, beside: Surroundings, watched: Sequence[Path]) -> Iterator[str]:
    """What is there, and how to use it from another terminal."""
    folders = ", ".join(str(path.absolute()) for path in watched)
    facts = {"application": app, **beside.shown, "watched": folders}
    for title, text in facts.items():
        yield f"{title:<12} {text}"
    yield ""
    yield "in another terminal:"
    for name, value in {APP: app, **beside.environment}.items():
        yield f"  export {name}={shlex.quote(value)}"
    yield "  bluestreak list"
    yield ""
    yield "Ctrl-C ends it all"
    yield ""


def register(app: typer.Typer) -> None:
    """Add this command."""
    add(app, dev, example="bluestreak dev shop:bluestreak", run=run_fast)

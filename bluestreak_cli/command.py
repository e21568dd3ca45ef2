"""How commands are added: each with the same options, the same errors and an example."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from bluestreak_cli.application import APP, DATABASE, MONGO, Target
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError, causes, failure_of
from bluestreak_cli.option import FILTERS, Filters
from bluestreak_cli.output import Output, is_terminal

_PANEL = "Application and output"


def _option(flag: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=help, metavar=metavar, rich_help_panel=_PANEL)


JSON = _option("--json", "Print JSON: one document, or a line for each item of a list.")
DEBUG = _option("--debug", "Print the traceback of an error.")
_APPLICATION: dict[str, Any] = {
    "app": Annotated[
        str | None,
        _option("--app", f"A Bluestreak, or a function that returns one [env {APP}].", "M:A"),
    ],
    "mongo": Annotated[
        str | None, _option("--mongo", f"A MongoDB, instead of --app [env {MONGO}].", "URL")
    ],
    "database": Annotated[
        str | None,
        _option("--database", f"Its database [env {DATABASE}; default bluestreak].", "NAME"),
    ],
}
_PRINTING: dict[str, Any] = {"as_json": Annotated[bool, JSON], "debug": Annotated[bool, DEBUG]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What every command gets: its target, and where it prints."""

    target: Target
    output: Output
    debug: bool

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Whether to go on. Raises if nobody can be asked."""
        if yes:
            return True
        if self.output.as_json or not is_terminal():
            raise CommandError("this asks a question first", "answer it with --yes")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")


Command = Callable[..., Coroutine[Any, Any, ExitCode | None]]
Runner = Callable[[Coroutine[Any, Any, ExitCode | None]], ExitCode | None]


def add(app: typer.Typer, command: Command, *, example: str, run: Runner = asyncio.run) -> None:
    """Add a command, an async function of a `Session` and of its own arguments.

    An argument `filters` is made of the options of `FILTERS`.
    """
    name = command.__name__.rstrip("_")
    shared = [*_APPLICATION.items(), *_PRINTING.items()]
    own = dict(list(inspect.signature(command, eval_str=True).parameters.items())[1:])
    has_filters = own.pop("filters", None) is not None

    def call_it(**given: Any) -> None:
        options = {key: given.pop(key) for key, _ in shared}
        if has_filters:
            which = {key: given.pop(key) for key in FILTERS}
            given["filters"] = Filters(**which)
        output, debug = Output(as_json=options["as_json"]), options["debug"]

        async def call() -> ExitCode | None:
            target = Target.of(options["app"], options["mongo"], options["database"])
            return await command(Session(target=target, output=output, debug=debug), **given)

        code = guarded(name, lambda: run(call()), output, debug=debug)
        if code:
            raise typer.Exit(code)

    parameters = [
        *own.values(),
        *(_parameter(*each, None) for each in (FILTERS.items() if has_filters else ())),
        *(_parameter(*each, False if each[0] in _PRINTING else None) for each in shared),
    ]
    vars(call_it)["__signature__"] = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    call_it.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(name, help=inspect.getdoc(command), epilog=f"Example: {example}")(call_it)


def _parameter(name: str, annotation: Any, default: object) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def guarded(
    name: str, work: Callable[[], ExitCode | None], output: Output, *, debug: bool
) -> ExitCode:
    """Do the work of a command, print what goes wrong, and return the exit code."""
    try:
        code = work() or ExitCode.DONE
        sys.stdout.flush()
    except BrokenPipeError:
        return ExitCode.BROKEN_PIPE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the edge of the program
        first = next(causes(error))
        failure = failure_of(first, name)
        output.failure(failure, error, debug=debug)
        return failure.code
    return code

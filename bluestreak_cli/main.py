"""The command `bluestreak`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

import bluestreak_core
from bluestreak_cli import (
    attending,
    console,
    control,
    developing,
    finding,
    maintenance,
    starting,
    tailing,
    working,
)
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import failure_of
from bluestreak_cli.output import Output, silence_stdout


class _Group(TyperGroup):
    """Says errors of the command line as all others, in one line."""

    @override
    def main(self, *args: Any, **options: Any) -> Any:
        words = args[0] if args else options.pop("args", None)
        given = list(sys.argv[1:] if words is None else words)
        fixed = {"prog_name": "bluestreak", "standalone_mode": False}
        try:
            code = super().main(given or ["--help"], **options | fixed)
            sys.stdout.flush()
        except SystemExit as ended:  # typer's own, if the pipe breaks while it prints a help
            is_broken = isinstance(ended.__context__, BrokenPipeError)
            code = ExitCode.BROKEN_PIPE if is_broken else ended.code
        except BrokenPipeError:  # what is left to print would be tried again at the exit
            silence_stdout()
            code = ExitCode.BROKEN_PIPE
        except (typer.TyperException, typer.Abort) as error:
            failure = failure_of(error)
            output = Output(as_json="--json" in given)
            output.failure(failure, error, debug="--debug" in given)
            code = failure.code
        sys.exit(code or ExitCode.DONE)


app = typer.Typer(
    name="bluestreak",
    cls=_Group,
    help="Run, find and control durable workflows.",
    epilog="Exit codes: 0 done, 1 refused or not found, 2 wrong usage, 3 store unavailable, "
    "130 Ctrl-C.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for _commands in (
    *(working, developing, attending, starting, finding, tailing),
    *(control, maintenance, console),
):
    _commands.register(app)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        sys.stdout.write(f"bluestreak {bluestreak_core.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Run, find and control durable workflows."""


def main() -> None:
    """Carry out the command line, and exit."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a terminal that cannot show everything
            reconfigure(errors="backslashreplace")
    app()

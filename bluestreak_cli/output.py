"""What commands print: for people, or as JSON."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import Failure
from bluestreak_cli.json_form import dumped
from bluestreak_core.errors.text import printable

_UNLIMITED = 100_000
"""Columns of what is no terminal: nothing is folded there."""

_STYLES = {
    "finished": "green",
    "running": "cyan",
    "failed": "yellow",
    "aborted": "red",
    "paused": "magenta",
    "cancelled": "dim",
    "ok": "green",
    "warning": "yellow",
    "fault": "red",
}


class Output:
    """The standard output of one command. Notes and errors go to the standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def answer(self, text: str, data: Any) -> None:
        """The answer of a command: a text, or one JSON document."""
        self.line(dumped(data) if self.as_json else printable(text))

    def line(self, text: str) -> None:
        """A line that is safe to print."""
        sys.stdout.write(f"{text}\n")

    def flush(self) -> None:
        """Write out what is buffered, so that a reader of the pipe has it now."""
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Something beside the answer."""
        if not self.as_json:
            sys.stderr.write(f"{printable(text)}\n")

    @contextmanager
    def progress(self, doing: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show in a terminal how far work has come, and nothing once it is done.

        Yields a function that takes how many more are done. `total` is None if it is not known.
        """
        if self.as_json or not sys.stderr.isatty():
            yield lambda _: None
            return
        from bluestreak_cli.progress import bar  # noqa: PLC0415 - slow, and rarely needed

        with bar(doing, total) as advance:
            yield advance

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Aligned columns, the first ones of which remain in a narrow terminal."""
        console = _console()
        kept = _fitting(console.width, len(columns))
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in columns[:kept]:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(_cell(text) for text in row[:kept]))
        with console.capture() as capture:
            console.print(table)
        for line in capture.get().splitlines():
            self.line(line.rstrip())

    def failure(self, failure: Failure, error: BaseException, *, debug: bool) -> None:
        """Say what went wrong, on the standard error."""
        if failure.code is ExitCode.INTERRUPTED and sys.stderr.isatty():
            sys.stderr.write("\n")  # behind the ^C that the terminal shows
        if debug:
            sys.stderr.write("".join(traceback.format_exception(error)))
        data = {
            "error": failure.kind,
            "message": failure.message,
            "remedy": failure.remedy,
            "code": failure.code.value,
        }
        sys.stderr.write(f"{dumped(data) if self.as_json else printable(str(failure))}\n")
        sys.stderr.flush()


def is_terminal() -> bool:
    """Whether there is somebody who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def silence_stdout() -> None:
    """Throw away what is still to be printed: its reader has gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _console() -> Console:
    width = None if sys.stdout.isatty() else _UNLIMITED
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _fitting(width: int, columns: int) -> int:
    if width < 40:  # noqa: PLR2004 - characters
        return min(columns, 2)
    return min(columns, 3) if width < 80 else columns  # noqa: PLR2004 - characters


def _cell(text: str) -> Text:
    return Text(printable(text), style=_STYLES.get(text, ""))

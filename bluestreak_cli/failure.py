"""Errors, as a line that says what to do next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import typer

from bluestreak_cli.exit_code import ExitCode
from bluestreak_core import errors
from bluestreak_core.errors.text import cut

_LIMIT = 600


class CommandError(Exception):
    """A command cannot be carried out. `remedy` is what to do, as an imperative."""

    def __init__(self, message: str, remedy: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message, remedy, code)
        self.message = message
        self.remedy = remedy
        self.code = code

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as it is printed."""

    kind: str
    message: str
    remedy: str
    code: ExitCode

    def __str__(self) -> str:
        return f"error: {self.message}; {self.remedy}" if self.remedy else f"error: {self.message}"


_SERVER = "look at the server with 'bluestreak doctor --mongo URL'"
_SHOW = "see 'bluestreak show ID'"
_HELP = "see 'bluestreak COMMAND --help'"

# The first family that fits counts.
_KNOWN: tuple[tuple[type[Exception], ExitCode, str], ...] = (
    (errors.WorkflowNotFound, ExitCode.REFUSED, "see 'bluestreak list'"),
    (errors.StepNotRecorded, ExitCode.REFUSED, _SHOW),
    (errors.WorkflowConflict, ExitCode.REFUSED, "take another id, or leave out --strict"),
    (errors.InvalidToken, ExitCode.REFUSED, "pass the whole token, as the workflow handed it over"),
    (errors.StateError, ExitCode.REFUSED, _SHOW),
    (errors.Unsupported, ExitCode.REFUSED, "use a store that can do this"),
    (
        errors.HandlerNotFound,
        ExitCode.REFUSED,
        "register the handler, or set unknown_handler='skip'",
    ),
    (errors.StoreUnavailable, ExitCode.UNAVAILABLE, f"check the URL, and {_SERVER}"),
    (errors.StoreRefused, ExitCode.REFUSED, _SERVER),
    (errors.CorruptDocument, ExitCode.REFUSED, "mend the document, or delete it"),
    (errors.UsageError, ExitCode.USAGE, _HELP),
)


def failure_of(error: BaseException, command: str = "COMMAND") -> Failure:
    """How an error of a command is printed, and the exit code."""
    if isinstance(error, CommandError):
        return _failure(error, error.message, error.remedy, error.code)
    if isinstance(error, typer.TyperException):
        return _failure(error, error.format_message().rstrip("."), _help(error), ExitCode.USAGE)
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError | typer.Abort):
        return _failure(error, "interrupted", "", ExitCode.INTERRUPTED)
    for kind, code, remedy in _KNOWN:
        if isinstance(error, kind):
            message = _without_topology(str(error))
            return _failure(error, message, remedy.replace("COMMAND", command), code)
    message = f"{type(error).__name__}: {error}"
    return _failure(error, message, "see where with --debug", ExitCode.REFUSED)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from causes(part)
    else:
        yield error


def _help(error: typer.TyperException) -> str:
    """The help of the command that was meant, as far as that is known."""
    context = getattr(error, "ctx", None)
    return _HELP if context is None else f"see '{context.command_path} --help'"


def _without_topology(message: str) -> str:
    """What the driver says, without its settings and all that it knows of each server."""
    return message.partition(" (configured timeouts: ")[0].partition(", Timeout: ")[0]


def _failure(error: BaseException, message: str, remedy: str, code: ExitCode) -> Failure:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = cut(" ".join(lines), _LIMIT)
    return Failure(kind=type(error).__name__, message=text, remedy=remedy, code=code)

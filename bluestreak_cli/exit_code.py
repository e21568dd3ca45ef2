"""What the command's exit code says."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    REFUSED = 1
    """It was refused, there is no such thing, or something failed."""
    USAGE = 2
    """The command line or a value on it is wrong."""
    UNAVAILABLE = 3
    """The store does not answer. It is safe to repeat the command."""
    INTERRUPTED = 130
    """Ctrl-C."""
    BROKEN_PIPE = 141
    """Whatever read the output has stopped reading, as `head` does."""

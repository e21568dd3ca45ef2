"""The command in a process of its own: in a terminal, or with its log read line by line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from tests.cli.arrange import COMMAND, ROOT, environment

NOTHING: Mapping[str, str] = MappingProxyType({})


class Terminal:
    """A command in a pseudo-terminal, which is that of its session: Ctrl-C reaches it.

    `line` is the end of the terminal that the command opens for itself, too.
    """

    def __init__(self, process: subprocess.Popen[bytes], screen: int, line: int) -> None:
        self.text = ""
        self._process = process
        self._screen: int | None = screen
        self._line: int | None = line

    def type(self, keys: str) -> None:
        """Press keys."""
        assert self._screen is not None
        os.write(self._screen, keys.encode())

    def read_until(self, text: str) -> None:
        """Read what it prints until a text has come."""
        while text not in self.text:
            assert self._read(), self.text

    def end(self) -> int:
        """Read the rest, and return its exit code."""
        while self._read():
            pass
        return self._process.wait()

    def hang_up(self) -> int:
        """Close the terminal's window, and return the exit code of the command."""
        assert self._screen is not None
        self._let_go()
        os.close(self._screen)
        self._screen = None
        return self._process.wait()

    def close(self) -> None:
        """Kill the command if need be."""
        self._process.kill()
        self._process.wait()
        self._let_go()
        if self._screen is not None:
            os.close(self._screen)

    def _read(self) -> bool:
        assert self._screen is not None
        try:
            read = os.read(self._screen, 65536)
        except OSError:  # nobody has the line open any more
            return False
        self._let_go()  # the command, which has printed something, has it open
        self.text += read.decode().replace("\r\n", "\n")
        return bool(read)

    def _let_go(self) -> None:
        if self._line is not None:
            os.close(self._line)
            self._line = None


@contextmanager
def terminal(*words: str, env: Mapping[str, str], columns: int = 100) -> Iterator[Terminal]:
    """Carry out a command line, which prints something, in a terminal of so many columns."""
    screen, line = pty.openpty()
    termios.tcsetwinsize(line, (40, columns))
    path = os.ttyname(line)
    process = subprocess.Popen(
        # The first terminal that the leader of a session opens becomes that of the session.
        ["/bin/sh", "-c", f'exec "$@" <{path} >{path} 2>&1', "sh", *COMMAND, *words],
        cwd=ROOT,
        env=environment(env),
        start_new_session=True,
    )
    shown = Terminal(process, screen, line)
    try:
        yield shown
    finally:
        shown.close()


class Log:
    """The log of a `bluestreak worker --json`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self.process = process
        self.entries: list[dict[str, Any]] = []
        self.others: list[str] = []
        self._lines = process.stderr

    def read_until(self, condition: Callable[[list[str]], bool]) -> None:
        """Read until something holds of the messages so far."""
        while not condition(self.messages):
            assert self._read(), (self.entries, self.others)

    def read_rest(self) -> None:
        """Read until neither the command nor a process of its fleet is left."""
        while self._read():
            pass

    @property
    def messages(self) -> list[str]:
        """What was logged so far."""
        return [entry["message"] for entry in self.entries]

    def pids(self, name: str) -> list[int]:
        """The processes that a worker of a fleet has had, in order."""
        begin, end = f"{name}: process ", " starts"
        return [
            int(message.removeprefix(begin).removesuffix(end))
            for message in self.messages
            if message.startswith(begin) and message.endswith(end)
        ]

    def _read(self) -> bool:
        line = self._lines.readline()
        if line.startswith("{"):
            entry = json.loads(line)
            (self.entries if "logger" in entry else self.others).append(entry)
        elif line:
            self.others.append(line)
        return bool(line)


@contextmanager
def worker(*words: str, env: Mapping[str, str] = NOTHING) -> Iterator[Log]:
    """Run workers, and kill the command at the end."""
    process = subprocess.Popen(
        [*COMMAND, "worker", *words, "--json"],
        cwd=ROOT,
        env=environment(env),
        stderr=subprocess.PIPE,
        text=True,
    )
    log = Log(process)
    with process:
        try:
            yield log
        finally:
            process.kill()  # which makes those of a fleet drain

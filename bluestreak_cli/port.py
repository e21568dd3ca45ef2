"""The port of `bluestreak worker --port N`: /healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_cli.standing import Watched

_LONGEST_BEAT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen, and after how many seconds of silence a process counts as hung."""

    host: str
    port: int
    hung_after: float

    @property
    def beat(self) -> float:
        """Seconds between two signs of life of a process."""
        return min(_LONGEST_BEAT, self.hung_after / 4)


@contextmanager
def serving(address: Address | None, watched: Watched) -> Iterator[None]:
    """Show during the block how the processes are. Without an address, do nothing.

    Raises `CommandError` if the address cannot be had.
    """
    if address is None:
        yield
        return
    try:
        from bluestreak_cli.server import Server  # noqa: PLC0415 - slow, and rarely needed
    except ImportError as error:
        remedy = "pip install 'bluestreak[cli]'"
        raise CommandError(f"--port: {error}", remedy, ExitCode.REFUSED) from error
    server = Server(address, watched)
    try:
        yield
    finally:
        server.close()

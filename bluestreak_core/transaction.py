"""A step's function that writes in a transaction, and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bluestreak_core.call import call


@dataclass(frozen=True, slots=True)
class Committed:
    """The step is recorded, and what its function wrote is there."""

    output: Any


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Nothing is left, since the function raised this or took too long.

    It is the handler's affair, whatever it looks like: not the store's, and no refusal of a value.
    """

    error: BaseException


class Writing:
    """The function of a step in a transaction, with its arguments but for the session."""

    def __init__(
        self, step_id: str, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        self.step_id = step_id
        self.fn = fn
        self.error: BaseException | None = None
        """What its last call has raised."""
        self._args = args

    async def write(self, session: Any) -> Any:
        """Call the function, as often as the store wants."""
        self.error = None
        try:
            return await call(self.step_id, self.fn, session, *self._args)
        except BaseException as error:
            self.error = error
            raise

"""A step's function that writes in a transaction, and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from bluestreak_core.errors import UsedInTransaction
from bluestreak_core.run.hook import CallKind, Calls


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


class TransactionCall:
    """The function of a step in a transaction, with its arguments but for the session.

    `on_call` is called in the task that calls it.
    """

    def __init__(  # noqa: PLR0917 - the arguments of `Context.transaction`, and what calls it
        self,
        calls: Calls,
        workflow_id: str,
        step_id: str,
        fn: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        on_call: Callable[[], object],
    ) -> None:
        self._calls = calls
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.fn = fn
        self.error: BaseException | None = None
        """What its last call has raised."""
        self.is_running = False
        self._args = args
        self._on_call = on_call

    async def write(self, session: Any) -> Any:
        """Call the function, as often as the store wants."""
        self.error = None
        self._on_call()
        within = _WITHIN.set(self)
        self.is_running = True
        try:
            args = (session, *self._args)
            return await self._calls.call(CallKind.TRANSACTION, self.step_id, self.fn, args)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.is_running = False
            _WITHIN.reset(within)


_WITHIN: ContextVar[TransactionCall | None] = ContextVar("transaction", default=None)
"""The transaction whose function this code was called by, even if that has ended since."""


def check_outside(workflow_id: str, kind: str, used_id: str) -> None:
    """Refuse a step or a nap that the function of a transaction of the same workflow uses."""
    current = _WITHIN.get()
    if current is not None and current.is_running and current.workflow_id == workflow_id:
        raise UsedInTransaction(workflow_id, f"{kind} {used_id!r}", current.step_id)

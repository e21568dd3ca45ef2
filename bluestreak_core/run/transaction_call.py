"""The call of a transaction's function, and its outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bluestreak_core.run.hook import CallKind, Calls


@dataclass(frozen=True, slots=True)
class Committed:
    """The step and what its function wrote are committed."""

    output: Any


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Nothing was written: the function raised `error`, or took too long.

    The error goes to the handler, even if its type is one that a store raises.
    """

    error: BaseException


class TransactionCall:
    """The function of a transaction, with its arguments except the session.

    `on_call` is called before the function, in the same task.
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
        """The error of the function's last call."""
        self._args = args
        self._on_call = on_call

    async def write(self, session: Any) -> Any:
        """Call the function. The store calls this again after each rollback."""
        self.error = None
        self._on_call()
        try:
            args = (session, *self._args)
            return await self._calls.call(CallKind.TRANSACTION, self.step_id, self.fn, args)
        except BaseException as error:
            self.error = error
            raise

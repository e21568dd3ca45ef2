"""Hooks around every call of the application's functions, for tests and telemetry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from bluestreak_core.clock import Clock
from bluestreak_core.model import Claim, History
from bluestreak_core.run.call import call
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.lease import Lease


class CallKind(StrEnum):
    """The role of the function that is called."""

    HANDLER = "handler"
    STEP = "step"
    TRANSACTION = "transaction"
    COMPENSATION = "compensation"
    ERROR_CALLBACK = "error callback"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The run that a call belongs to.

    `lease` says how long the run may still act on its claim. `history` is what the workflow had
    recorded when the run began; if it is not empty, the handler is replayed.
    """

    lease: Lease
    history: History
    clock: Clock

    @property
    def claim(self) -> Claim:
        """The claim that the run holds, or held."""
        return self.lease.claim


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCall:
    """One call of an application's function.

    `step_id` is None for a handler and for an error callback. `args` are the arguments of `fn`; in
    a transaction the first one is the session.
    """

    kind: CallKind
    run: RunInfo
    step_id: str | None
    fn: Callable[..., Any]
    args: tuple[Any, ...]


class RunHook:
    """Wraps the calls that runs make. Subclass it, and pass it as `Bluestreak(hooks=[...])`.

    Hooks do not see recorded steps, which are not called. The first of several hooks is the
    outermost.
    """

    async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Make the call with `await proceed()`, and return its result; override this to do more.

        What this returns or raises replaces what the function returned or raised.
        """
        return await proceed()

    def compensation_registered(self, run: RunInfo, step_id: str) -> None:
        """Called when a handler registers a compensation, in each run and replay."""


class Calls:
    """Calls the application's functions for one run, through its hooks."""

    def __init__(self, hooks: Sequence[RunHook], journal: Journal) -> None:
        self._hooks = hooks
        self._journal = journal

    def call(
        self,
        kind: CallKind,
        step_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Call a step's function on the event loop or in a thread, see `call`."""
        if not self._hooks:
            return call((self._journal, kind, step_id), fn, *args, context=context)
        within = (self._journal, kind, step_id)
        proceed = partial(call, within, fn, *args, context=context)
        return self.around(kind, step_id, fn, args, proceed)

    def around(
        self,
        kind: CallKind,
        step_id: str | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        proceed: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Coroutine[Any, Any, Any]:
        """Make the call `proceed()`, which the other arguments describe."""
        if self._hooks:
            user_call = UserCall(kind=kind, run=self._run, step_id=step_id, fn=fn, args=args)
            for hook in reversed(self._hooks):
                proceed = partial(hook.around, user_call, proceed)
        return proceed()

    def compensation_registered(self, step_id: str) -> None:
        """Report a compensation to the hooks."""
        for hook in self._hooks:
            hook.compensation_registered(self._run, step_id)

    @property
    def _run(self) -> RunInfo:
        journal = self._journal
        return RunInfo(lease=journal.lease, history=journal.history, clock=journal.clock)

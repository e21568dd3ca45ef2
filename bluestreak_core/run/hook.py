"""The seam around every call of the application's functions: for tests, and for telemetry."""

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
    """What a function was called for."""

    HANDLER = "handler"
    STEP = "step"
    TRANSACTION = "transaction"
    CLEAN_UP = "clean-up"
    ERROR_CALLBACK = "error callback"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The run that a call belongs to.

    `lease` says how long the run may still act on its claim. `history` is what the workflow had
    recorded when the run began: a handler that is called over a history is replayed.
    """

    lease: Lease
    history: History
    clock: Clock

    @property
    def claim(self) -> Claim:
        """The claim that the run was begun for."""
        return self.lease.claim


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCall:
    """One call of a function of the application's.

    `step_id` is None for a handler and for the error callback. `args` are what `fn` is called with;
    in a transaction the session comes first.
    """

    kind: CallKind
    run: RunInfo
    step_id: str | None
    fn: Callable[..., Any]
    args: tuple[Any, ...]


class RunHook:
    """Takes part in what runs call. Subclass it, and pass it as `Bluestreak(hooks=[...])`.

    Recorded steps are not called, so no hook sees them. Of several hooks the first one is the
    outermost.
    """

    async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Make the call by `await proceed()`, and return what it returns; override to do more.

        What is returned or raised here counts as what the function has returned or raised.
        """
        return await proceed()

    def clean_up_registered(self, run: RunInfo, step_id: str) -> None:
        """A handler has registered a clean-up."""


class Calls:
    """Calls the functions of the application for one run, through the hooks."""

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
        """Call the function of a step where it belongs, on the event loop or in a thread."""
        if not self._hooks:
            return call(step_id, fn, *args, context=context)
        proceed = partial(call, step_id, fn, *args, context=context)
        return self.around(kind, step_id, fn, args, proceed)

    def around(
        self,
        kind: CallKind,
        step_id: str | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        proceed: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Coroutine[Any, Any, Any]:
        """Make a call, which is `proceed()`."""
        if self._hooks:
            made = UserCall(kind=kind, run=self._run, step_id=step_id, fn=fn, args=args)
            for hook in reversed(self._hooks):
                proceed = partial(hook.around, made, proceed)
        return proceed()

    def clean_up_registered(self, step_id: str) -> None:
        """Let the hooks know of a clean-up."""
        for hook in self._hooks:
            hook.clean_up_registered(self._run, step_id)

    @property
    def _run(self) -> RunInfo:
        journal = self._journal
        return RunInfo(lease=journal.lease, history=journal.history, clock=journal.clock)

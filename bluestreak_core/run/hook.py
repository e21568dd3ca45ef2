"""Hooks around every call of the application's functions, for tests and telemetry."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from types import TracebackType
from typing import Any

from bluestreak_core.clock import Clock
from bluestreak_core.model import Claim, History
from bluestreak_core.run.call import call
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.lease import Lease
from bluestreak_core.run.log import fields

logger = logging.getLogger(__name__)


class CallKind(StrEnum):
    """The role of the function that is called."""

    HANDLER = "handler"
    STEP = "step"
    TRANSACTION = "transaction"
    COMPENSATION = "compensation"
    ERROR_CALLBACK = "error callback"


class WaitKind(StrEnum):
    """What a run waits for."""

    NAP = "nap"
    RETRY = "retry"
    RECEIVE = "receive"
    CALLBACK = "callback"
    CHILD = "child"
    POLL = "poll"


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
    a transaction the first one is the session. `attempt` counts the tries of a handler, and the
    attempts of a step with a retry policy and of a compensation, from 1; else it is None.
    """

    kind: CallKind
    run: RunInfo
    step_id: str | None
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One wait of a run, in memory.

    `id` is that of a nap, or of the step that a message, a callback or a child's end will be. A
    `RETRY` is the pause before the next attempt of a step, and a `POLL` the rest of its timeout.
    `until` is its end at the latest; None if there is none, or if a timeout counts from here.
    """

    kind: WaitKind
    id: str
    until: datetime | None


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

    def waiting(self, run: RunInfo, wait: Wait) -> AbstractContextManager[object]:
        """A context manager that is entered while a run waits; override this to observe it.

        It is left with a `CancelledError` if the run leaves memory before the wait is over. The run
        that continues waits again, unless the wait is over by then. What this raises is logged and
        changes nothing, and an exception is never suppressed.
        """
        return _NOTHING

    def compensation_registered(self, run: RunInfo, step_id: str) -> None:
        """Called when a handler registers a compensation, in each run and replay."""


_RAISED = "workflow %r: a hook raised %s %s %r, and the run goes on"

_NOTHING: AbstractContextManager[object] = nullcontext()


class Calls:
    """Calls the application's functions for one run, through its hooks."""

    def __init__(self, hooks: Sequence[RunHook], journal: Journal) -> None:
        self._hooks = hooks
        self._journal = journal
        self._attempts: dict[str, int] = {}

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
            user_call = UserCall(
                kind=kind,
                run=self._run,
                step_id=step_id,
                fn=fn,
                args=args,
                attempt=self._attempt(kind, step_id),
            )
            for hook in reversed(self._hooks):
                proceed = partial(hook.around, user_call, proceed)
        return proceed()

    def attempting(self, step_id: str, number: int) -> None:
        """Note the number of the attempt that the next call of a step is."""
        if self._hooks:
            self._attempts[step_id] = number

    def waiting(
        self, kind: WaitKind, id: str, until: datetime | None = None
    ) -> AbstractContextManager[object]:
        """What observes a wait, for the time that it lasts."""
        if not self._hooks:
            return _NOTHING
        return _Observers(self._hooks, self._run, Wait(kind=kind, id=id, until=until))

    def compensation_registered(self, step_id: str) -> None:
        """Report a compensation to the hooks."""
        for hook in self._hooks:
            hook.compensation_registered(self._run, step_id)

    @property
    def _run(self) -> RunInfo:
        journal = self._journal
        return RunInfo(lease=journal.lease, history=journal.history, clock=journal.clock)

    def _attempt(self, kind: CallKind, step_id: str | None) -> int | None:
        if kind is CallKind.HANDLER:
            return self._journal.workflow.failures + 1
        return None if step_id is None else self._attempts.get(step_id)


class _Observers:
    """The hooks' context managers around one wait, which cannot disturb it."""

    def __init__(self, hooks: Sequence[RunHook], run: RunInfo, wait: Wait) -> None:
        self._hooks = hooks
        self._run = run
        self._wait = wait
        self._entered: list[AbstractContextManager[object]] = []

    def __enter__(self) -> None:
        for hook in self._hooks:
            try:
                observer = hook.waiting(self._run, self._wait)
                observer.__enter__()
            except Exception:
                logger.exception(_RAISED, *self._facts("before"), extra=self._fields)
            else:
                self._entered.append(observer)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for observer in reversed(self._entered):
            try:
                observer.__exit__(exc_type, exc, traceback)
            except Exception as error:
                if error is not exc:
                    logger.exception(_RAISED, *self._facts("after"), extra=self._fields)

    def _facts(self, place: str) -> tuple[str, ...]:
        return self._run.claim.workflow_id, place, self._wait.kind.value, self._wait.id

    @property
    def _fields(self) -> dict[str, Any]:
        return fields(self._run.claim.workflow)

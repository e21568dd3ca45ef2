"""What a handler receives: the verbs of a workflow. Each has a module of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from hashlib import sha256
from typing import Any, TypeVar, TypeVarTuple, overload

from bluestreak_core.argument import Duration, check_id
from bluestreak_core.errors import FinalMistakes
from bluestreak_core.retry import Retry
from bluestreak_core.run.clean_up import CleanUps, on_cancel
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.nap import sleep
from bluestreak_core.run.step import step
from bluestreak_core.run.transaction import transaction
from bluestreak_core.run.unawaited import Unawaited

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Context:
    """One run of one workflow, as its handler sees it.

    The handler runs from the top each time that its workflow is claimed: after a crash, a failure,
    a restart, and a nap that was long enough to leave memory. Recorded steps and naps return at
    once; whatever stands outside of them runs again.

    Await each call before the handler returns, else it fails with `NotAwaited`.
    """

    def __init__(self, frame: Frame, clean_ups: CleanUps, unawaited: Unawaited) -> None:
        self._frame = frame
        self._clean_ups = clean_ups
        self._unawaited = unawaited

    @property
    def workflow_id(self) -> str:
        """The id that the workflow was started with."""
        return self._frame.workflow_id

    def idempotency_key(self, step_id: str) -> str:
        """A key by which another system can tell that it has met a step's effect before.

        64 hexadecimal digits, made of the ids of the workflow and the step alone: the same in every
        attempt, run and process, and another one for each other step. Raises `InvalidId`.
        """
        with FinalMistakes():
            step_id = check_id("step id", step_id)
        return sha256(f"{self.workflow_id}\0{step_id}".encode()).hexdigest()

    @overload
    def step(
        self,
        step_id: str,
        fn: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, T]: ...

    @overload
    def step(
        self,
        step_id: str,
        fn: Callable[[*Ts], T],
        /,
        *args: *Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, T]: ...

    def step(
        self,
        step_id: str,
        fn: Callable[[*Ts], Any],
        /,
        *args: *Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Call `fn(*args)` once and record what it returns; from then on, return the record.

        An async function runs on the event loop, any other one in a thread of its own. Where a
        function wants keywords, give a lambda or a `functools.partial`.

        The output is handed out as the store gives it back, also the first time: a tuple is a list,
        a datetime is in UTC milliseconds. With a codec it is of the type that `fn` is annotated to
        return, again also the first time. The call may be repeated if the process dies between the
        call and the record, so effects on other systems want an idempotency key.

        What `fn` raises is raised here and not recorded. Left uncaught it fails the workflow, which
        is tried again.

        - `retry`: what `fn` raises is recorded as a failed attempt, and `fn` is called again after
          a pause, which leaves memory if it is longer than `park_after`. When the attempts are used
          up, that is recorded, and `StepFailed` raised with the last error, here and in each later
          run. Left uncaught it aborts the workflow at once. An `Abort` passes through.
        - `timeout`, seconds or a `timedelta`: how long each call of `fn` may take. Then an async
          function is cancelled; the thread of any other one goes on to its end, and what it returns
          is dropped, even if the next attempt has begun. `StepTimeout` is raised, or is the error
          of the attempt.

        Raises `InvalidId`, `InvalidArgument`, `InvalidDuration`, `DuplicateStep`,
        `UsedInTransaction`, and `InvalidValue`, `UnstorableValue` or `ValueTooLarge`, which abort
        the workflow, since another try would repeat the effects of `fn`.
        """
        work = step(self._frame, step_id, fn, args, retry, timeout)
        return self._unawaited.watch("step", step_id, work)

    def transaction(
        self, step_id: str, fn: Callable[[Any, *Ts], Awaitable[T]], /, *args: *Ts
    ) -> Coroutine[Any, Any, T]:
        """A step whose effects happen exactly once: `await fn(session, *args)` writes to the
        application's own collections with this session, and that, the record of the step and a
        check of the claim are committed in one transaction, or not at all.

        `fn` may be called several times, each time after what it wrote has been taken back. What it
        does elsewhere is not, and `ctx` is not to be used in it. It has to be through within half
        of `timeout_interval`, else `StepTimeout` is raised. What it raises is raised here, and
        nothing of it is left. Transactions of one run take turns.

        Raises `Unsupported` on a store without transactions, as on a standalone server;
        `InvalidArgument` if `fn` has ended the transaction, or the claim of its own workflow; and
        like `step`.
        """
        work = transaction(self._frame, step_id, fn, args)
        return self._unawaited.watch("transaction", step_id, work)

    def on_cancel(self, step_id: str, fn: Callable[[*Ts], Any], /, *args: *Ts) -> None:
        """Have `fn(*args)` called if the workflow is cancelled while this run lasts.

        Not now: after the handler has been cancelled, the worker that ran it calls what was asked
        for, the last first, and records each as a step. One that was recorded before is not called
        again; one that raises is logged. A workflow that is cancelled while it does not run, as in
        a long nap, is not cleaned up; nor is one whose worker dies or loses its lease first.

        Raises `InvalidId`, `InvalidArgument`, `DuplicateStep` and `UsedInTransaction`.
        """
        on_cancel(self._frame, self._clean_ups, step_id, fn, args)

    def sleep(self, nap_id: str, duration: Duration, /) -> Coroutine[Any, Any, None]:
        """Wait until a duration has passed since the first time that this line was reached.

        Seconds or a `timedelta`. The end is recorded, so it holds across crashes and restarts. A
        nap longer than `park_after` takes no memory: the handler is cancelled here, and runs again
        from the top, over its recorded steps, when the nap ends.

        Raises `InvalidId`, `InvalidDuration`, `DuplicateNap` and `UsedInTransaction`.
        """
        work = sleep(self._frame, nap_id, duration)
        return self._unawaited.watch("sleep", nap_id, work)

"""What a handler receives: `step`, `sleep`, and the id of its workflow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar, TypeVarTuple, overload

from bluestreak_core.argument import (
    Duration,
    check_async,
    check_function,
    check_id,
    is_a,
    to_positive_timedelta,
    to_timedelta,
)
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import (
    CorruptDocument,
    DuplicateNap,
    DuplicateStep,
    FinalMistakes,
    InvalidArgument,
    InvalidValue,
    StoreRefused,
    UnstorableValue,
    ValueTooLarge,
)
from bluestreak_core.errors.group import is_abort, is_final_mistake
from bluestreak_core.errors.text import shown
from bluestreak_core.retry import Retry
from bluestreak_core.run.attempts import Attempts, failure_of
from bluestreak_core.run.call import call
from bluestreak_core.run.clean_up import CleanUp, CleanUps
from bluestreak_core.run.exit import AbortAtOnce, Drop, Exit, Park
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.operations import Operations
from bluestreak_core.run.time_limit import in_time
from bluestreak_core.run.transaction_call import RolledBack, Writing, check_outside
from bluestreak_core.run.unawaited import Unawaited

T = TypeVar("T")
logger = logging.getLogger(__name__)
Ts = TypeVarTuple("Ts")

Handler = Callable[["Context", Any], Awaitable[Any]]
"""An async function that takes a context and the workflow's input, and returns its result."""

_LOOK_AGAIN = timedelta(seconds=1)
_FINAL_MISTAKES = FinalMistakes()


class Context:
    """One run of one workflow, as its handler sees it.

    The handler runs from the top each time that its workflow is claimed: after a crash, a failure,
    a restart, and a nap that was long enough to leave memory. Recorded steps and naps return at
    once; whatever stands outside of them runs again.

    Await each call before the handler returns, else it fails with `NotAwaited`.
    """

    def __init__(
        self,
        journal: Journal,
        operations: Operations,
        exit: Exit,
        clean_ups: CleanUps,
        unawaited: Unawaited,
    ) -> None:
        self._journal = journal
        self._unawaited = unawaited
        self._operations = operations
        self._exit = exit
        self._clean_ups = clean_ups
        self._workflow_id = journal.workflow.workflow_id
        self._given_up = journal.workflow.failed_steps
        self._step_ids: set[str] = set()
        self._nap_ids: set[str] = set()
        self._has_warned = False

    @property
    def workflow_id(self) -> str:
        """The id that the workflow was started with."""
        return self._workflow_id

    def idempotency_key(self, step_id: str) -> str:
        """A key by which another system can tell that it has met a step's effect before.

        64 hexadecimal digits, made of the ids of the workflow and the step alone: the same in every
        attempt, run and process, and another one for each other step. Raises `InvalidId`.
        """
        with _FINAL_MISTAKES:
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
        work = self._step(step_id, fn, args, retry, timeout)
        return self._unawaited.watch("step", step_id, work)

    async def _step(
        self,
        step_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        retry: Retry | None,
        timeout: Duration | None,
    ) -> Any:
        if self._exit.has_come or self._journal.lease.error is not None:
            await self._check_claim("step", step_id)  # else every step would pay for that
        with _FINAL_MISTAKES:
            step_id = check_id("step id", step_id)
            check_function("ctx.step", "step", step_id, fn)
            limit = None if timeout is None else _limit(step_id, timeout)
            if retry is not None and not is_a(retry, Retry):
                raise InvalidArgument(f"retry of step {step_id!r}", retry, "expected a Retry")
            self._use(step_id)
        if self._given_up:
            self._check_given_up(step_id)
        if step_id in self._journal.history.steps:
            stored = self._journal.history.steps[step_id]
            return stored if self._journal.conversion is None else self._read(step_id, fn, stored)
        if retry is not None:
            calling = partial(self._call, step_id, fn, args, limit)
            return await self._with_retries(step_id, retry, fn, calling)
        with self._operations.operation("step", step_id):
            output = await self._call(step_id, fn, args, limit)
            return await self._recorded(self._journal.save_step(step_id, output, fn))

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
        work = self._transaction(step_id, fn, args)
        return self._unawaited.watch("transaction", step_id, work)

    async def _transaction(
        self, step_id: str, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]
    ) -> T:
        await self._check_claim("transaction", step_id)
        with _FINAL_MISTAKES:
            step_id = check_id("step id", step_id)
            check_function("ctx.transaction", "transaction", step_id, fn)
            check_async(f"transaction {step_id!r}", fn)
            self._use(step_id)
        self._check_given_up(step_id)
        if step_id in self._journal.history.steps:
            recorded: T = self._read(step_id, fn, self._journal.history.steps[step_id])
            return recorded
        with self._operations.operation("transaction", step_id) as operation:
            writing = Writing(self.workflow_id, step_id, fn, args, operation.is_helped)
            with _FINAL_MISTAKES:  # but for those of the function, which are not raised here
                outcome = await self._recorded(self._journal.transact(writing))
        if isinstance(outcome, RolledBack):
            raise outcome.error
        output: T = outcome.output
        return output

    def on_cancel(self, step_id: str, fn: Callable[[*Ts], Any], /, *args: *Ts) -> None:
        """Have `fn(*args)` called if the workflow is cancelled while this run lasts.

        Not now: after the handler has been cancelled, the worker that ran it calls what was asked
        for, the last first, and records each as a step. One that was recorded before is not called
        again; one that raises is logged. A workflow that is cancelled while it does not run, as in
        a long nap, is not cleaned up; nor is one whose worker dies or loses its lease first.

        Raises `InvalidId`, `InvalidArgument`, `DuplicateStep` and `UsedInTransaction`.
        """
        if self._exit.has_come:
            self._warn_if_late("clean-up", step_id)
            raise asyncio.CancelledError
        self._journal.lease.check()
        with _FINAL_MISTAKES:
            step_id = check_id("step id", step_id)
            check_function("ctx.on_cancel", "clean-up", step_id, fn)
            self._use(step_id)
        self._clean_ups.add(CleanUp(step_id, fn, args, copy_context()))

    def sleep(self, nap_id: str, duration: Duration, /) -> Coroutine[Any, Any, None]:
        """Wait until a duration has passed since the first time that this line was reached.

        Seconds or a `timedelta`. The end is recorded, so it holds across crashes and restarts. A
        nap longer than `park_after` takes no memory: the handler is cancelled here, and runs again
        from the top, over its recorded steps, when the nap ends.

        Raises `InvalidId`, `InvalidDuration`, `DuplicateNap` and `UsedInTransaction`.
        """
        return self._unawaited.watch("sleep", nap_id, self._sleep(nap_id, duration))

    async def _sleep(self, nap_id: str, duration: Duration) -> None:
        await self._check_claim("nap", nap_id)
        with _FINAL_MISTAKES:
            nap_id = check_id("nap id", nap_id)
            check_outside(self.workflow_id, "nap", nap_id)
            span = to_timedelta(f"duration of nap {nap_id!r}", duration)
            if nap_id in self._nap_ids:
                raise DuplicateNap(self.workflow_id, nap_id)
            self._nap_ids.add(nap_id)
        wake_up_at = self._journal.history.naps.get(nap_id)
        if wake_up_at is None:
            with self._operations.operation("nap", nap_id):
                wake_up_at = in_milliseconds(self._journal.clock.now() + span)
                wake_up_at = await self._recorded(self._journal.save_nap(nap_id, wake_up_at))
        if wake_up_at > self._journal.clock.now():
            with self._operations.operation("nap", nap_id, wake_up_at):
                await self._doze(wake_up_at)

    async def _check_claim(self, kind: str, used_id: object) -> None:
        """Nothing more is done where the run is to leave, or its claim is lost."""
        if self._exit.has_come:
            self._warn_if_late(kind, used_id)
            await self._exit.leave()
        self._journal.lease.check()

    def _warn_if_late(self, kind: str, used_id: object) -> None:
        """Say, once in each run, that a task goes on whose handler has ended by itself."""
        if self._exit.decision is None and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "workflow %r: %s %s was asked for after its handler had ended, and is cancelled; "
                "let the handler await the tasks that it starts",
                *(self._workflow_id, kind, shown(used_id)),
            )

    def _use(self, step_id: str) -> None:
        check_outside(self.workflow_id, "step", step_id)
        if step_id in self._step_ids:
            raise DuplicateStep(self.workflow_id, step_id)
        self._step_ids.add(step_id)

    def _check_given_up(self, step_id: str) -> None:
        for failed in self._given_up:
            # What the holder of a claim has given up stays so, even if a stale run has recorded an
            # output afterwards: that holder may have acted on it.
            if failed.step_id == step_id:
                raise failure_of(self.workflow_id, failed)

    def _call(
        self,
        step_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        limit: timedelta | None,
    ) -> Coroutine[Any, Any, Any]:
        calling = call(step_id, fn, *args)
        return calling if limit is None else in_time(limit, self.workflow_id, step_id, calling)

    async def _with_retries(
        self,
        step_id: str,
        retry: Retry,
        fn: Callable[..., Any],
        calling: Callable[[], Awaitable[Any]],
    ) -> Any:
        attempts = Attempts(self._journal, step_id, retry)
        while not attempts.are_used_up:
            await self._nap_before(attempts)
            await self._check_claim("step", step_id)
            with self._operations.operation(attempts.what, step_id):
                try:
                    output = await calling()
                except Exception as error:
                    if is_abort(error) or is_final_mistake(error):
                        raise
                    await self._recorded(attempts.add(error))
                else:
                    return await self._recorded(self._journal.save_step(step_id, output, fn))
        with self._operations.operation(attempts.what, step_id):
            raise failure_of(self.workflow_id, await self._recorded(attempts.give_up()))

    async def _nap_before(self, attempts: Attempts) -> None:
        if attempts.next_at is not None and attempts.next_at > self._journal.clock.now():
            with self._operations.operation(attempts.what, attempts.step_id, attempts.next_at):
                await self._doze(attempts.next_at)

    def _read(self, step_id: str, fn: Callable[..., Any], stored: Any) -> Any:
        """A recorded output as its annotation says; what does not fit it any more ends the run."""
        try:
            return self._journal.converted(step_id, stored, fn)
        except InvalidValue as refusal:
            self._exit.decide(AbortAtOnce(refusal))
            raise

    async def _recorded(self, recording: Awaitable[T]) -> T:
        """What was recorded. A refusal of the value or of the store ends the run, caught or not.

        So does a record of the same id that cannot be read.
        """
        try:
            return await recording
        except (InvalidValue, UnstorableValue, ValueTooLarge, CorruptDocument) as refusal:
            self._exit.decide(AbortAtOnce(refusal))
            raise
        except StoreRefused as refusal:
            self._exit.decide(Drop(refusal))
            raise

    async def _doze(self, wake_up_at: datetime) -> None:
        """Wait in memory, and leave it when that becomes possible."""
        clock = self._journal.clock
        await clock.sleep(timedelta(0))  # branches that start together all get to begin
        while (left := wake_up_at - clock.now()) > timedelta(0):
            park_until = self._operations.park_until()
            if park_until is not None:
                self._exit.decide(Park(park_until))
            if left > self._operations.park_after:
                left = min(left, max(self._operations.park_after, _LOOK_AGAIN))
            await clock.sleep(left)


def _limit(step_id: str, timeout: Duration) -> timedelta:
    return to_positive_timedelta(f"timeout of step {step_id!r}", timeout)

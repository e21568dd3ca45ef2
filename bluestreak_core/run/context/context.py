"""What a handler receives: the verbs of a workflow. Each has its own module."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar, TypeVarTuple, overload
from uuid import UUID

from bluestreak_core.argument import Duration
from bluestreak_core.errors import FinalMistakes
from bluestreak_core.retry import Retry
from bluestreak_core.run.context.callbacks import CallbackVerbs
from bluestreak_core.run.context.children import ChildVerbs
from bluestreak_core.run.context.compensations import CompensationVerbs
from bluestreak_core.run.context.lasting import LastingVerbs
from bluestreak_core.run.context.log import ContextLog
from bluestreak_core.run.context.messages import MessageVerbs
from bluestreak_core.run.context.structure import StructureVerbs
from bluestreak_core.run.info import WorkflowInfo
from bluestreak_core.run.verb import recorded
from bluestreak_core.run.verb.nap import sleep, sleep_until
from bluestreak_core.run.verb.step import step
from bluestreak_core.run.verb.transaction import transaction

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Context(
    MessageVerbs, CallbackVerbs, ChildVerbs, LastingVerbs, StructureVerbs, CompensationVerbs
):
    """One run of one workflow, as its handler sees it.

    The handler runs from the top each time its workflow is claimed: after a crash, a failure, a
    restart, or a nap longer than `park_after`. Recorded steps and naps then return at once; code
    outside of them runs again.

    Await each call before the handler returns; otherwise it fails with `NotAwaited`.
    """

    @property
    def workflow_id(self) -> str:
        """The id that the workflow was started with."""
        return self._frame.workflow_id

    @property
    def info(self) -> WorkflowInfo:
        """Facts about the workflow and this run, for logs and metrics."""
        frame = self._frame
        return WorkflowInfo.of(frame.journal.workflow, frame.policy.deadline)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that is silent while the handler is replayed.

        It is the logger of the module in which the handler is defined. Each record has the facts
        of the workflow as attributes, see the settings; with a scope also `scope`, and in the
        function of a step `step_id`. Your own `extra` is added.

        A run replays until it begins something that is not recorded, in any of its branches, or has
        asked for all that is recorded. So a line may be logged again after a crash or a failure,
        but only if it comes after the last record. In the function of a step, each line is logged.
        """
        return ContextLog(self._frame)

    def idempotency_key(self, step_id: str) -> str:
        """An idempotency key for the effects of a step on other systems.

        It has 64 hexadecimal digits and depends only on the ids of the workflow and the step, and
        on how often the workflow has restarted: it is the same in every attempt, run and process,
        and unique to the step. Raises `InvalidId`.
        """
        with FinalMistakes():
            step_id = self._frame.step_id(step_id)
        generation = self._frame.journal.workflow.generation
        facts = (self.workflow_id, step_id, *([str(generation)] if generation else []))
        return sha256("\0".join(facts).encode()).hexdigest()

    @overload
    def step(
        self,
        step_id: str,
        fn: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        at_most_once: bool = False,
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
        at_most_once: bool = False,
    ) -> Coroutine[Any, Any, T]: ...

    def step(
        self,
        step_id: str,
        fn: Callable[[*Ts], Any],
        /,
        *args: *Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        at_most_once: bool = False,
    ) -> Coroutine[Any, Any, Any]:
        """Call `fn(*args)` and record what it returns; once it is recorded, return the record.

        An async function runs on the event loop, any other one in its own thread. To pass keyword
        arguments, use a lambda or a `functools.partial`.

        The output is what the store reads back, even on the first run: a tuple becomes a list, a
        datetime has UTC milliseconds. With a codec, it has the type that `fn` is annotated to
        return. If the process dies between the call and the record, `fn` is called again: give its
        effects on other systems an idempotency key.

        An error of `fn` is raised here and not recorded. If the handler does not catch it, the
        workflow fails and is tried again.

        - `retry`: an error of `fn` is recorded as a failed attempt, and `fn` is called again after
          a pause. During a pause longer than `park_after` the workflow leaves memory. After the
          last attempt the step is given up: this is recorded, and `StepFailed` is raised with the
          last error, here and in each later run. If the handler does not catch it, the workflow is
          aborted. An `Abort` is raised at once.
        - `timeout`, in seconds or as a `timedelta`: the time limit of each call of `fn`, by default
          the handler's `step_timeout`. When it is over, `StepTimeout` is raised, or recorded as the
          error of the attempt. An async function is cancelled. A thread runs to its end, perhaps
          beside the next attempt, and its result is dropped.
        - `at_most_once`: for effects that may be missing, but must not happen twice. That the call
          begins is recorded first. If a later run finds that, but no outcome, the attempt counts as
          failed: with `retry` there may be another one, as after any error, and without it
          `StepInterrupted` is raised, a `StepFailed`. Without `retry`, an error of `fn` is the last
          attempt, too.

        Raises `InvalidId`, `InvalidArgument`, `InvalidDuration`, `DuplicateStep`, `UsedInStep`
        and `UsedInTransaction`; and for the output `InvalidValue`, `UnstorableValue` or
        `ValueTooLarge`, which abort the workflow, since another run would repeat the effects of
        `fn`.
        """
        work = step(self._frame, step_id, fn, args, retry, timeout, at_most_once)
        return self._watch("step", step_id, work)

    def transaction(
        self, step_id: str, fn: Callable[[Any, *Ts], Awaitable[T]], /, *args: *Ts
    ) -> Coroutine[Any, Any, T]:
        """Call `await fn(session, *args)` as a step whose effects happen exactly once.

        `fn` writes to the application's own collections with the session. These writes and the
        record of the step are committed in one transaction, only if the claim is in force.

        `fn` may be called several times, each time after a rollback of what it wrote. A rollback
        does not undo effects elsewhere. Do not use `ctx` in `fn`. If `fn` takes longer than half of
        `timeout_interval`, it is rolled back, and `StepTimeout` is raised. If it raises, it is
        rolled back, and the error is raised here. Transactions of one run take turns.

        Raises what `step` raises; `Unsupported` if the store or its server has no transactions; and
        `InvalidArgument` if `fn` has ended the transaction, or the claim of its own workflow.
        """
        work = transaction(self._frame, step_id, fn, args)
        return self._watch("transaction", step_id, work)

    def now(self, step_id: str, /) -> Coroutine[Any, Any, datetime]:
        """The store's time when a run first got here, recorded as a step: aware, in UTC."""
        return self._watch("now", step_id, recorded.now(self._frame, step_id))

    def uuid(self, step_id: str, /) -> Coroutine[Any, Any, UUID]:
        """A random UUID, recorded as a step."""
        return self._watch("uuid", step_id, recorded.uuid(self._frame, step_id))

    def random(self, step_id: str, /) -> Coroutine[Any, Any, float]:
        """A random number from 0.0 up to 1.0, without it, recorded as a step."""
        work = recorded.random_number(self._frame, step_id)
        return self._watch("random", step_id, work)

    def sleep(self, nap_id: str, duration: Duration, /) -> Coroutine[Any, Any, None]:
        """Wait for a duration, in seconds or as a `timedelta`.

        The end is recorded when a run first gets here, so it holds across crashes and restarts. A
        nap longer than `park_after` takes no memory: the handler is cancelled here, and runs again
        from the top when the nap ends.

        Raises `InvalidId`, `InvalidDuration`, `DuplicateNap`, `UsedInStep` and
        `UsedInTransaction`.
        """
        work = sleep(self._frame, nap_id, duration)
        return self._watch("sleep", nap_id, work)

    def sleep_until(self, nap_id: str, instant: datetime, /) -> Coroutine[Any, Any, None]:
        """Wait until an instant, an aware datetime. The one that is first recorded holds.

        Otherwise like `sleep`; an instant in the past is recorded, too, and ends at once. Raises
        `InvalidId`, `InvalidArgument`, `DuplicateNap`, `UsedInStep` and `UsedInTransaction`.
        """
        work = sleep_until(self._frame, nap_id, instant)
        return self._watch("sleep_until", nap_id, work)

"""Compensating: a replay finds what was registered, and then that is carried out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from bluestreak_core.concurrency import finish_despite_cancel, first_of, wait_ended
from bluestreak_core.errors import (
    CorruptDocument,
    InvalidValue,
    UnstorableValue,
    ValueTooLarge,
)
from bluestreak_core.errors.text import counted
from bluestreak_core.run.attempts import Attempts
from bluestreak_core.run.commit import Commits
from bluestreak_core.run.compensations import Compensation, Compensations
from bluestreak_core.run.exit import Exit, Release
from bluestreak_core.run.failure import in_one_line
from bluestreak_core.run.family import Family
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.handler import Registration
from bluestreak_core.run.handler_call import HandlerCall, read_history
from bluestreak_core.run.history import SharedHistories
from bluestreak_core.run.hook import CallKind, Calls, WaitKind
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.log import fields
from bluestreak_core.run.operations import Operations
from bluestreak_core.run.outcome import Raised, Returned, outcome_of
from bluestreak_core.run.publisher import Publisher
from bluestreak_core.run.time_limit import in_time
from bluestreak_core.store import Store

logger = logging.getLogger(__name__)


class CompensationCall:
    """What a run does in place of a `HandlerCall` if its workflow compensates."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        registration: Registration,
        is_crowded: Callable[[], bool],
    ) -> None:
        policy = registration.policy
        self.family = Family(store, journal.lease)
        self.exit = Exit()
        self.calls = Calls(policy.hooks, journal)
        self._store = store
        self._journal = journal
        self._registration = registration
        self._is_crowded = is_crowded
        self._operations = Operations(store.clock, policy.park_after, is_crowded)
        self.publisher = Publisher(journal, self.exit)
        self._frame = Frame(
            journal,
            registration,
            family=self.family,
            calls=self.calls,
            commits=Commits(store, journal),
            operations=self._operations,
            publisher=self.publisher,
            exit=self.exit,
            compensations=Compensations(),
        )
        self._replaying: HandlerCall | None = None

    @property
    def operations(self) -> Operations:
        """The pending operations: those of the replay, and later those of the compensations."""
        return self._operations if self._replaying is None else self._replaying.operations

    def drain(self) -> None:
        """Park the run at the next pause between two attempts."""
        self._operations.eager = True
        self._frame.park_if_possible()

    async def make(self, histories: SharedHistories) -> Returned | Raised:
        """Read the history, replay the handler, and carry out what it has registered.

        An error that this returns has kept compensations from being carried out.
        """
        try:
            self._journal.history = await read_history(self._journal, histories)
            registered = await self._replay()
            if isinstance(registered, Raised):
                return registered
            self._operations.begin()
            for compensation in registered:
                await self._carry_out(compensation)
        except CorruptDocument as error:
            return Raised(error, final=True)
        return Returned(None)

    async def _replay(self) -> list[Compensation] | Raised:
        """What is to be carried out: what the handler has registered before it was stopped."""
        workflow, history = self._journal.workflow, self._journal.history
        call = HandlerCall.replaying(
            self._store, self._journal, self._registration, self._is_crowded
        )
        task = asyncio.create_task(call.make(None), context=copy_context())
        call.exit.attach(task)
        self._replaying = call
        try:
            hurry = partial(call.exit.decide, Release())
            ended = first_of(wait_ended(task), call.until_stalled())
            await finish_despite_cancel(ended, on_cancel=hurry)
            hurry()
            await finish_despite_cancel(wait_ended(task), on_cancel=hurry)
        finally:
            self._replaying = None
            await call.publisher.close()
        outcome = None if task.cancelled() else outcome_of(task)
        if not call.has_begun and isinstance(outcome, Raised):
            return outcome
        ahead = history.steps.keys() - call.used_steps
        # Without its lease the handler stops anywhere, and the next run reaches the rest.
        if ahead and self._journal.lease.error is None:
            logger.warning(
                "workflow %r: its handler went no further than %s, and did not ask for %s such as "
                "%r: what it registers after that is not carried out",
                workflow.workflow_id,
                call.stopped_at,
                counted(len(ahead), "recorded step"),
                min(ahead),
                extra=fields(workflow),
            )
        return call.compensations.last_first()

    async def _carry_out(self, compensation: Compensation) -> None:
        """Call a compensation until it has succeeded or is given up, unless it is recorded."""
        step_id, journal = compensation.step_id, self._journal
        if self._is_settled(step_id):
            return
        attempts = Attempts(journal, step_id, compensation.retry)
        while not attempts.are_used_up:
            if attempts.next_at is not None:
                next_at = attempts.next_at
                await self._frame.doze(attempts.kind, step_id, next_at, WaitKind.RETRY)
            await self._frame.check("compensation", step_id)
            self.calls.attempting(step_id, attempts.number)
            with self._operations.operation(attempts.kind, step_id):
                try:
                    output = await self._call(compensation)
                except Exception as error:  # noqa: BLE001 - whatever it raises is a failed attempt
                    await attempts.add(error)
                else:
                    await self._record(compensation, output)
                    return
        failed = await attempts.give_up()
        logger.error(
            "workflow %r: compensation %r is given up after %s: %s",
            *(journal.workflow.workflow_id, step_id),
            *(counted(failed.attempts, "attempt"), in_one_line(failed.error)),
            extra=fields(journal.workflow, step_id=step_id, step_attempt=failed.attempts),
        )

    def _is_settled(self, step_id: str) -> bool:
        """Whether an earlier run has recorded a compensation, or has given it up."""
        return self._journal.is_settled(step_id)

    async def _call(self, compensation: Compensation) -> Any:
        step_id, limit = compensation.step_id, compensation.limit
        calling = self.calls.call(
            CallKind.COMPENSATION,
            step_id,
            compensation.fn,
            compensation.args,
            compensation.context,
        )
        if limit is None:
            return await calling
        return await in_time(limit, self._journal.workflow.workflow_id, step_id, calling)

    async def _record(self, compensation: Compensation, output: Any) -> None:
        """Record what it returned; None if that cannot be stored, since its effects are there."""
        step_id, journal = compensation.step_id, self._journal
        try:
            await journal.save_step(step_id, output, compensation.fn)
        except (InvalidValue, UnstorableValue, ValueTooLarge) as refusal:
            logger.warning(
                "compensation %r is recorded without its output: %s",
                *(step_id, refusal),
                extra=fields(journal.workflow, step_id=step_id),
            )
            await journal.save_step(step_id, None, _nothing)


def _nothing() -> None:
    """Stands for the function of a compensation whose output cannot be stored."""

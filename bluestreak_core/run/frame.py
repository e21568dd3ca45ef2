"""What the verbs of a context share."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from copy import copy
from datetime import datetime, timedelta
from typing import Any, NoReturn, Self, TypeVar

from bluestreak_core.argument import check_id
from bluestreak_core.errors import (
    CorruptDocument,
    DuplicateNap,
    DuplicateStep,
    InvalidValue,
    StoreRefused,
    UnstorableValue,
    UsedInStep,
    UsedInTransaction,
    ValueTooLarge,
)
from bluestreak_core.errors.text import shown
from bluestreak_core.run.attempts import recorded_failure
from bluestreak_core.run.commit import Commits
from bluestreak_core.run.compensations import Compensations
from bluestreak_core.run.exit import Abandon, AbortNow, Exit, Release
from bluestreak_core.run.family import Family
from bluestreak_core.run.handler import Registration
from bluestreak_core.run.hook import CallKind, Calls, WaitKind
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.log import fields
from bluestreak_core.run.operations import Operation, Operations
from bluestreak_core.run.publisher import Publisher
from bluestreak_core.run.replay import Replay
from bluestreak_core.run.within import WITHIN

T = TypeVar("T")
logger = logging.getLogger(__name__)

MANY_STEPS = 5000
"""A run that uses so many steps is warned of, once."""

_LOOK_AGAIN = timedelta(seconds=1)


class Frame:
    """One run of a handler, as the verbs of its context see it.

    A verb calls `check` first, puts its id into the scope with `step_id` or `nap_id`, takes it with
    `use_step` or `use_nap`, looks for a record under that id, makes new records with `record`, and
    waits with `doze`.
    """

    def __init__(
        self,
        journal: Journal,
        registration: Registration,
        *,
        family: Family,
        calls: Calls,
        commits: Commits,
        operations: Operations,
        publisher: Publisher,
        exit: Exit,
        compensations: Compensations,
        replay: Replay | None = None,
    ) -> None:
        self.journal = journal
        self.family = family
        self.known = registration.known
        self.handler = registration.handler
        self.policy = registration.policy
        self.calls = calls
        self.commits = commits
        self.operations = operations
        self.publisher = publisher
        self.exit = exit
        self.compensations = compensations
        self.replay = replay
        """If the handler only runs over its records."""
        self.workflow_id = journal.workflow.workflow_id
        self.prefix = ""
        """What precedes each id of this scope."""
        self._failed_steps = journal.workflow.failed_steps
        self._step_ids: set[str] = set()
        self._nap_ids: set[str] = set()
        self._late_calls: list[object] = []
        """The first call after the handler had ended, in any scope."""

    def scoped(self, scope_id: object) -> Self:
        """The same run, with ids in a scope of this one. Raises `InvalidId`."""
        scope = copy(self)
        scope.prefix = self._whole("scope id", scope_id) + "/"
        return scope

    def step_id(self, step_id: object) -> str:
        """The whole id of a step in this scope. Raises `InvalidId`."""
        return self._whole("step id", step_id) if self.prefix else check_id("step id", step_id)

    def nap_id(self, nap_id: object) -> str:
        """The whole id of a nap in this scope. Raises `InvalidId`."""
        return self._whole("nap id", nap_id)

    def check_outside(self, kind: str, used_id: str) -> None:
        """Refuse a verb while the function of a step or a transaction runs that uses it.

        A replay would not call that function. Raises `UsedInStep` and `UsedInTransaction`.
        """
        within = WITHIN.get()
        if within is None or within[0] is not self.journal:  # a function may run other workflows
            return
        _, caller, step_id = within
        if not self.operations.is_pending(step_id):
            return
        used = f"{kind} {used_id!r}"
        if caller == CallKind.TRANSACTION:
            raise UsedInTransaction(self.workflow_id, used, step_id)
        raise UsedInStep(self.workflow_id, used, f"{caller} {step_id!r}")

    def published_name(self, name: object) -> str:
        """The whole name of a published value in this scope. Raises `InvalidId`."""
        return self._whole("name of a published value", name)

    def _whole(self, kind: str, used_id: object) -> str:
        plain = check_id(kind, used_id)
        return check_id(kind, self.prefix + plain) if self.prefix else plain

    async def check(self, kind: str, used_id: object) -> None:
        """Return if the run may go on; `kind` and `used_id` name the operation that would begin.

        Raises `CancelledError` if the run is to end, and `ClaimLost`.
        """
        if self.exit.is_decided:
            self._warn_if_late(kind, used_id)
            await self.exit.leave()
        self.journal.lease.check()

    @property
    def may_be_over(self) -> bool:
        """Whether `check` would raise. A step asks this first, since each `await` costs time."""
        return self.exit.is_decided or self.journal.lease.error is not None

    @property
    def used_steps(self) -> AbstractSet[str]:
        """The ids of the steps that the handler has asked for, in all scopes."""
        return self._step_ids

    def is_used(self, used_id: str) -> bool:
        """Whether the handler has asked for the step or the nap of this id."""
        return used_id in self._step_ids or used_id in self._nap_ids

    def use_step(self, step_id: str, kind: str = "step") -> None:
        """Take the id of a step; `kind` names the verb in errors.

        Raises `DuplicateStep`, `UsedInStep` and `UsedInTransaction`.
        """
        self.check_outside(kind, step_id)
        if step_id in self._step_ids:
            raise DuplicateStep(self.workflow_id, step_id)
        self._step_ids.add(step_id)
        if len(self._step_ids) == MANY_STEPS:
            logger.warning(
                "workflow %r uses its step number %d; each run reads all of them: ctx.restart "
                "starts over without them",
                *(self.workflow_id, MANY_STEPS),
                extra=fields(self.journal.workflow, step_id=step_id),
            )

    def use_nap(self, nap_id: str) -> None:
        """Take the id of a nap. Raises `DuplicateNap`, `UsedInStep` and `UsedInTransaction`."""
        self.check_outside("nap", nap_id)
        if nap_id in self._nap_ids:
            raise DuplicateNap(self.workflow_id, nap_id)
        self._nap_ids.add(nap_id)

    def is_recorded(self, step_id: str) -> bool:
        """Whether a step has an output. Raises `StepFailed` or `ChildFailed` if it was given up.

        The failure outranks an output, which only a stale run can have recorded after it: the
        holder of the claim may have acted on the failure.
        """
        for failed in self._failed_steps:
            if failed.step_id == step_id:
                raise recorded_failure(self.workflow_id, failed)
        return step_id in self.journal.history.steps

    def recorded(self, step_id: str, fn: Callable[..., Any]) -> Any:
        """A recorded output, by the annotation of `fn`; one that does not fit ends the run."""
        conversion = self.journal.conversion
        return self.recorded_as(step_id, None if conversion is None else conversion.returned(fn))

    def recorded_as(self, step_id: str, annotation: Any) -> Any:
        """A recorded output of some type; one that does not fit ends the run."""
        stored = self.journal.history.steps[step_id]
        if self.journal.conversion is None:
            return stored
        try:
            return self.journal.conversion.read_as(self.workflow_id, step_id, annotation, stored)
        except InvalidValue as refusal:
            self.exit.decide(AbortNow(refusal))
            raise

    async def record(self, recording: Awaitable[T]) -> T:
        """Await a store call that records something.

        If the value or the call is refused, or the record of this id is unreadable, the run ends,
        even if the handler catches the error.
        """
        try:
            return await recording
        except (InvalidValue, UnstorableValue, ValueTooLarge, CorruptDocument) as refusal:
            self.exit.decide(AbortNow(refusal))
            raise
        except StoreRefused as refusal:
            self.exit.decide(Abandon(refusal))
            raise

    async def leave_to_another_run(self) -> NoReturn:
        """End this run, since another one has decided here what this one was about to.

        The claim is released: if it is still in force, a new run goes on from the other's record.
        """
        self.exit.decide(Release())
        await self.exit.leave()

    async def doze(
        self, kind: str, id: str, wake_up_at: datetime, wait: WaitKind = WaitKind.NAP
    ) -> None:
        """Wait until an instant; leave memory as soon as the whole run may be parked.

        `kind` names the operation in messages, and `wait` is what hooks see.
        """
        if self.replay is not None:
            if wake_up_at > self.replay.until:
                await self.replay.suspend(kind, id)
            return
        if wake_up_at <= self.journal.clock.now():
            return
        observed = self.calls.waiting(wait, id, wake_up_at)
        with observed, self.operations.nap(id, wake_up_at, kind):
            await self._doze(wake_up_at)

    async def await_message(self, wait: Operation, until: datetime) -> None:
        """Wait until there may be a message for a wait that found none, or until an instant.

        Leave memory as soon as the whole run may be parked.
        """
        clock = self.journal.clock
        mail = wait.mail
        await clock.sleep(timedelta(0))  # as in `_doze`
        while mail is not None and (left := until - clock.now()) > timedelta(0):
            self.park_if_possible()
            left = min(left, max(self.operations.park_after, _LOOK_AGAIN))
            if await self.journal.wait_for_message(mail, left):
                return

    async def await_end(self, workflow_id: str, since: datetime) -> None:
        """Wait until a child may have ended since an instant, or it is time to look again.

        Leave memory as soon as the whole run may be parked.
        """
        await self.journal.clock.sleep(timedelta(0))  # as in `_doze`
        self.park_if_possible()
        span = max(self.operations.park_after, _LOOK_AGAIN)
        await self.family.wait_for_end(workflow_id, since, span)

    def park_if_possible(self) -> None:
        """End the run if it may leave memory now."""
        if (parking := self.operations.parking()) is not None:
            self.exit.decide(parking)

    def _warn_if_late(self, kind: str, used_id: object) -> None:
        """Log, once in each run, that a task outlives the handler that started it."""
        if self.exit.decision is None and not self._late_calls:
            self._late_calls.append(used_id)
            logger.warning(
                "workflow %r: %s %s was called after its handler had ended, and is cancelled; "
                "await each task that the handler starts",
                *(self.workflow_id, kind, shown(used_id)),
                extra=fields(self.journal.workflow),
            )

    async def _doze(self, wake_up_at: datetime) -> None:
        clock = self.journal.clock
        await clock.sleep(timedelta(0))  # let branches that start together begin their operations
        while (left := wake_up_at - clock.now()) > timedelta(0):
            self.park_if_possible()
            if left > self.operations.park_after:
                left = min(left, max(self.operations.park_after, _LOOK_AGAIN))
            await clock.sleep(left)

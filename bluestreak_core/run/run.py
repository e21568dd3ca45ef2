"""One claimed workflow, from calling its handler to the one store call that ends the claim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from contextvars import copy_context
from datetime import datetime
from typing import Any

from bluestreak_core import machine
from bluestreak_core.argument import has_real_type
from bluestreak_core.concurrency import wait_ended
from bluestreak_core.errors import ClaimLost, CorruptDocument, InvalidValue, WorkflowCrashed
from bluestreak_core.model import History
from bluestreak_core.run.clean_up import CleanUps
from bluestreak_core.run.commit import Commits
from bluestreak_core.run.context import Context
from bluestreak_core.run.deadline import Deadline
from bluestreak_core.run.ending import Ending
from bluestreak_core.run.exit import Abandon, AbortNow, Exit, Park, Release
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.handler import Handler, Registration
from bluestreak_core.run.history import SharedHistories
from bluestreak_core.run.hook import CallKind, Calls
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.lease import Lease
from bluestreak_core.run.loss import report_loss
from bluestreak_core.run.operations import Operations
from bluestreak_core.run.outcome import Outcome, Raised, Returned, is_final, outcome_of
from bluestreak_core.run.unawaited import Unawaited
from bluestreak_core.store import Store

logger = logging.getLogger(__name__)


class Run:
    """One claim's life in this process."""

    def __init__(self, store: Store, lease: Lease, registration: Registration) -> None:
        self.lease = lease
        self.lost = False
        self._store = store
        self._registration = registration
        self._journal = Journal(store, lease, registration.policy.conversion)
        self._exit = Exit()
        self._operations = Operations(store.clock, registration.policy.park_after)
        self._calls = Calls(registration.policy.hooks, self._journal)
        conversion = registration.policy.conversion
        self._clean_ups = CleanUps(store, lease.claim, self._calls, conversion)
        self._task: asyncio.Task[Any] | None = None
        self._callback_task: asyncio.Task[None] | None = None
        self._context = copy_context()
        """The variables that the handler sees and sets, and the error callback after it."""

    @property
    def workflow_id(self) -> str:
        """The workflow that is run."""
        return self.lease.claim.workflow_id

    @property
    def may_be_renewed(self) -> bool:
        """Whether its lease is worth renewing, and nothing in it wants that not to be done."""
        return not self.lease.is_withheld and self.lease.error is None

    @property
    def is_suspect(self) -> bool:
        """Whether this may yet turn out to be what takes down the workers."""
        max_crashes = self._registration.policy.max_crashes
        suspected = machine.is_suspect(self.lease.claim.workflow, max_crashes)
        return suspected and not self._journal.has_progressed

    async def execute(self, histories: SharedHistories) -> None:
        """Run the handler over its history, and end the claim by one store call.

        A lost claim ends quietly; what the handler raises is recorded. A workflow that can no
        longer be read is left to its lease. Anything that comes out of this call is an error of the
        store or of Bluestreak.
        """
        self._task = asyncio.current_task()
        workflow, policy = self.lease.claim.workflow, self._registration.policy
        deadline = Deadline(workflow, policy.deadline, self._journal.clock)
        ending = Ending(self._journal, self._calls, self._registration, deadline, self._aside)
        try:
            await ending.end(await self._outcome(histories, deadline))
        except ClaimLost as lost:
            await self._aside(report_loss(self._store, self.lease.claim, self._clean_ups, lost))
        except CorruptDocument as error:
            logger.error("%s; its run wrote nothing more", error)  # noqa: TRY400 - it says it all

    def put_off(self, until: datetime) -> None:
        """Give the claim back until then; before it is executed, so that the handler never runs."""
        self._exit.decide(Park(until))

    def drain(self) -> None:
        """Leave memory at the first nap; at once where the run is in nothing but naps."""
        self._operations.eager = True
        if (wake_up_at := self._operations.park_until()) is not None:
            self._exit.decide(Park(wake_up_at))

    def release(self) -> None:
        """Cancel the handler, and leave the workflow to another worker; cancel the callback too,
        and the clean-up.
        """
        self._exit.decide(Release())
        if self._callback_task is not None:
            self._callback_task.cancel()

    def lose(self, reason: str) -> None:
        """Cancel the handler, and write nothing more. Said again, it changes nothing."""
        if self.lost:
            return
        self.lost = True
        self.lease.lose(reason)
        self._exit.decide(Abandon())

    def location_of(self, task: asyncio.Task[Any]) -> str | None:
        """Which part of this workflow a task is in, or None if it is not its task.

        May be asked from any thread.
        """
        if (name := self._operations.name_at(task)) is not None:
            return f"{name} of workflow {self.workflow_id!r}"
        if self._operations.has(task) or task in (self._task, self._callback_task):
            return f"workflow {self.workflow_id!r}, outside of its steps"
        return None

    async def _outcome(self, histories: SharedHistories, deadline: Deadline) -> Outcome:
        if (error := self._crashed_too_often() or deadline.error) is not None:
            return Raised(error, final=True)
        task = asyncio.create_task(self._call_handler(histories), context=self._context)
        self._exit.attach(task)
        try:
            if (too_late := await deadline.wait_for(task)) is not None:
                self._exit.decide(AbortNow(too_late))
                await wait_ended(task)
        except asyncio.CancelledError:  # the event loop is being closed, under the handler as well
            self.release()
            await wait_ended(task)
            # What the handler itself has done to the event loop counts as a crash, when the lease
            # has run out; else it would be handed from worker to worker for ever.
            is_to_blame = not task.cancelled() and task.exception() is not None
            return self._exit.decision or (Abandon() if is_to_blame else Release())
        return self._exit.decision or outcome_of(task)

    def _crashed_too_often(self) -> WorkflowCrashed | None:
        workflow, max_crashes = self.lease.claim.workflow, self._registration.policy.max_crashes
        if max_crashes is None or not machine.crashed_too_often(workflow, max_crashes):
            return None
        return WorkflowCrashed(self.workflow_id, workflow.crashes, max_crashes)

    async def _call_handler(self, histories: SharedHistories) -> Returned | Raised:
        try:
            self._journal.history = await self._read_history(histories)
        except CorruptDocument as error:
            return Raised(error, final=True)
        try:
            given = self._input()
        except Exception as error:  # noqa: BLE001 - a codec of somebody else's may raise anything
            return Raised(error, final=has_real_type(error, InvalidValue))
        self._operations.begin()
        unawaited = Unawaited(self.workflow_id)
        commits = Commits(self._store, self._journal)
        frame = Frame(self._journal, self._calls, commits, self._operations, self._exit)
        try:
            context = Context(frame, self._clean_ups, unawaited)
            result = await self._call(self._registration.handler, context, given)
            self._exit.close()
            await unawaited.check()
            return Returned(result)
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its failure
            return Raised(error, final=is_final(self.workflow_id, error))
        finally:
            self._exit.close()
            unawaited.close()
            await self._operations.cancel()

    def _call(self, handler: Handler, context: Context, given: Any) -> Awaitable[Any]:
        async def proceed() -> Any:
            return await handler(context, given)

        return self._calls.around(CallKind.HANDLER, None, handler, (context, given), proceed)

    async def _read_history(self, histories: SharedHistories) -> History:
        return await self.lease.until_answered(lambda: histories.history(self.workflow_id))

    def _input(self) -> Any:
        workflow, conversion = self.lease.claim.workflow, self._registration.policy.conversion
        if conversion is None:
            return workflow.input
        return conversion.input(self.workflow_id, self._registration.handler, workflow.input)

    async def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Await this in a task of its own, which `release` can cancel."""
        self._callback_task = asyncio.create_task(work, context=self._context.copy())
        await self._callback_task

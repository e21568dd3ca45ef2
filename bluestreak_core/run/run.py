"""One claimed workflow, from calling its handler to the one store call that ends the claim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import machine
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.concurrency import wait_ended
from bluestreak_core.errors import ClaimLost, CorruptDocument, WorkflowCrashed
from bluestreak_core.model import RunEnd, RunInFlight, Status
from bluestreak_core.run.compensation_call import CompensationCall
from bluestreak_core.run.compensation_ending import CompensationEnding
from bluestreak_core.run.deadline import Deadline
from bluestreak_core.run.ending import Ending
from bluestreak_core.run.exit import Abandon, AbortNow, Park, Release
from bluestreak_core.run.handler import Registration
from bluestreak_core.run.handler_call import HandlerCall
from bluestreak_core.run.history import SharedHistories
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.lease import Lease
from bluestreak_core.run.log import fields
from bluestreak_core.run.loss import report_loss
from bluestreak_core.run.outcome import Outcome, Raised, outcome_of
from bluestreak_core.store import Store

logger = logging.getLogger(__name__)


class Run:
    """One claim in this process: `execute` it, and end it early from outside.

    `is_crowded` says whether the worker has no free slot.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        registration: Registration,
        is_crowded: Callable[[], bool],
    ) -> None:
        self.lease = lease
        self.lost = False
        """Whether `lose` has been called."""
        self.end: RunEnd | None = None
        """How its claim has ended; None before that, and if it has raised an error."""
        self._store = store
        self._registration = registration
        self._journal = Journal(store, lease, registration.policy.conversion)
        self._compensates = lease.claim.workflow.status is Status.COMPENSATING
        make_call = CompensationCall if self._compensates else HandlerCall
        self._call = make_call(store, self._journal, registration, is_crowded)
        self._task: asyncio.Task[Any] | None = None
        self._callback_task: asyncio.Task[None] | None = None
        self._context = copy_context()
        """The context variables of the handler, and then of the error callback."""

    @property
    def workflow_id(self) -> str:
        """The id of the workflow."""
        return self.lease.claim.workflow_id

    @property
    def may_be_renewed(self) -> bool:
        """Whether the lease should be renewed: it is neither lost nor withheld."""
        return not self.lease.is_withheld and self.lease.error is None

    @property
    def is_suspect(self) -> bool:
        """Whether this workflow is suspected of crashing workers, and has not made progress yet."""
        max_crashes = self._registration.policy.max_crashes
        suspected = machine.is_suspect(self.lease.claim.workflow, max_crashes)
        return suspected and not self._journal.has_progressed

    @property
    def in_flight(self) -> RunInFlight:
        """The run at this moment, for the record of its worker."""
        workflow, clock = self.lease.claim.workflow, self._journal.clock
        step = self._call.operations.in_flight()
        if step is None:
            step_id, since = None, workflow.claim_log[-1].claimed_at
        else:
            age = timedelta(seconds=clock.monotonic() - step.begun_at)
            step_id, since = step.id, in_milliseconds(clock.now() - age)
        return RunInFlight(
            workflow_id=workflow.workflow_id,
            handler_id=workflow.handler_id,
            step_id=step_id,
            since=since,
        )

    async def execute(self, histories: SharedHistories) -> None:
        """Run the handler over its history, and end the claim with one store call.

        If the workflow is to compensate, do that instead.

        An error of the handler is recorded, and a lost claim is logged. If the workflow has become
        unreadable, that is logged and its lease expires. Anything that this raises is an error of
        the store or of Bluestreak.
        """
        self._task = asyncio.current_task()
        workflow, policy = self.lease.claim.workflow, self._registration.policy
        span = None if self._compensates else policy.deadline
        deadline = Deadline(workflow, span, self._journal.clock)
        try:
            outcome = await self._outcome(histories, deadline)
            self.end = await self._ending(deadline).end(outcome)
        except ClaimLost as lost:
            self.end = RunEnd.LOST
            await self._aside(report_loss(self._store, self.lease.claim, lost))
        except CorruptDocument as error:
            logger.error(  # noqa: TRY400 - it says it all
                "%s; its run wrote nothing more", error, extra=fields(workflow)
            )
        finally:
            await self._call.publisher.close()

    def put_off(self, until: datetime) -> None:
        """Park the workflow without a call of its handler; call this before `execute`."""
        self._call.exit.decide(Park(until))

    def drain(self) -> None:
        """Park the run at its next nap, or at once if only naps are pending."""
        self._call.drain()

    def make_room(self) -> None:
        """Park the run if it does nothing but wait for children, which may need its slot."""
        if (parking := self._call.operations.parking()) is not None:
            self._call.exit.decide(parking)

    def release(self) -> None:
        """Cancel the handler, and release the claim; cancel a callback as well."""
        self._call.exit.decide(Release())
        if self._callback_task is not None:
            self._callback_task.cancel()

    def lose(self, reason: str) -> None:
        """Cancel the handler, and write nothing more. A repeated call changes nothing."""
        if self.lost:
            return
        self.lost = True
        self.lease.lose(reason)
        self._call.exit.decide(Abandon())

    def location_of(self, task: asyncio.Task[Any]) -> str | None:
        """The part of this workflow that a task is in, for messages; None if it is another's task.

        May be called from any thread.
        """
        operations = self._call.operations
        if (name := operations.name_at(task)) is not None:
            return f"{name} of workflow {self.workflow_id!r}"
        if operations.has(task) or task in (self._task, self._callback_task):
            return f"workflow {self.workflow_id!r}, outside its steps"
        return None

    def _ending(self, deadline: Deadline) -> Ending | CompensationEnding:
        if self._compensates:
            return CompensationEnding(self._journal, self._call.family)
        call = self._call
        return Ending(
            self._journal,
            self._registration,
            family=call.family,
            calls=call.calls,
            deadline=deadline,
            publisher=call.publisher,
            aside=self._aside,
        )

    async def _outcome(self, histories: SharedHistories, deadline: Deadline) -> Outcome:
        if (error := self._crashed_too_often() or deadline.error) is not None:
            return Raised(error, final=True)
        call = self._call
        task = asyncio.create_task(call.make(histories), context=self._context)
        call.exit.attach(task)
        try:
            if (too_late := await deadline.wait_for(task)) is not None:
                call.exit.decide(AbortNow(too_late))
                await wait_ended(task)
        except asyncio.CancelledError:  # the event loop is being closed
            self.release()
            await wait_ended(task)
            # If the handler's own error closes the event loop, do not release the claim: let the
            # lease expire, which counts as a crash. Otherwise the workflow would take down one
            # worker after the other for ever.
            is_to_blame = not task.cancelled() and task.exception() is not None
            return call.exit.decision or (Abandon() if is_to_blame else Release())
        return call.exit.decision or outcome_of(task)

    def _crashed_too_often(self) -> WorkflowCrashed | None:
        workflow, max_crashes = self.lease.claim.workflow, self._registration.policy.max_crashes
        if max_crashes is None or not machine.crashed_too_often(workflow, max_crashes):
            return None
        return WorkflowCrashed(self.workflow_id, workflow.crashes, max_crashes)

    async def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Await work in its own task, which `release` cancels."""
        self._callback_task = asyncio.create_task(work, context=self._context.copy())
        await self._callback_task

"""One claimed workflow, from calling its handler to the one store call that ends the claim."""

from __future__ import annotations

import asyncio
import inspect
import logging
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_never

from bluestreak_core import machine
from bluestreak_core.argument import is_a
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.concurrency.cancellation import cancellations, ended
from bluestreak_core.concurrency.outage import pauses
from bluestreak_core.concurrency.race import first_of
from bluestreak_core.errors import (
    ClaimLost,
    CorruptDocument,
    DeadlineExceeded,
    InvalidValue,
    StepFailed,
    StoreError,
    StoreUnavailable,
    UnstorableValue,
    ValueTooLarge,
    WorkflowCrashed,
)
from bluestreak_core.errors.group import is_abort, is_final_mistake, parts
from bluestreak_core.model import Failure, Status, Workflow
from bluestreak_core.run.clean_up import CleanUps
from bluestreak_core.run.context import Context
from bluestreak_core.run.exit import AbortAtOnce, Decision, Drop, Exit, HandBack, Park
from bluestreak_core.run.failure import in_one_line, record
from bluestreak_core.run.handler import ErrorCallback, Registration
from bluestreak_core.run.history import Batch
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.lease import Lease
from bluestreak_core.run.operations import Operations
from bluestreak_core.run.unawaited import Unawaited
from bluestreak_core.store.protocol import Store

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class _Returned:
    """The handler returned."""

    result: Any


@dataclass(frozen=True, slots=True)
class _Raised:
    """The handler raised; `final` where another try would only do harm."""

    error: BaseException
    final: bool = False


class Run:
    """One claim's life in this process."""

    def __init__(self, store: Store, lease: Lease, registration: Registration) -> None:
        self.lease = lease
        self._store = store
        self._handler = registration.handler
        self._policy = policy = registration.policy
        self._deadline_at = machine.deadline_at(lease.claim.workflow, policy.deadline)
        self._journal = Journal(store, lease, policy.conversion)
        self._exit = Exit()
        self._operations = Operations(store.clock, policy.park_after)
        self._task: asyncio.Task[Any] | None = None
        self._context = copy_context()
        """The variables that the handler sees and sets, and the error callback after it."""
        self._telling: asyncio.Task[None] | None = None
        self._clean_ups = CleanUps(store, lease.claim, policy.conversion)
        self.lost = False

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
        suspected = machine.is_suspect(self.lease.claim.workflow, self._policy.max_crashes)
        return suspected and not self._journal.has_progressed

    async def execute(self, batch: Batch) -> None:
        """Run the handler over its history, and end the claim by one store call.

        A lost claim ends quietly; what the handler raises is recorded. A workflow that can no
        longer be read is left to its lease. Anything that comes out of this call is an error of the
        store or of Bluestreak.
        """
        self._task = asyncio.current_task()
        try:
            await self._end(await self._outcome(batch))
        except ClaimLost as lost:
            await self._after_loss(lost)
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

    def hand_back(self) -> None:
        """Cancel the handler, and leave the workflow to another worker; cancel the callback too,
        and the clean-up.
        """
        self._exit.decide(HandBack())
        if self._telling is not None:
            self._telling.cancel()

    def lose(self, reason: str) -> None:
        """Cancel the handler, and write nothing more. Said again, it changes nothing."""
        if self.lost:
            return
        self.lost = True
        self.lease.lose(reason)
        self._exit.decide(Drop())

    def part_at(self, task: asyncio.Task[Any]) -> str | None:
        """What of this workflow a task is in, or None if it is not its task.

        May be asked from any thread.
        """
        if (name := self._operations.name_at(task)) is not None:
            return f"{name} of workflow {self.workflow_id!r}"
        if self._operations.has(task) or task in (self._task, self._telling):
            return f"workflow {self.workflow_id!r}, outside of its steps"
        return None

    async def _outcome(self, batch: Batch) -> Decision | _Returned | _Raised:
        workflow = self.lease.claim.workflow
        if machine.crashed_too_often(workflow, self._policy.max_crashes):
            max_crashes = self._policy.max_crashes or 0
            crashed = WorkflowCrashed(self.workflow_id, workflow.crashes, max_crashes)
            return _Raised(crashed, final=True)
        if self._deadline_at is not None and self._deadline_at <= self._journal.clock.now():
            return _Raised(self._too_late(self._deadline_at), final=True)
        task = asyncio.create_task(self._call_handler(batch), context=self._context)
        self._exit.attach(task)
        try:
            if self._deadline_at is None:
                await ended(task)
            else:
                await self._until_deadline(task, self._deadline_at)
        except asyncio.CancelledError:  # the event loop is being closed, under the handler as well
            self.hand_back()
            await ended(task)
            # What the handler itself has done to the event loop counts as a crash, when the lease
            # has run out; else it would be handed from worker to worker for ever.
            is_to_blame = not task.cancelled() and task.exception() is not None
            return self._exit.decision or (Drop() if is_to_blame else HandBack())
        return self._exit.decision or _result_of(task)

    async def _until_deadline(self, task: asyncio.Task[Any], deadline_at: datetime) -> None:
        """Until the handler has ended, by itself or because its time is over."""
        returned = asyncio.ensure_future(ended(task))
        clock = self._journal.clock
        await first_of(returned, clock.sleep(deadline_at - clock.now()))
        if not task.done():
            self._exit.decide(AbortAtOnce(self._too_late(deadline_at)))
            await ended(task)

    def _too_late(self, deadline_at: datetime) -> DeadlineExceeded:
        return DeadlineExceeded(self.workflow_id, deadline_at)

    def _by_deadline(self, instant: datetime) -> datetime:
        """The instant, or the deadline if that comes first: it is noticed by claiming."""
        return instant if self._deadline_at is None else min(instant, self._deadline_at)

    async def _call_handler(self, batch: Batch) -> _Returned | _Raised:
        try:
            history = await self.lease.persist(lambda: batch.history(self.workflow_id))
        except CorruptDocument as error:
            return _Raised(error, final=True)
        try:
            given = self._input()
        except Exception as error:  # noqa: BLE001 - a codec of somebody else's may raise anything
            return _Raised(error, final=is_a(error, InvalidValue))
        self._journal.history = history
        self._operations.begin()
        unawaited = Unawaited(self.workflow_id)
        context = Context(self._journal, self._operations, self._exit, self._clean_ups, unawaited)
        try:
            result = await self._handler(context, given)
            self._exit.close()
            await unawaited.check()
            return _Returned(result)
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its failure
            return _Raised(error, final=self._is_final(error))
        finally:
            self._exit.close()
            unawaited.close()
            await self._operations.cancel()

    async def _after_loss(self, lost: ClaimLost) -> None:
        # In a task of its own, which `hand_back` can cancel, whatever the store is doing.
        self._telling = asyncio.create_task(self._part(lost))
        await self._telling

    async def _part(self, lost: ClaimLost) -> None:
        """Say what has become of the claim. If the workflow was cancelled under it, clean up."""
        workflow = await self._look_up()
        if workflow is not None and workflow.claims == self.lease.claim.number:
            match workflow.status:
                case Status.PAUSED:
                    logger.info("workflow %r was paused", self.workflow_id)
                    return
                case Status.CANCELLED:
                    logger.info("workflow %r was cancelled: %r", self.workflow_id, workflow.reason)
                    await self._clean_ups.carry_out()
                    return
        logger.warning("%s; its run wrote nothing more", lost)

    async def _look_up(self) -> Workflow | None:
        for pause in pauses(_LONGEST_PAUSE):
            try:
                return await self._store.find_workflow(self.workflow_id)
            except StoreUnavailable as error:
                if not self._clean_ups:
                    return None
                logger.warning("workflow %r cannot be looked at: %r", self.workflow_id, error)
                await self._journal.clock.sleep(pause)
            except StoreError:
                return None
        return None

    def _is_final(self, error: BaseException) -> bool:
        """Whether another try would meet the same again, or the handler has asked for none."""
        return (
            is_abort(error) or is_final_mistake(error) or any(map(self._is_given_up, parts(error)))
        )

    def _is_given_up(self, error: BaseException) -> bool:
        try:
            return is_a(error, StepFailed) and bool(error.workflow_id == self.workflow_id)
        except Exception:  # noqa: BLE001 - a class of somebody else's may raise anything
            return False

    async def _end(self, outcome: Decision | _Returned | _Raised) -> None:
        match outcome:
            case _Returned(result):
                await self._finish(result)
            case _Raised(error, final):
                await self._fail(error, final=final)
            case Park(wake_up_at):
                await self._journal.park(self._by_deadline(wake_up_at))
            case HandBack():
                await self._journal.release()
            case AbortAtOnce(error):
                await self._fail(error, final=True)
            case Drop(error):
                self.lease.check()
                if error is not None:
                    raise error
            case _:
                assert_never(outcome)

    def _input(self) -> Any:
        workflow, conversion = self.lease.claim.workflow, self._policy.conversion
        if conversion is None:
            return workflow.input
        return conversion.input(self.workflow_id, self._handler, workflow.input)

    async def _finish(self, result: Any) -> None:
        try:
            stored = self._stored(result)
        except Exception as error:  # noqa: BLE001 - a codec of somebody else's may raise anything
            await self._fail(error, final=is_a(error, InvalidValue))
            return
        try:
            await self._journal.finish(stored)
        except (UnstorableValue, ValueTooLarge) as refusal:
            await self._fail(refusal, final=True)

    def _stored(self, result: Any) -> Any:
        conversion = self._policy.conversion
        if conversion is None:
            return result
        return conversion.stored_result(self.workflow_id, self._handler, result)

    async def _fail(self, error: BaseException, *, final: bool) -> None:
        retry_at = None if final else self._retry_at()
        recorded = record(error)
        await self._journal.fail(Failure(error=recorded, retry_at=retry_at))
        future = "aborted" if retry_at is None else f"to be tried again at {retry_at}"
        what = in_one_line(recorded)
        logger.warning("workflow %r failed, %s: %s", self.workflow_id, future, what)
        await self._tell(error)

    def _retry_at(self) -> datetime | None:
        workflow, now = self.lease.claim.workflow, self._journal.clock.now()
        wait = self._policy.pause_after(workflow.failures + 1)
        retry_at = machine.retry_at(workflow, now, wait, self._policy.max_failures)
        return None if retry_at is None else in_milliseconds(self._by_deadline(retry_at))

    async def _tell(self, error: BaseException) -> None:
        if self._policy.error_callback is None:
            return
        # In a task of its own, which `hand_back` can cancel; what it raises does not leave it.
        self._telling = asyncio.create_task(
            self._call_back(self._policy.error_callback, error), context=self._context.copy()
        )
        await self._telling

    async def _call_back(self, error_callback: ErrorCallback, error: BaseException) -> None:
        try:
            answer = error_callback(self.workflow_id, error)
            if inspect.isawaitable(answer):
                await answer
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            if is_a(raised, asyncio.CancelledError) and cancellations():
                raise
            logger.exception("workflow %r: error_callback raised", self.workflow_id)


def _result_of(task: asyncio.Task[_Returned | _Raised]) -> _Returned | _Raised:
    """What the handler did; being cancelled without our doing is a failure like any other."""
    try:
        return task.result()
    except asyncio.CancelledError as error:
        failure = RuntimeError("the handler was cancelled from within")
        failure.__cause__ = error
        return _Raised(failure)

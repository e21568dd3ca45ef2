"""Turning the outcome of a run into the one store call that ends its claim."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any, assert_never

from bluestreak_core import machine
from bluestreak_core.argument import has_real_type
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.concurrency import cancellations
from bluestreak_core.errors import InvalidValue, UnstorableValue, ValueTooLarge
from bluestreak_core.model import Failure, RunEnd, Status
from bluestreak_core.run.deadline import Deadline
from bluestreak_core.run.exit import Abandon, AbortNow, Park, Release, Restart
from bluestreak_core.run.failure import error_record, in_one_line
from bluestreak_core.run.family import Family
from bluestreak_core.run.handler import ErrorCallback, Registration
from bluestreak_core.run.hook import CallKind, Calls
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.log import fields, log_abort, log_end
from bluestreak_core.run.outcome import Orphaned, Outcome, Raised, Returned
from bluestreak_core.run.publisher import Publisher

logger = logging.getLogger(__name__)


class Ending:
    """Ends the claim of one run.

    `aside` awaits a callback of the application in its own task, which a stopping worker cancels.
    """

    def __init__(
        self,
        journal: Journal,
        registration: Registration,
        *,
        family: Family,
        calls: Calls,
        deadline: Deadline,
        publisher: Publisher,
        aside: Callable[[Coroutine[Any, Any, None]], Awaitable[None]],
    ) -> None:
        self._journal = journal
        self._family = family
        self._calls = calls
        self._handler = registration.handler
        self._policy = registration.policy
        self._deadline = deadline
        self._publisher = publisher
        self._aside = aside

    async def end(self, outcome: Outcome) -> RunEnd:  # noqa: PLR0911 - one for each outcome
        """End the claim according to the outcome. Raises `ClaimLost`, and what the store raises."""
        match await self._with_all_published(outcome):
            case Returned(result):
                return await self._finish(result)
            case Raised(error, final):
                return await self._fail(error, final=final)
            case Orphaned():
                await self._family.cancel_orphan()
                return RunEnd.CANCELLED
            case Park(wake_up_at, names, mail):
                wake_up_at = self._deadline.or_sooner(wake_up_at)
                await self._journal.park(wake_up_at, names, mail)
                log_end(logger, self._journal.workflow, "is parked until %s", wake_up_at)
                return RunEnd.PARKED
            case Release():
                await self._journal.release()
                log_end(logger, self._journal.workflow, "was released")
                return RunEnd.RELEASED
            case Restart(input):
                return await self._restart(input)
            case AbortNow(error):
                return await self._fail(error, final=True)
            case Abandon(error):
                self._journal.lease.check()
                if error is not None:
                    raise error
                return RunEnd.LOST
            case never:
                assert_never(never)

    async def _with_all_published(self, outcome: Outcome) -> Outcome:
        """The outcome, once all is written that was published; that may be refused."""
        if isinstance(outcome, Abandon) or not self._publisher.is_used:
            return outcome
        try:
            await self._publisher.flush()
        except (UnstorableValue, ValueTooLarge) as refusal:
            return outcome if isinstance(outcome, AbortNow) else AbortNow(refusal)
        return outcome

    async def _finish(self, result: Any) -> RunEnd:
        try:
            stored = self._stored(result)
        except Exception as error:  # noqa: BLE001 - a foreign codec may raise anything
            return await self._fail(error, final=has_real_type(error, InvalidValue))
        try:
            await self._journal.finish(stored)
        except (UnstorableValue, ValueTooLarge) as refusal:
            return await self._fail(refusal, final=True)
        log_end(logger, self._journal.workflow, "has finished")
        await self._family.settle(Status.FINISHED)
        return RunEnd.FINISHED

    async def _restart(self, input: Any) -> RunEnd:
        try:
            await self._journal.restart(input)
        except (UnstorableValue, ValueTooLarge) as refusal:
            return await self._fail(refusal, final=True)
        log_end(logger, self._journal.workflow, "starts over with another input")
        return RunEnd.RESTARTED

    def _stored(self, result: Any) -> Any:
        conversion = self._policy.conversion
        if conversion is None:
            return result
        return conversion.stored_result(self._journal.workflow.workflow_id, self._handler, result)

    async def _fail(self, error: BaseException, *, final: bool) -> RunEnd:
        workflow = self._journal.workflow
        retry_at = None if final else self._retry_at()
        recorded = error_record(error)
        consequence = "aborted" if retry_at is None else f"trying again at {retry_at}"
        if retry_at is None and self._journal.compensates:
            await self._journal.give_up(recorded)
            consequence = "compensating"
        else:
            await self._journal.fail(Failure(error=recorded, retry_at=retry_at))
            if retry_at is None:
                await self._family.settle(Status.ABORTED)
        message = "workflow %r failed, %s: %s"
        facts = (workflow.workflow_id, consequence, in_one_line(recorded))
        if retry_at is None:
            log_abort(logger, workflow, message, *facts, error=error, recorded=recorded)
        else:
            logger.warning(message, *facts, extra=fields(workflow))
        if self._policy.error_callback is not None:
            await self._aside(self._call_back(self._policy.error_callback, error))
        return RunEnd.FAILED if retry_at is not None else RunEnd.ABORTED

    def _retry_at(self) -> datetime | None:
        workflow, now = self._journal.workflow, self._journal.clock.now()
        pause = self._policy.pause_after(workflow.failures + 1)
        retry_at = machine.retry_at(workflow, now, pause, self._policy.max_failures)
        return None if retry_at is None else in_milliseconds(self._deadline.or_sooner(retry_at))

    async def _call_back(self, callback: ErrorCallback, error: BaseException) -> None:
        """Call the application's callback; what it raises is logged."""
        workflow = self._journal.workflow
        workflow_id = workflow.workflow_id

        async def proceed() -> None:
            answer = callback(workflow_id, error)
            if inspect.isawaitable(answer):
                await answer

        args = (workflow_id, error)
        try:
            await self._calls.around(CallKind.ERROR_CALLBACK, None, callback, args, proceed)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            if has_real_type(raised, asyncio.CancelledError) and cancellations():
                raise
            logger.exception(
                "workflow %r: error_callback raised", workflow_id, extra=fields(workflow)
            )

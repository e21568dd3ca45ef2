"""`ctx.on_cancel`: steps that are called only if the workflow is cancelled during a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from bluestreak_core.argument import check_function, has_real_type
from bluestreak_core.concurrency import cancellations, until_answered
from bluestreak_core.errors import FinalMistakes, StoreUnavailable
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.hook import CallKind, Calls
from bluestreak_core.run.journal import Journal
from bluestreak_core.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """A step for after a cancellation; `context` is the one that it was registered in."""

    step_id: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    context: Context


class CleanUps:
    """The clean-ups of one run, in the order of registration."""

    def __init__(self, store: Store, journal: Journal, calls: Calls) -> None:
        self._store = store
        self._journal = journal
        self._calls = calls
        self._claim = journal.lease.claim
        self._registered: list[CleanUp] = []

    def __bool__(self) -> bool:
        return bool(self._registered)

    def add(self, clean_up: CleanUp) -> None:
        """Register one more."""
        self._registered.append(clean_up)

    async def carry_out(self) -> None:
        """Call them in reverse order, and record each. A recorded one is not called again.

        The claim has been lost by now, so no lease limits the time that this takes. Only a
        cancellation ends it early.
        """
        for clean_up in reversed(self._registered):
            await self._carry_out(clean_up)
            if cancellations():  # the function may have swallowed the `CancelledError`
                raise asyncio.CancelledError

    async def _carry_out(self, clean_up: CleanUp) -> None:
        step_id = clean_up.step_id
        try:
            if await self._is_recorded(step_id):
                return
            output = await self._calls.call(
                CallKind.CLEAN_UP, step_id, clean_up.fn, clean_up.args, clean_up.context
            )
            await self._record(step_id, self._journal.stored(step_id, output, clean_up.fn))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it raises, the others are called
            if has_real_type(error, asyncio.CancelledError) and cancellations():
                raise
            logger.exception("workflow %r: clean-up %r raised", self._claim.workflow_id, step_id)

    async def _is_recorded(self, step_id: str) -> bool:
        # The store is asked, not the history: if the workflow has been retried and cancelled again,
        # a later run may have recorded the step since.
        find_step = partial(self._store.find_step, self._claim.workflow_id, step_id)
        return await until_answered(find_step, self._pause) is not None

    async def _record(self, step_id: str, output: Any) -> None:
        claim, clock = self._claim, self._store.clock
        await until_answered(
            lambda: self._store.save_step(claim, step_id, output, clock.now()), self._pause
        )

    async def _pause(self, span: timedelta, unavailable: StoreUnavailable) -> None:
        logger.warning(
            "workflow %r: store unavailable during clean-up, trying again: %r",
            *(self._claim.workflow_id, unavailable),
        )
        await self._store.clock.sleep(span)


def on_cancel(
    frame: Frame, clean_ups: CleanUps, step_id: str, fn: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """Register a clean-up under the id of a step."""
    frame.check_now("clean-up", step_id)
    with FinalMistakes():
        step_id = frame.step_id(step_id)
        check_function("ctx.on_cancel", "clean-up", step_id, fn)
        frame.use_step(step_id)
    clean_ups.add(CleanUp(step_id, fn, args, copy_context()))
    frame.calls.clean_up_registered(step_id)

"""What a handler wants done if its workflow is cancelled while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from bluestreak_core.argument import check_function, check_id, has_real_type
from bluestreak_core.codec import Conversion
from bluestreak_core.concurrency import cancellations, until_answered
from bluestreak_core.errors import FinalMistakes, StoreUnavailable
from bluestreak_core.model import Claim
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.hook import CallKind, Calls
from bluestreak_core.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """A step that is called only after a cancellation, with the context variables of `context`."""

    step_id: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    context: Context


class CleanUps:
    """Those of one run, in the order in which its handler has asked for them."""

    def __init__(
        self, store: Store, claim: Claim, calls: Calls, conversion: Conversion | None = None
    ) -> None:
        self._store = store
        self._calls = calls
        self._conversion = conversion
        self._claim = claim
        self._asked_for: list[CleanUp] = []

    def __bool__(self) -> bool:
        return bool(self._asked_for)

    def add(self, clean_up: CleanUp) -> None:
        """Ask for one more."""
        self._asked_for.append(clean_up)

    async def carry_out(self) -> None:
        """Call them, the last one first, and record each; what is recorded is not called again.

        The claim is gone by now, and so is the lease: only being cancelled ends it, and the end of
        this process.
        """
        for clean_up in reversed(self._asked_for):
            await self._carry_out(clean_up)
            if cancellations():  # even if the function has swallowed that
                raise asyncio.CancelledError

    async def _carry_out(self, clean_up: CleanUp) -> None:
        step_id = clean_up.step_id
        try:
            if await self._is_recorded(step_id):
                return
            output = await self._calls.call(
                CallKind.CLEAN_UP, step_id, clean_up.fn, clean_up.args, clean_up.context
            )
            await self._record(step_id, self._stored(clean_up, output))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it raises, the others are called
            if has_real_type(error, asyncio.CancelledError) and cancellations():
                raise
            logger.exception("workflow %r: clean-up %r raised", self._claim.workflow_id, step_id)

    def _stored(self, clean_up: CleanUp, output: Any) -> Any:
        if self._conversion is None:
            return output
        workflow_id = self._claim.workflow_id
        return self._conversion.stored_output(workflow_id, clean_up.step_id, clean_up.fn, output)

    async def _is_recorded(self, step_id: str) -> bool:
        """Also by the run of a later claim, which had the workflow retried and cancelled again."""
        workflow_id = self._claim.workflow_id
        look = partial(self._store.find_step, workflow_id, step_id)
        step = await until_answered(look, self._pause)
        return step is not None

    async def _record(self, step_id: str, output: Any) -> None:
        claim, clock = self._claim, self._store.clock
        await until_answered(
            lambda: self._store.save_step(claim, step_id, output, clock.now()), self._pause
        )

    async def _pause(self, span: timedelta, unavailable: StoreUnavailable) -> None:
        logger.warning(
            "workflow %r: clean-up waits for the store: %r", self._claim.workflow_id, unavailable
        )
        await self._store.clock.sleep(span)


def on_cancel(
    frame: Frame, clean_ups: CleanUps, step_id: str, fn: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    """Register a clean-up under the id of a step."""
    frame.check_now("clean-up", step_id)
    with FinalMistakes():
        step_id = check_id("step id", step_id)
        check_function("ctx.on_cancel", "clean-up", step_id, fn)
        frame.use_step(step_id)
    clean_ups.add(CleanUp(step_id, fn, args, copy_context()))
    frame.calls.clean_up_registered(step_id)

"""What a handler wants done if its workflow is cancelled while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from bluestreak_core.argument import is_a
from bluestreak_core.codec.conversion import Conversion
from bluestreak_core.concurrency.cancellation import cancellations
from bluestreak_core.concurrency.outage import pauses
from bluestreak_core.errors import StoreUnavailable
from bluestreak_core.model import Claim
from bluestreak_core.run.call import call
from bluestreak_core.store.protocol import Store

T = TypeVar("T")
logger = logging.getLogger(__name__)

_LONGEST_PAUSE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """A step that is called only after a cancellation, with the context variables of `context`."""

    step_id: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    context: Context


class CleanUps:
    """Those of one run, in the order in which its handler has asked for them."""

    def __init__(self, store: Store, claim: Claim, conversion: Conversion | None = None) -> None:
        self._store = store
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
        try:
            if await self._is_recorded(clean_up.step_id):
                return
            output = await call(
                clean_up.step_id, clean_up.fn, *clean_up.args, context=clean_up.context
            )
            await self._record(clean_up.step_id, self._stored(clean_up, output))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it raises, the others are called
            if is_a(error, asyncio.CancelledError) and cancellations():
                raise
            logger.exception(
                "workflow %r: clean-up %r raised", self._claim.workflow_id, clean_up.step_id
            )

    def _stored(self, clean_up: CleanUp, output: Any) -> Any:
        if self._conversion is None:
            return output
        workflow_id = self._claim.workflow_id
        return self._conversion.stored_output(workflow_id, clean_up.step_id, clean_up.fn, output)

    async def _is_recorded(self, step_id: str) -> bool:
        """Also by the run of a later claim, which had the workflow retried and cancelled again."""
        workflow_id = self._claim.workflow_id
        step = await self._until_answered(lambda: self._store.find_step(workflow_id, step_id))
        return step is not None

    async def _record(self, step_id: str, output: Any) -> None:
        claim, clock = self._claim, self._store.clock
        await self._until_answered(
            lambda: self._store.save_step(claim, step_id, output, clock.now())
        )

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        for pause in pauses(_LONGEST_PAUSE):
            try:
                return await ask()
            except StoreUnavailable as error:
                logger.warning(
                    "workflow %r: clean-up waits for the store: %r", self._claim.workflow_id, error
                )
                await self._store.clock.sleep(pause)
        raise AssertionError("there is always another pause")

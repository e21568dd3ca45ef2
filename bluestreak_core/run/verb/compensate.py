"""`ctx.compensate`: a step that is called only if the workflow is aborted or cancelled."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from bluestreak_core.argument import (
    Duration,
    check_function,
    to_positive_timedelta,
)
from bluestreak_core.errors import FinalMistakes
from bluestreak_core.retry import Retry
from bluestreak_core.run.compensations import Compensation
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.verb.step import check_retry


async def compensate(  # noqa: PLR0917 - the arguments of `Context.compensate`, in their order
    frame: Frame,
    step_id: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    retry: Retry | None,
    timeout: Duration | None,
) -> None:
    """Register a compensation under the id of a step; the first one is promised to the store."""
    await frame.check("compensation", step_id)
    with FinalMistakes():
        step_id = frame.step_id(step_id)
        check_function("ctx.compensate", "compensation", step_id, fn)
        what = f"compensation {step_id!r}"
        limit = (
            frame.policy.step_timeout
            if timeout is None
            else to_positive_timedelta(f"timeout of {what}", timeout)
        )
        check_retry(what, retry)
        frame.use_step(step_id, "compensation")
        frame.journal.check_can_compensate()
    if not frame.journal.compensates:
        with frame.operations.operation("compensation", step_id):
            await frame.record(frame.journal.promise())
    compensation = Compensation(
        step_id=step_id,
        fn=fn,
        args=args,
        retry=Retry() if retry is None else retry,
        limit=limit,
        context=copy_context(),
    )
    frame.compensations.add(compensation)
    frame.calls.compensation_registered(step_id)

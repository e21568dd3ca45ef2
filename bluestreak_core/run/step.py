"""`ctx.step`: a call whose outcome is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

from bluestreak_core.argument import (
    Duration,
    check_function,
    has_real_type,
    to_positive_timedelta,
)
from bluestreak_core.errors import FinalMistakes, InvalidArgument
from bluestreak_core.errors.group import is_abort, is_final_mistake
from bluestreak_core.retry import Retry
from bluestreak_core.run.attempts import Attempts, failure_of
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.hook import CallKind
from bluestreak_core.run.time_limit import in_time

_FINAL_MISTAKES = FinalMistakes()


async def step(  # noqa: PLR0917 - the arguments of `Context.step`, in their order
    frame: Frame,
    step_id: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    retry: Retry | None,
    timeout: Duration | None,
) -> Any:
    """Return the recorded output of the step; if there is none, call `fn` and record its output."""
    if frame.may_be_over:
        await frame.check("step", step_id)
    with _FINAL_MISTAKES:
        step_id = frame.step_id(step_id)
        check_function("ctx.step", "step", step_id, fn)
        limit = frame.policy.step_timeout if timeout is None else _limit(step_id, timeout)
        if retry is not None and not has_real_type(retry, Retry):
            raise InvalidArgument(f"retry of step {step_id!r}", retry, "expected a Retry")
        frame.use_step(step_id)
    if frame.is_recorded(step_id):
        return frame.recorded(step_id, fn)
    if retry is not None:
        calling = partial(_call, frame, step_id, fn, args, limit)
        return await _with_retries(frame, step_id, retry, fn, calling)
    with frame.operations.operation("step", step_id):
        output = await _call(frame, step_id, fn, args, limit)
        return await frame.record(frame.journal.save_step(step_id, output, fn))


def _call(
    frame: Frame,
    step_id: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    limit: timedelta | None,
) -> Coroutine[Any, Any, Any]:
    calling = frame.calls.call(CallKind.STEP, step_id, fn, args)
    return calling if limit is None else in_time(limit, frame.workflow_id, step_id, calling)


async def _with_retries(
    frame: Frame,
    step_id: str,
    retry: Retry,
    fn: Callable[..., Any],
    calling: Callable[[], Awaitable[Any]],
) -> Any:
    attempts = Attempts(frame.journal, step_id, retry)
    while not attempts.are_used_up:
        if attempts.next_at is not None:
            await frame.doze(attempts.kind, step_id, attempts.next_at)
        await frame.check("step", step_id)
        with frame.operations.operation(attempts.kind, step_id):
            try:
                output = await calling()
            except Exception as error:
                if is_abort(error) or is_final_mistake(error):
                    raise
                await frame.record(attempts.add(error))
            else:
                return await frame.record(frame.journal.save_step(step_id, output, fn))
    with frame.operations.operation(attempts.kind, step_id):
        raise failure_of(frame.workflow_id, await frame.record(attempts.give_up()))


def _limit(step_id: str, timeout: Duration) -> timedelta:
    return to_positive_timedelta(f"timeout of step {step_id!r}", timeout)

"""`ctx.step`: a call whose outcome is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

from bluestreak_core.argument import (
    Duration,
    check_flag,
    check_function,
    has_real_type,
    to_positive_timedelta,
)
from bluestreak_core.errors import FinalMistakes, InvalidArgument
from bluestreak_core.errors.group import is_abort, is_final_mistake
from bluestreak_core.retry import Retry
from bluestreak_core.run.attempts import Attempts, failure_of
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.hook import CallKind, WaitKind
from bluestreak_core.run.time_limit import in_time

ONCE = Retry(max_attempts=1)
"""The policy of a step that records its failure, but is not tried again."""

_FINAL_MISTAKES = FinalMistakes()


async def step(  # noqa: PLR0917 - the arguments of `Context.step`, in their order
    frame: Frame,
    step_id: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    retry: Retry | None,
    timeout: Duration | None,
    at_most_once: bool = False,
) -> Any:
    """Return the recorded output of the step; if there is none, call `fn` and record its output."""
    if frame.may_be_over:
        await frame.check("step", step_id)
    with _FINAL_MISTAKES:
        step_id = frame.step_id(step_id)
        check_function("ctx.step", "step", step_id, fn)
        limit = frame.policy.step_timeout if timeout is None else _limit(step_id, timeout)
        if retry is not None:
            check_retry(f"step {step_id!r}", retry)
        if at_most_once is not False:
            check_flag(f"at_most_once of step {step_id!r}", at_most_once)
        frame.use_step(step_id)
    if frame.is_recorded(step_id):
        return frame.recorded(step_id, fn)
    if retry is not None or at_most_once:
        calling = partial(call_once, frame, step_id, fn, args, limit)
        saving = partial(frame.journal.save_step, step_id, fn=fn)
        policy = retry or ONCE
        return await call_until_done(
            frame, step_id, policy, calling, saving, at_most_once=at_most_once
        )
    with frame.operations.operation("step", step_id):
        output = await call_once(frame, step_id, fn, args, limit)
        return await frame.record(frame.journal.save_step(step_id, output, fn))


def call_once(
    frame: Frame,
    step_id: str,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    limit: timedelta | None,
) -> Coroutine[Any, Any, Any]:
    """Call the function of a step, within its time limit; in a replay, wait for ever instead."""
    if frame.replay is not None:
        return frame.replay.suspend("step", step_id)
    calling = frame.calls.call(CallKind.STEP, step_id, fn, args)
    return calling if limit is None else in_time(limit, frame.workflow_id, step_id, calling)


async def call_until_done(
    frame: Frame,
    step_id: str,
    retry: Retry,
    calling: Callable[[], Awaitable[Any]],
    saving: Callable[[Any], Awaitable[Any]],
    *,
    at_most_once: bool = False,
    is_tolerated: bool = False,
) -> Any:
    """Call until a call succeeds, and record its output with `saving`.

    After the last attempt, record that the step is given up, unless that is tolerated: the attempt
    itself says it as well, and the workflow keeps no list of such steps. Raises `StepFailed`.
    """
    attempts = Attempts(frame.journal, step_id, retry)
    if attempts.is_interrupted:
        with frame.operations.operation(attempts.kind, step_id):
            await frame.record(attempts.add_interrupted())
    while not attempts.are_used_up:
        if attempts.next_at is not None:
            await frame.doze(attempts.kind, step_id, attempts.next_at, WaitKind.RETRY)
        await frame.check("step", step_id)
        with frame.operations.operation(attempts.kind, step_id):
            if at_most_once and not await frame.record(attempts.begin()):
                await frame.leave_to_another_run()
            frame.calls.attempting(step_id, attempts.number)
            try:
                output = await calling()
            except Exception as error:
                if is_abort(error) or is_final_mistake(error):
                    raise
                await frame.record(attempts.add(error))
            else:
                return await frame.record(saving(output))
    if is_tolerated:
        raise failure_of(frame.workflow_id, attempts.last_failure)
    with frame.operations.operation(attempts.kind, step_id):
        raise failure_of(frame.workflow_id, await frame.record(attempts.give_up()))


def check_retry(what: str, retry: object) -> None:
    """Refuse what is neither a policy nor None; `what` names the step in errors."""
    if retry is not None and not has_real_type(retry, Retry):
        raise InvalidArgument(f"retry of {what}", retry, "expected a Retry")


def time_limit(frame: Frame, step_id: str, timeout: Duration | None) -> timedelta | None:
    """How long a call may take, by default as long as the handler says."""
    return frame.policy.step_timeout if timeout is None else _limit(step_id, timeout)


def _limit(step_id: str, timeout: Duration) -> timedelta:
    return to_positive_timedelta(f"timeout of step {step_id!r}", timeout)

"""`ctx.transaction`: a step that is committed together with what its function writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bluestreak_core.argument import check_async, check_function
from bluestreak_core.errors import FinalMistakes
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.transaction_call import RolledBack, TransactionCall


async def transaction(
    frame: Frame, step_id: str, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
) -> Any:
    """Return the recorded output of the step; if there is none, commit it with what `fn` writes."""
    await frame.check("transaction", step_id)
    with FinalMistakes():
        step_id = frame.step_id(step_id)
        check_function("ctx.transaction", "transaction", step_id, fn)
        check_async(f"transaction {step_id!r}", fn)
        frame.use_step(step_id, "transaction")
    if frame.is_recorded(step_id):
        return frame.recorded(step_id, fn)
    if frame.replay is not None:
        await frame.replay.suspend("transaction", step_id)
    with frame.operations.operation("transaction", step_id) as operation:
        call = TransactionCall(
            frame.calls, frame.workflow_id, step_id, fn, args, operation.helped_by_current_task
        )
        with FinalMistakes():  # errors of the function itself are returned, so they are not marked
            outcome = await frame.record(frame.commits.transact(call))
    if isinstance(outcome, RolledBack):
        raise outcome.error
    return outcome.output

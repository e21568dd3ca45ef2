"""One branch of a handler, in a task of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bluestreak_core.concurrency import cancel_all, cancellations
from bluestreak_core.errors import FinalMistakes, InvalidArgument
from bluestreak_core.errors.group import is_abort, is_final_mistake
from bluestreak_core.run.failure import error_record
from bluestreak_core.run.frame import Frame


async def call_branch(what: str, fn: Callable[..., Any], *args: Any) -> Any:
    """Call the function of a branch, and await what it returns.

    A cancellation that nobody has requested of this task is an error like any other; so is one that
    `except Exception` would not catch, such as `SystemExit`, which would end the event loop.
    """
    before = cancellations()
    try:
        return await _awaitable(what, fn(*args))
    except asyncio.CancelledError as error:
        if cancellations() > before:
            raise
        raise RuntimeError(f"{what} was cancelled from within") from error
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if is_abort(error):
            raise
        recorded = error_record(error)
        raise RuntimeError(f"{what} raised {recorded.type}: {recorded.message}") from error


async def end_branches(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel the tasks of branches, and return when all have ended; drop what they raise."""
    await cancel_all(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # or asyncio logs that nobody has looked at it


def ends_everything(frame: Frame, error: BaseException) -> bool:
    """Whether an error of a branch must not be tolerated, since the workflow itself is to end."""
    return is_abort(error) or is_final_mistake(error) or frame.may_be_over


def _awaitable(what: str, value: object) -> Awaitable[Any]:
    if inspect.isawaitable(value):
        return value
    with FinalMistakes():
        raise InvalidArgument(what, value, "expected an async function")

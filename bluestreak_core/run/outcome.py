"""The outcome of a handler's run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from bluestreak_core.errors import (
    CallbackFailed,
    ChildFailed,
    MessageTimeout,
    PollTimeout,
    StepFailed,
)
from bluestreak_core.errors.group import is_abort, is_final_mistake, parts
from bluestreak_core.run.exit import Decision


@dataclass(frozen=True, slots=True)
class Returned:
    """The handler returned."""

    result: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The handler raised; `final` if the workflow is not to be tried again."""

    error: BaseException
    final: bool = False


@dataclass(frozen=True, slots=True)
class Orphaned:
    """The handler was not called: the workflow is a child whose parent has ended."""


Called = Returned | Raised | Orphaned
"""What came of the call of a handler."""

Outcome = Decision | Called
"""What the handler did, or the decision that ended its run early."""


def outcome_of(task: asyncio.Task[Called]) -> Called:
    """What the handler did. A cancellation that Bluestreak did not request is a failure."""
    try:
        return task.result()
    except asyncio.CancelledError as error:
        failure = RuntimeError("the handler was cancelled from within")
        failure.__cause__ = error
        return Raised(failure)


def is_final(workflow_id: str, error: BaseException) -> bool:
    """Whether another run would meet the same error, or the handler has raised `Abort`."""
    if is_abort(error) or is_final_mistake(error):
        return True
    return any(_is_given_up(workflow_id, part) for part in parts(error))


_RECORDED = (StepFailed, ChildFailed, MessageTimeout, CallbackFailed, PollTimeout)
"""Errors that each later run meets, too."""


def _is_given_up(workflow_id: str, error: BaseException) -> bool:
    try:
        is_recorded = issubclass(type(error), _RECORDED)
        return is_recorded and bool(getattr(error, "workflow_id", None) == workflow_id)
    except Exception:  # noqa: BLE001 - a foreign class may raise anything
        return False

"""How a run of a handler has ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from bluestreak_core.argument import has_real_type
from bluestreak_core.errors import StepFailed
from bluestreak_core.errors.group import is_abort, is_final_mistake, parts
from bluestreak_core.run.exit import Decision


@dataclass(frozen=True, slots=True)
class Returned:
    """The handler returned."""

    result: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The handler raised; `final` where another try would only do harm."""

    error: BaseException
    final: bool = False


Outcome = Decision | Returned | Raised
"""What the handler did, or what was decided for it."""


def outcome_of(task: asyncio.Task[Returned | Raised]) -> Returned | Raised:
    """What the handler did; being cancelled without our doing is a failure like any other."""
    try:
        return task.result()
    except asyncio.CancelledError as error:
        failure = RuntimeError("the handler was cancelled from within")
        failure.__cause__ = error
        return Raised(failure)


def is_final(workflow_id: str, error: BaseException) -> bool:
    """Whether another try would meet the same error again, or the handler has asked for none."""
    if is_abort(error) or is_final_mistake(error):
        return True
    return any(_is_given_up(workflow_id, part) for part in parts(error))


def _is_given_up(workflow_id: str, error: BaseException) -> bool:
    try:
        return has_real_type(error, StepFailed) and bool(error.workflow_id == workflow_id)
    except Exception:  # noqa: BLE001 - a class of somebody else's may raise anything
        return False

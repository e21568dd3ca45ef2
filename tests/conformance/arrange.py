"""What the cases of the conformance suite share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from bluestreak_core import Attempt, Outcomes
from bluestreak_core.testing import Environment, Outcome
from bluestreak_core.testing.clock import START

on_memory = pytest.mark.parametrize("make_store", ["memory"], indirect=True)
"""For what no store decides, or takes a server too long."""


class Flaky:
    """A function that fails so often before it returns a value."""

    def __init__(
        self, failures: float, value: object = None, error: type[Exception] = ConnectionError
    ) -> None:
        self.calls = 0
        self._failures = failures
        self._value = value
        self._error = error

    def __call__(self) -> object:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error(f"call {self.calls}")
        return self._value


def attempts(env: Environment, step_id: str, workflow_id: str = "workflow") -> list[Attempt]:
    """The failed attempts of a step, in order."""
    timeline = env.call(env.bluestreak.describe(workflow_id))
    return [attempt for attempt in timeline.attempts if attempt.step_id == step_id]


def pauses(env: Environment, step_id: str) -> list[Any]:
    """The pause after each failed attempt, in seconds; None where the step was given up."""
    return [
        attempt.retry_at and (attempt.retry_at - attempt.saved_at).total_seconds()
        for attempt in attempts(env, step_id)
    ]


def saved_at(env: Environment, step_id: str) -> datetime:
    """When a step of the workflow was recorded."""
    step = env.call(env.bluestreak.find_step("workflow", step_id))
    assert step is not None
    assert step.saved_at is not None
    return step.saved_at


def given_up(outcome: Outcome) -> dict[str, str]:
    """The ids of the steps that were given up, with the type of the error of each."""
    return {failed.step_id: failed.error.type for failed in outcome.workflow.failed_steps}


def seconds_of(instant: datetime | None) -> float:
    """How long after the start of an environment an instant is, in seconds."""
    assert instant is not None
    return (instant - START).total_seconds()


class Sealed(str):
    """A text that `SealingCodec` does not store as it is."""

    __slots__ = ()


class SealingCodec:
    """Stores each value that is annotated as `Sealed` in an envelope, and other values plain."""

    def refusal(self, annotation: Any) -> str | None:
        return None

    def encode(self, value: Any, annotation: Any, what: str) -> Any:
        return {"sealed": str(value)} if annotation is Sealed else value

    def decode(self, value: Any, annotation: Any, what: str) -> Any:
        return Sealed(value["sealed"]) if annotation is Sealed else value


def summary(outcomes: Outcomes[Any]) -> dict[str, Any]:
    """How the branches of a parallel, or the items of a map, have ended, in a storable form."""
    return {
        "ended_by": outcomes.ended_by.value,
        "succeeded": len(outcomes.succeeded),
        "failed": len(outcomes.failed),
        "skipped": len(outcomes.skipped),
    }

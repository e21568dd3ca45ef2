"""Watching the steps of handlers: which were called, and when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from typing_extensions import override

from bluestreak_core.clock import Clock
from bluestreak_core.run import RunHook, UserCall


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """One call of a step's function, with any outcome."""

    workflow_id: str
    step_id: str
    args: tuple[Any, ...]
    called_at: datetime


class StepWatch(RunHook):
    """Notes each call of a step, a transaction or a compensation."""

    def __init__(self, clock: Clock) -> None:
        self.calls: list[StepCall] = []
        self._clock = clock

    @override
    async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
        if call.step_id is not None:
            self.calls.append(
                StepCall(
                    workflow_id=call.run.claim.workflow_id,
                    step_id=call.step_id,
                    args=call.args,
                    called_at=self._clock.now(),
                )
            )
        return await proceed()

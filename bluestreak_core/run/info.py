"""`ctx.info`: what a handler may know about its own run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from bluestreak_core import machine
from bluestreak_core.model import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowInfo:
    """Facts about a workflow, as its claim found them.

    They differ from run to run, so let nothing but logs and metrics depend on them.

    - `created_at`, `started_at`: when it was created and first claimed; `created_at` is None if the
      JavaScript library created it.
    - `claims`: how often it was claimed, this time included.
    - `failures`: how often its handler has raised since it was started or last retried; `attempt`
      is one more.
    - `generation`: how often it has restarted.
    - `deadline_at`: when it is aborted if it has not ended by then; None without a `deadline`.
    """

    handler_id: str
    created_at: datetime | None
    started_at: datetime | None
    claims: int
    failures: int
    attempt: int
    generation: int
    deadline_at: datetime | None

    @classmethod
    def of(cls, workflow: Workflow, deadline: timedelta | None) -> Self:
        """The facts about a claimed workflow whose handler has this deadline."""
        return cls(
            handler_id=workflow.handler_id,
            created_at=workflow.created_at,
            started_at=workflow.started_at,
            claims=workflow.claims,
            failures=workflow.failures,
            attempt=workflow.failures + 1,
            generation=workflow.generation,
            deadline_at=machine.deadline_at(workflow, deadline),
        )

"""The right to move a workflow, and how a worker asks for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bluestreak_core.model.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to move one workflow, until its lease expires or the claim ends.

    `workflow` is the record as the claim left it. `token` is the fencing token: unique among the
    claims of one workflow, though claims of several workflows may share it. So only `workflow_id`
    and `token` together identify a claim.

    `due_at` is the instant since when the workflow was due, after a crash the end of the lease that
    had run out. It is for telemetry, and may be None where the store cannot tell.
    """

    token: str
    workflow: Workflow
    due_at: datetime | None = field(default=None, compare=False)

    @property
    def workflow_id(self) -> str:
        """The id of the claimed workflow."""
        return self.workflow.workflow_id

    @property
    def key(self) -> tuple[str, str]:
        """The identity of this claim."""
        return self.workflow_id, self.token

    @property
    def number(self) -> int:
        """How many claims the workflow has had, this one included; for messages."""
        return self.workflow.claims


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A request for up to `limit` workflows that are due at `now`.

    `worker` gets each with a lease that ends at `now + lease`. `handlers` are the ids of the
    handlers whose workflows it can run; None means any.
    """

    worker: str
    now: datetime
    lease: timedelta
    limit: int
    handlers: Collection[str] | None = None

    def accepts(self, handler_id: str) -> bool:
        """Whether workflows of this handler are requested."""
        return self.handlers is None or handler_id in self.handlers

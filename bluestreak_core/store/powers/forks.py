"""The power to start a workflow with the records of another one."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable


@runtime_checkable
class SupportsForks(Protocol):
    """A store that can start a workflow with the records of another one."""

    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        """Create the workflow that `machine.fork` makes, with copies of another one's records.

        Copy the steps, naps and given-up steps that were recorded before the step `before`, or all
        of them if that is None. Do not copy failed attempts.

        Raise what `machine.check_fork` raises.

        Return False, and change nothing, if the new id exists. Raise `WorkflowNotFound`, or
        `StepNotRecorded` if `before` is neither recorded nor given up.

        Until the copy is complete, no worker may claim the new workflow, and no call may move it
        but to cancel it. A repeat completes an interrupted fork, and returns True.
        """
        ...

"""What has become of a workflow, for a test to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bluestreak_core.errors import WaitTimeout, WorkflowAborted, WorkflowCancelled
from bluestreak_core.model import NewMessage, Receipt, Status, Workflow


def _unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What has become of a workflow.

    `workflow` is its record; `steps` has its recorded outputs by step id, and `naps` the instants
    at which its naps end by nap id, all as they are stored. `receipts` has, by step id, the message
    that each `receive` has got, or that none came in time, and `unread` the messages that are left,
    without their payloads. `calls` has the id of a step for each call of it, in order, and `errors`
    the exceptions that failed the workflow.
    """

    workflow: Workflow
    steps: dict[str, Any]
    naps: dict[str, datetime]
    receipts: dict[str, Receipt]
    unread: list[NewMessage]
    calls: list[str]
    errors: list[BaseException]
    converted: Callable[[Any], Any] = field(default=_unchanged, repr=False, compare=False)
    """Converts a stored result to what the handler returned."""

    @property
    def status(self) -> Status:
        """The status of the workflow."""
        return self.workflow.status

    @property
    def published(self) -> dict[str, Any]:
        """The latest value that it has published under each name."""
        return {latest.name: latest.value for latest in self.workflow.published}

    @property
    def result(self) -> Any:
        """What its handler returned.

        Raises `WorkflowAborted`, from the last of `errors`, `WorkflowCancelled`, and `WaitTimeout`
        if it has not ended.
        """
        workflow = self.workflow
        if workflow.status is Status.FINISHED:
            return self.converted(workflow.result)
        if workflow.status is Status.CANCELLED:
            raise WorkflowCancelled(workflow.workflow_id, workflow.reason)
        if workflow.status is not Status.ABORTED or workflow.error is None:
            raise WaitTimeout(workflow.workflow_id, workflow.status, 1)
        error = workflow.error
        raise WorkflowAborted(
            workflow.workflow_id, error.type, error.message, error.traceback
        ) from (self.errors[-1] if self.errors else None)

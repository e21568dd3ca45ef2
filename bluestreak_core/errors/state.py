"""The world moved on: the workflow is not in the state that the call needs."""

from __future__ import annotations

from datetime import datetime, timedelta

from bluestreak_core.errors.family import StateError
from bluestreak_core.errors.text import counted, one_line


class WorkflowNotFound(StateError):
    """No workflow has this id."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} does not exist"


class StepNotRecorded(StateError):
    """`fork(before=)` names a step that the workflow has not recorded."""

    def __init__(self, workflow_id: str, step_id: str) -> None:
        super().__init__(workflow_id, step_id)
        self.workflow_id = workflow_id
        self.step_id = step_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} has not recorded a step {self.step_id!r}"


class WorkflowEnded(StateError):
    """A workflow has ended, and so needs no message, no answer and no sign of life any more."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} has ended, and receives no messages"


class MessageTimeout(StateError, TimeoutError):
    """None of the messages that a `receive` waited for came in time; `names` are their names.

    This is recorded: each later run of the handler gets the same error at the same place.
    """

    def __init__(self, workflow_id: str, step_id: str, names: tuple[str, ...]) -> None:
        super().__init__(workflow_id, step_id, names)
        self.args = (workflow_id, step_id, names)  # OSError keeps only two of three
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.names = names

    def __str__(self) -> str:
        names = " or ".join(map(repr, self.names))
        return f"workflow {self.workflow_id!r}: {self.step_id!r} received no {names} in time"


class CallbackTimeout(MessageTimeout):
    """A callback was not answered in time. It is recorded like any `MessageTimeout`."""

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: {self.step_id!r} got no {self._lack} in time"

    @property
    def _lack(self) -> str:
        return f"answer {' or '.join(map(repr, self.names))}"


class CallbackSilent(CallbackTimeout):
    """A callback gave no sign of life for longer than its `heartbeat`. This is recorded, too."""

    @property
    def _lack(self) -> str:
        return f"sign of life for {' or '.join(map(repr, self.names))}"


class CallbackFailed(StateError):
    """A callback was answered with an error; `reason` is its text.

    This is recorded: each later run of the handler gets the same error at the same place.
    """

    def __init__(self, workflow_id: str, step_id: str, reason: str) -> None:
        super().__init__(workflow_id, step_id, reason)
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.reason = reason

    def __str__(self) -> str:
        reason = one_line(self.reason)
        return f"workflow {self.workflow_id!r}: callback {self.step_id!r} failed: {reason}"


class CallbackExpired(StateError):
    """An answer or a sign of life came too late: its callback had timed out."""

    def __init__(self, workflow_id: str, step_id: str) -> None:
        super().__init__(workflow_id, step_id)
        self.workflow_id = workflow_id
        self.step_id = step_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: callback {self.step_id!r} has timed out"


class WaitTimeout(StateError):
    """`wait` gave up before the workflow ended; `status` is the last one seen.

    `timeout` or `retries` is set, as passed to `wait`.
    """

    def __init__(
        self,
        workflow_id: str,
        status: str,
        retries: int | None = None,
        timeout: timedelta | None = None,
    ) -> None:
        super().__init__(workflow_id, status, retries, timeout)
        self.workflow_id = workflow_id
        self.status = status
        self.retries = retries
        self.timeout = timeout

    def __str__(self) -> str:
        spent = []
        if self.timeout is not None:
            spent.append(f"{self.timeout / timedelta(seconds=1):.12g} s")
        if self.retries is not None:
            spent.append(counted(self.retries, "check"))
        limit = " and ".join(spent)
        return f"workflow {self.workflow_id!r} was still '{self.status}' after {limit}"


class WorkflowAborted(StateError):
    """`wait` found the workflow aborted; the attributes hold its last error."""

    def __init__(
        self, workflow_id: str, error_type: str, error_message: str, error_traceback: str
    ) -> None:
        super().__init__(workflow_id, error_type, error_message, error_traceback)
        self.workflow_id = workflow_id
        self.error_type = error_type
        self.error_message = error_message
        self.error_traceback = error_traceback

    def __str__(self) -> str:
        message = f": {self.error_message}" if self.error_message else ""
        return f"workflow {self.workflow_id!r} was aborted: {self.error_type}{message}"


class WorkflowCancelled(StateError):
    """`wait` found the workflow cancelled; `reason` is the one given to `cancel`."""

    def __init__(self, workflow_id: str, reason: str | None) -> None:
        super().__init__(workflow_id, reason)
        self.workflow_id = workflow_id
        self.reason = reason

    def __str__(self) -> str:
        reason = f": {one_line(self.reason)}" if self.reason else ""
        return f"workflow {self.workflow_id!r} was cancelled{reason}"


class WorkflowConflict(StateError):
    """A workflow with this id exists, but its handler, input or parent is another one."""

    def __init__(self, workflow_id: str, differs: str) -> None:
        super().__init__(workflow_id, differs)
        self.workflow_id = workflow_id
        self.differs = differs

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} exists with another {self.differs}"


class DeadlineExceeded(StateError):
    """A workflow was aborted because it had not ended by its handler's `deadline`."""

    def __init__(self, workflow_id: str, deadline_at: datetime) -> None:
        super().__init__(workflow_id, deadline_at)
        self.workflow_id = workflow_id
        self.deadline_at = deadline_at

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} had not ended by its deadline, {self.deadline_at}"


class StepFailed(StateError):
    """A step with a retry policy was given up; the attributes hold its last error.

    This is recorded: each later run of the handler gets the same error at the same step.
    """

    def __init__(  # noqa: PLR0917 - they are the facts, in the order of `args`
        self,
        workflow_id: str,
        step_id: str,
        attempts: int,
        error_type: str,
        error_message: str,
        error_traceback: str,
    ) -> None:
        super().__init__(workflow_id, step_id, attempts, error_type, error_message, error_traceback)
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.attempts = attempts
        self.error_type = error_type
        self.error_message = error_message
        self.error_traceback = error_traceback

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r}: step {self.step_id!r} failed after "
            f"{counted(self.attempts, 'attempt')}: {self.error_type}: {self.error_message}"
        )


class StepInterrupted(StepFailed):
    """A step that is called at most once had begun, and no run has recorded how it ended.

    Its process died, or its run was cancelled. Its effects may have happened or not.
    """


class PollTimeout(StateError, TimeoutError):
    """A `poll` had no result in time; `attempts` is how often it has checked.

    Each later run of the handler gets the same error at the same place.
    """

    def __init__(self, workflow_id: str, step_id: str, attempts: int) -> None:
        super().__init__(workflow_id, step_id, attempts)
        self.args = (workflow_id, step_id, attempts)  # OSError keeps only two of three
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.attempts = attempts

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r}: poll {self.step_id!r} had no result in time, after "
            f"{counted(self.attempts, 'check')}"
        )


class ChildFailed(StateError):
    """A child did not finish: `status` says whether it was aborted or cancelled.

    The attributes hold the last error of an aborted child, and the `reason` of a cancelled one.
    This is recorded: each later run of the handler gets the same error at the same place.
    """

    def __init__(  # noqa: PLR0917 - they are the facts, in the order of `args`
        self,
        workflow_id: str,
        step_id: str,
        child_id: str,
        status: str,
        error_type: str,
        error_message: str,
        error_traceback: str,
    ) -> None:
        super().__init__(
            workflow_id, step_id, child_id, status, error_type, error_message, error_traceback
        )
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.child_id = child_id
        self.status = status
        self.error_type = error_type
        self.error_message = error_message
        self.error_traceback = error_traceback

    @property
    def reason(self) -> str | None:
        """The reason given for the cancellation of the child, if it was cancelled."""
        return (self.error_message or None) if self.status == "cancelled" else None

    def __str__(self) -> str:
        shown = one_line(self.error_message)
        if self.status != "cancelled":
            shown = f"{self.error_type}: {self.error_message}"
        why = f": {shown}" if shown else ""
        return (
            f"workflow {self.workflow_id!r}: child {self.child_id!r} of {self.step_id!r} "
            f"was {self.status}{why}"
        )


class StepTimeout(StateError, TimeoutError):
    """A step's function took longer than its `timeout`; `seconds` is how long that is."""

    def __init__(self, workflow_id: str, step_id: str, seconds: float) -> None:
        super().__init__(workflow_id, step_id, seconds)
        self.args = (workflow_id, step_id, seconds)  # OSError keeps only two of three
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r}: step {self.step_id!r} took longer than "
            f"{self.seconds} seconds"
        )


class WorkflowCrashed(StateError):
    """A workflow was aborted because its leases expired too often in a row, without progress."""

    def __init__(self, workflow_id: str, crashes: int, max_crashes: int) -> None:
        super().__init__(workflow_id, crashes, max_crashes)
        self.workflow_id = workflow_id
        self.crashes = crashes
        self.max_crashes = max_crashes

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r}: {counted(self.crashes, 'lease')} in a row expired "
            f"without progress, max_crashes is {self.max_crashes}"
        )


class TransitionRefused(StateError):
    """The state machine has no such transition from this status; nothing was changed."""

    def __init__(self, workflow_id: str, status: str, event: str) -> None:
        super().__init__(workflow_id, status, event)
        self.workflow_id = workflow_id
        self.status = status
        self.event = event

    def __str__(self) -> str:
        refused = f"workflow {self.workflow_id!r}: '{self.event}' is refused while '{self.status}'"
        if self.status != "compensated":
            return refused
        return f"{refused}: its steps are undone, so fork it with before=, or start a new workflow"


class ClaimLost(StateError):
    """The claim behind a call is no longer in force; nothing was written."""

    def __init__(self, workflow_id: str, claim_number: int, reason: str) -> None:
        super().__init__(workflow_id, claim_number, reason)
        self.workflow_id = workflow_id
        self.claim_number = claim_number
        self.reason = reason

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: claim {self.claim_number} {self.reason}"

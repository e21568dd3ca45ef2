"""What can go wrong, and whose fault it is.

Every exception that Bluestreak raises on purpose belongs to one of three families:
`UsageError` (the caller's mistake), `StateError` (the world moved on) and `StoreError`
(the store is unwell). The facts behind a message are attributes of the exception. `Abort` is the
one that a handler raises and Bluestreak understands.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from bluestreak_core.plural import counted


class BluestreakError(Exception):
    """The root of the three families. `args` are the facts, so every error can be pickled."""


class UsageError(BluestreakError):
    """The caller's mistake: the same call will fail again until the program is changed."""

    is_final = False
    """Whether it aborts the workflow whose handler lets it pass: another try would only repeat it.

    So it does if a call of the handler's `Context` has raised it, or if `Retry` has.
    """


class FinalMistakes:
    """A block in which each `UsageError` is one of a handler, and final."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and issubclass(type(error), UsageError):
            error.is_final = True  # type: ignore[attr-defined]


class StateError(BluestreakError):
    """The world moved on: the call was sound, but the workflow is not where it needs to be."""


class StoreError(BluestreakError):
    """The store is unwell, or will not serve us."""


class Abort(Exception):
    """Raise it in a handler or a step: the workflow is aborted at once, and not tried again."""


# The caller's mistake ---------------------------------------------------------------------------


class InvalidArgument(UsageError, ValueError):
    """An argument was refused before anything was written."""

    def __init__(self, name: str, value: object, reason: str) -> None:
        super().__init__(name, value, reason)
        self.name = name
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name} {shown(self.value)}: {self.reason}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {shown(self.value)}, {self.reason!r})"


class InvalidId(InvalidArgument):
    """An id is not a non-empty string of at most 512 characters, without NUL, valid as UTF-8."""


class InvalidDuration(InvalidArgument):
    """A duration is neither a finite, non-negative number of seconds nor a `timedelta`."""


class InvalidHandler(InvalidArgument):
    """A handler is not an async function that takes a context and an input."""


class HandlerAlreadyRegistered(UsageError):
    """A second handler was registered under one id."""

    def __init__(self, handler_id: str) -> None:
        super().__init__(handler_id)
        self.handler_id = handler_id

    def __str__(self) -> str:
        return f"handler {self.handler_id!r} is already registered"


class HandlerNotFound(UsageError):
    """A claimed workflow names a handler that this worker does not have."""

    def __init__(self, handler_id: str, workflow_id: str) -> None:
        super().__init__(handler_id, workflow_id)
        self.handler_id = handler_id
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r} needs handler {self.handler_id!r}, "
            "which is not registered with this worker"
        )


class DuplicateStep(UsageError):
    """A step id was used twice in one run of a handler."""

    kind = "step"

    def __init__(self, workflow_id: str, used_id: str) -> None:
        super().__init__(workflow_id, used_id)
        self.workflow_id = workflow_id
        self.used_id = used_id

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r}: {self.kind} {self.used_id!r} was already used "
            "in this run; in a loop, build the id from the loop's data"
        )


class DuplicateNap(DuplicateStep):
    """A nap id was used twice in one run of a handler."""

    kind = "nap"


class NotAwaited(UsageError):
    """A handler has returned without having awaited what it called.

    `calls` are those calls, such as `"ctx.step('charge', ...)"`.
    """

    def __init__(self, workflow_id: str, calls: tuple[str, ...]) -> None:
        super().__init__(workflow_id, calls)
        self.workflow_id = workflow_id
        self.calls = calls

    def __str__(self) -> str:
        calls = " and ".join(self.calls)
        return f"workflow {self.workflow_id!r}: there is no 'await' before {calls}"


class UsedInTransaction(UsageError):
    """The function of a transaction uses a step or a nap, which could not be taken back with it."""

    def __init__(self, workflow_id: str, used: str, transaction_id: str) -> None:
        super().__init__(workflow_id, used, transaction_id)
        self.workflow_id = workflow_id
        self.used = used
        self.transaction_id = transaction_id

    def __str__(self) -> str:
        within = f"within transaction {self.transaction_id!r}"
        return f"workflow {self.workflow_id!r}: {self.used} cannot be used {within}"


class UnstorableValue(UsageError, TypeError):
    """A value contains something that the store cannot hold.

    `what` names the value (`"output of step 'pay'"`), `path` the place inside it (`"['items'][3]"`,
    empty for the value itself) and `type_name` the type found there.
    """

    def __init__(self, what: str, path: str, type_name: str, reason: str) -> None:
        super().__init__(what, path, type_name, reason)
        self.what = what
        self.path = path
        self.type_name = type_name
        self.reason = reason

    def __str__(self) -> str:
        place = f" at {self.path}" if self.path else ""
        return f"{self.what}{place}: {self.type_name} cannot be stored: {self.reason}"


class InvalidValue(UsageError, ValueError):
    """A value does not fit the annotation of the handler or step that it belongs to.

    `what` names the value (`"input of workflow 'w'"`; of one that is stored, `"stored input of
    workflow 'w'"`) and `path` the place inside it (`"['items'][3]"`, empty for the value itself).
    """

    def __init__(self, what: str, path: str, reason: str) -> None:
        super().__init__(what, path, reason)
        self.what = what
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        place = f" at {self.path}" if self.path else ""
        return f"{self.what}{place}: {self.reason}"


class HandlerNotRegistered(UsageError):
    """A function was given for the id of a handler, and does not stand for exactly one."""

    def __init__(self, function: str, reason: str) -> None:
        super().__init__(function, reason)
        self.function = function
        self.reason = reason

    def __str__(self) -> str:
        return f"function {self.function!r} is {self.reason}"


class ValueTooLarge(UsageError, ValueError):
    """A value is larger than one stored document may be; sizes are bytes as BSON."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(what, size, limit)
        self.what = what
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.what} takes {counted(self.size, 'byte')}, the limit is {self.limit}"


class NotInitialised(UsageError):
    """A call came before `init()` or after `close()`."""

    def __init__(self, call: str) -> None:
        super().__init__(call)
        self.call = call

    def __str__(self) -> str:
        return f"{self.call} needs init() first, or 'async with bluestreak:'"


class WrongEventLoop(UsageError):
    """A call came from another event loop than that in which `init()` was called.

    So it does from another thread that runs it by `asyncio.run`. Nothing was done.
    """

    def __init__(self, call: str) -> None:
        super().__init__(call)
        self.call = call

    def __str__(self) -> str:
        return (
            f"{self.call} was called in another event loop than init(): use one Bluestreak, with a "
            "store of its own, for each event loop, or asyncio.run_coroutine_threadsafe()"
        )


class AlreadyPolling(UsageError):
    """`poll()` was called while an earlier `poll()` of the same object was running."""

    def __str__(self) -> str:
        return "poll() is already running; use a second Bluestreak for a second worker"


class Unsupported(UsageError):
    """A store, or the server behind it, does not have the power that a call needs."""

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(call, reason)
        self.call = call
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.call} is not possible here: {self.reason}"


# The world moved on -----------------------------------------------------------------------------


class WorkflowNotFound(StateError):
    """No workflow has this id."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} does not exist"


class StepNotRecorded(StateError):
    """`fork` was to begin before a step that the workflow has not recorded."""

    def __init__(self, workflow_id: str, step_id: str) -> None:
        super().__init__(workflow_id, step_id)
        self.workflow_id = workflow_id
        self.step_id = step_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} has not recorded a step {self.step_id!r}"


class WaitTimeout(StateError):
    """`wait` gave up before the workflow ended; `status` is the last one seen.

    One of `timeout` and `retries` is set, as `wait` was given one or the other.
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
            spent.append(counted(self.retries, "look"))
        still = f"workflow {self.workflow_id!r} was still '{self.status}'"
        return f"{still} after {' and '.join(spent)}"


class WorkflowAborted(StateError):
    """`wait` met a workflow that has been given up; the last error is in the attributes."""

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
    """`wait` met a workflow that has been cancelled; `reason` is what was said then."""

    def __init__(self, workflow_id: str, reason: str | None) -> None:
        super().__init__(workflow_id, reason)
        self.workflow_id = workflow_id
        self.reason = reason

    def __str__(self) -> str:
        why = f": {one_line(self.reason)}" if self.reason else ""
        return f"workflow {self.workflow_id!r} was cancelled{why}"


class WorkflowConflict(StateError):
    """A workflow of this id exists, with another handler or input than was given."""

    def __init__(self, workflow_id: str, differs: str) -> None:
        super().__init__(workflow_id, differs)
        self.workflow_id = workflow_id
        self.differs = differs

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} exists with another {self.differs}"


class DeadlineExceeded(StateError):
    """A workflow was given up because it had not ended by its handler's `deadline`."""

    def __init__(self, workflow_id: str, deadline_at: datetime) -> None:
        super().__init__(workflow_id, deadline_at)
        self.workflow_id = workflow_id
        self.deadline_at = deadline_at

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} had not ended by its deadline, {self.deadline_at}"


class StepFailed(StateError):
    """A step with a retry policy was given up; the last error is in the attributes.

    That is recorded, so each later run of the handler meets it at the same step.
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
            f"workflow {self.workflow_id!r}: step {self.step_id!r} failed in "
            f"{counted(self.attempts, 'attempt')}: {self.error_type}: {self.error_message}"
        )


class StepTimeout(StateError, TimeoutError):
    """A step's function took longer than its `timeout`; `seconds` is how long that is."""

    def __init__(self, workflow_id: str, step_id: str, seconds: float) -> None:
        super().__init__(workflow_id, step_id, seconds)
        self.args = (workflow_id, step_id, seconds)  # of which an OSError keeps two
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r}: step {self.step_id!r} took longer than "
            f"{self.seconds} seconds"
        )


class WorkflowCrashed(StateError):
    """A workflow was given up because it took down too many workers in a row."""

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
    """The state machine has no such transition; nothing was changed."""

    def __init__(self, workflow_id: str, status: str, event: str) -> None:
        super().__init__(workflow_id, status, event)
        self.workflow_id = workflow_id
        self.status = status
        self.event = event

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: '{self.event}' is refused while '{self.status}'"


class ClaimLost(StateError):
    """The claim that a call was made under is no longer in force; nothing was written."""

    def __init__(self, workflow_id: str, claim_number: int, reason: str) -> None:
        super().__init__(workflow_id, claim_number, reason)
        self.workflow_id = workflow_id
        self.claim_number = claim_number
        self.reason = reason

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: claim {self.claim_number} {self.reason}"


# The store is unwell ----------------------------------------------------------------------------


class StoreUnavailable(StoreError):
    """The store cannot answer now; the call may or may not have been carried out. Try again."""


class StoreRefused(StoreError):
    """The store answered no: credentials, privileges, version, or a command that it cannot run."""


class CorruptDocument(StoreError):
    """A stored document is not what Bluestreak or its JavaScript counterpart writes."""

    def __init__(self, collection: str, document_id: object, field: str, reason: str) -> None:
        super().__init__(collection, document_id, field, reason)
        self.collection = collection
        self.document_id = document_id
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        name = _cut(repr(self.document_id), limit=600)
        reason = one_line(self.reason)
        return f"{one_line(self.collection)} document {name}: {self.field!r} {reason}"


def shown(value: object, limit: int = 80) -> str:
    """A value of anybody's, in one short line of ASCII."""
    try:
        text = ascii(value)
    except Exception:  # noqa: BLE001 - a value's repr may raise anything, as that of a huge int does
        text = f"({type(value).__name__})"
    return _cut(text, limit)


def one_line(text: str) -> str:
    """A text as it is, but for what would begin a line of its own in a log, or steer a terminal."""
    return text if text.isprintable() else repr(text)[1:-1]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"

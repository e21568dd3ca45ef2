"""The caller's mistake: the same call fails again until the program is changed."""

from __future__ import annotations

from bluestreak_core.errors.family import UsageError
from bluestreak_core.errors.text import counted, shown


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
    """A claimed workflow needs a handler that is not registered with this worker."""

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
    """A handler returned without awaiting some of its calls.

    `calls` lists them, such as `"ctx.step('charge', ...)"`.
    """

    def __init__(self, workflow_id: str, calls: tuple[str, ...]) -> None:
        super().__init__(workflow_id, calls)
        self.workflow_id = workflow_id
        self.calls = calls

    def __str__(self) -> str:
        calls = " and ".join(self.calls)
        return f"workflow {self.workflow_id!r}: there is no 'await' before {calls}"


class UsedInTransaction(UsageError):
    """The function of a transaction uses a step or a nap, which a rollback could not undo."""

    def __init__(self, workflow_id: str, used: str, transaction_id: str) -> None:
        super().__init__(workflow_id, used, transaction_id)
        self.workflow_id = workflow_id
        self.used = used
        self.transaction_id = transaction_id

    def __str__(self) -> str:
        within = f"within transaction {self.transaction_id!r}"
        return f"workflow {self.workflow_id!r}: {self.used} cannot be used {within}"


class UsedInStep(UsageError):
    """The function of a step uses a verb of the context, which a replay would not find there."""

    def __init__(self, workflow_id: str, used: str, within: str) -> None:
        super().__init__(workflow_id, used, within)
        self.workflow_id = workflow_id
        self.used = used
        self.within = within

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r}: {self.used} cannot be used within {self.within}"


class AlreadyReceiving(UsageError):
    """Two `receive` wait for messages of one name at once: which one gets the first is chance."""

    def __init__(self, workflow_id: str, step_id: str, name: str) -> None:
        super().__init__(workflow_id, step_id, name)
        self.workflow_id = workflow_id
        self.step_id = step_id
        self.name = name

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r}: {self.step_id!r} would wait for {self.name!r} while "
            "another receive does: await one after the other"
        )


class InvalidToken(UsageError, ValueError):
    """A token belongs to no callback: it is mutilated or invented, or its workflow is deleted."""

    def __init__(self) -> None:
        super().__init__()  # the token is a secret, and no fact for a log

    def __str__(self) -> str:
        return "the token belongs to no callback"


class UnstorableValue(UsageError, TypeError):
    """A value contains something that the store cannot hold.

    - `what`: the value, as in `"output of step 'pay'"`.
    - `path`: the place in it, as in `"['items'][3]"`; empty for the value itself.
    - `type_name`: the type found there.
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
    """A value does not fit the annotation of its handler or step.

    - `what`: the value, as in `"input of workflow 'w'"`, or `"stored input of workflow 'w'"` for
      one that was read.
    - `path`: the place in it, as in `"['items'][3]"`; empty for the value itself.
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
    """A function in place of a handler id is registered under no id, or under several."""

    def __init__(self, function: str, reason: str) -> None:
        super().__init__(function, reason)
        self.function = function
        self.reason = reason

    def __str__(self) -> str:
        return f"function {self.function!r} is {self.reason}"


class ValueTooLarge(UsageError, ValueError):
    """A value is too large for one stored document. `size` and `limit` are bytes of BSON."""

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
    """A call came from another event loop than `init()`, as from another thread. It did nothing."""

    def __init__(self, call: str) -> None:
        super().__init__(call)
        self.call = call

    def __str__(self) -> str:
        return (
            f"{self.call} was called in another event loop than init(): use one Bluestreak with "
            "its own store for each event loop, or asyncio.run_coroutine_threadsafe()"
        )


class WouldBlock(UsageError):
    """A `BlockingClient` was called where an event loop runs, which would stand still meanwhile."""

    def __init__(self, call: str) -> None:
        super().__init__(call)
        self.call = call

    def __str__(self) -> str:
        return f"{self.call} would block the event loop that runs here: await a Client instead"


class ClientClosed(UsageError):
    """A `BlockingClient` was closed before a call, or during it; then it may have happened."""

    def __init__(self, call: str) -> None:
        super().__init__(call)
        self.call = call

    def __str__(self) -> str:
        return f"{self.call}: the BlockingClient is closed; make another one"


class AlreadyPolling(UsageError):
    """`poll()` was called while an earlier `poll()` of the same object was running."""

    def __str__(self) -> str:
        return "poll() is already running; use a second Bluestreak for a second worker"


class Unsupported(UsageError):
    """The store, or the server behind it, lacks a power that the call needs."""

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(call, reason)
        self.call = call
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.call} is not possible here: {self.reason}"

"""The facade of a process that starts workflows and looks at them."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from bluestreak_core.argument import Duration, check_id
from bluestreak_core.client.control import Control
from bluestreak_core.client.control_calls import ControlCalls
from bluestreak_core.client.message_calls import MessageCalls
from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.client.operating import Operating
from bluestreak_core.client.operating_calls import OperatingCalls
from bluestreak_core.client.patience import to_patience
from bluestreak_core.client.search import Search
from bluestreak_core.client.starting import Start, Starting
from bluestreak_core.client.timeline import Timeline
from bluestreak_core.client.waiting import Waiting
from bluestreak_core.client.watch_calls import WatchCalls
from bluestreak_core.client.watching import Watching
from bluestreak_core.codec import PLAIN, Codec, Conversion
from bluestreak_core.message import Message
from bluestreak_core.model import Nap, Step, Workflow
from bluestreak_core.run import Context, Handler
from bluestreak_core.run.known_handlers import KnownHandlers
from bluestreak_core.store import ENDED, Pruned, Store, WorkflowSummary

Input = TypeVar("Input")
Result = TypeVar("Result")

_NONE: Mapping[str, Handler] = MappingProxyType({})


class Client(ControlCalls, MessageCalls, WatchCalls, OperatingCalls):
    """Starts workflows, waits for them, finds and controls them, and runs none.

    For a process without a worker, such as a web server. Use it as
    `async with Client(store) as client:`, which calls `init` and `close`, within one event loop.

    - `handlers`: functions by handler id, for `start` and `wait` by function. Their annotations
      convert inputs and results. Without them, name handlers by id, and pass plain values.
    - `codec`: converts by those annotations, as `PydanticCodec` does; by default, values are plain
      and stay as they are. Take the codec of your workers.

    Durations are seconds or `timedelta`.

    Raises `InvalidArgument`, and for the handlers `InvalidId` and `InvalidHandler`.

    This class is a facade: the other modules of `bluestreak_core.client` do the work. More calls
    are in `ControlCalls`, `MessageCalls`, `WatchCalls` and `OperatingCalls`.
    """

    def __init__(
        self, store: Store, *, codec: Codec = PLAIN, handlers: Mapping[str, Handler] = _NONE
    ) -> None:
        self._store = OpenStore(store)
        self._known = KnownHandlers(handlers, Conversion(codec))
        self._starting = Starting(self._store, self._known)
        self._waiting = Waiting(self._store, self._known)
        super().__init__(self._store, self._known)
        self._control = Control(self._store)
        self._search = Search(self._store)
        self._watching = Watching(self._store)
        self._operating = Operating(self._store)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self._store!r}>"

    # Opening and closing -----------------------------------------------------------------------

    async def init(self) -> None:
        """Connect the store and create what it needs. Repeated calls change nothing.

        Until `close`, all calls must come from the event loop of this call. A call from another
        one, such as another thread's, raises `WrongEventLoop`.
        """
        await self._store.init()

    async def close(self) -> None:
        """Close the store. Other clients on the same store object find it closed, too."""
        await self._store.close()

    async def __aenter__(self) -> Self:
        await self.init()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def check_open(self, call: str) -> None:
        """Raise `NotInitialised`, or `WrongEventLoop` in another event loop than that of `init`.

        The message names the call. Subclasses guard calls of their own with it.
        """
        self._store.check(call)

    def wrap_store(self, wrap: Callable[[Store], Store]) -> None:
        """Pass all calls of the store through another one, such as a `StoreWrapper`.

        `wrap` gets the store, and returns the one to use instead. Call this before `init`: a worker
        that polls already keeps its store. Raises `InvalidArgument` if that is no store.
        """
        self._store.wrap(wrap)

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The handlers that this object knows, by id, read-only."""
        return self._known.by_id

    # Starting and waiting ----------------------------------------------------------------------

    @overload
    async def start(
        self,
        workflow_id: str,
        handler: str,
        input: Any = None,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        strict: bool = False,
        session: Any = None,
    ) -> bool: ...

    @overload
    async def start(
        self,
        workflow_id: str,
        handler: Callable[[Context, None], Awaitable[Any]],
        input: None = None,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        strict: bool = False,
        session: Any = None,
    ) -> bool: ...

    @overload
    async def start(
        self,
        workflow_id: str,
        handler: Callable[[Context, Input], Awaitable[Any]],
        input: Input,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        strict: bool = False,
        session: Any = None,
    ) -> bool: ...

    async def start(
        self,
        workflow_id: str,
        handler: str | Handler,
        input: Any = None,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        strict: bool = False,
        session: Any = None,
    ) -> bool:
        """Create a workflow; any worker with the handler runs it.

        `handler` is an id, or a function that this object knows. If this object knows the handler,
        the handler's annotation converts the input; otherwise the input stays as it is.

        Returns True; False, and changes nothing, if the id exists. Once this has returned True, the
        workflow survives any crash. After a `StoreUnavailable` it may exist or not: call again.

        - `delay`, seconds or a `timedelta`, or `at`, an aware datetime: no worker claims the
          workflow before. An instant in the past is no delay.
        - `strict`: raise `WorkflowConflict` if the id exists with another handler or another input.
          Inputs that are stored alike, such as a tuple and a list, are the same.
        - `session`: start as a part of the transaction that is in progress in this session of the
          store's client. The workflow exists once the transaction is committed. The driver's errors
          are raised unchanged, so that its own retries work.

        Raises `InvalidId`, `InvalidArgument`, `InvalidDuration`, `HandlerNotRegistered`,
        `InvalidValue`, `UnstorableValue`, `ValueTooLarge` and `Unsupported` before anything is
        written.
        """
        start = Start(workflow_id, handler, input, delay=delay, at=at)
        return await self._starting.start(start, strict=strict, session=session)

    async def start_many(self, starts: Iterable[Start]) -> builtins.list[bool]:
        """`start` many workflows, a thousand in a round trip. Returns which were new, in order.

        If two have the same id, the first one counts. The call as a whole is not atomic: after an
        error, some workflows may exist; the same call creates the rest.

        Raises like `start`, before anything is written; the message names the place, as in
        `starts[3]`, or the workflow that a value belongs to.
        """
        return await self._starting.start_many(starts)

    @overload
    async def wait(
        self,
        workflow_id: str,
        retries: int | None = None,
        pause_interval: Duration | None = None,
        *,
        timeout: Duration | None = None,
    ) -> Any: ...

    @overload
    async def wait(
        self,
        workflow_id: str,
        retries: int | None = None,
        pause_interval: Duration | None = None,
        *,
        timeout: Duration | None = None,
        handler: Callable[[Context, Any], Awaitable[Result]],
    ) -> Result: ...

    async def wait(
        self,
        workflow_id: str,
        retries: int | None = None,
        pause_interval: Duration | None = None,
        *,
        timeout: Duration | None = None,
        handler: Handler | None = None,
    ) -> Any:
        """The result of a workflow, once it has finished.

        With `handler`, a function that this object knows, the result has the type that the function
        is annotated to return; without, it is as stored.

        - `timeout`, seconds or a `timedelta`: how long to wait; 100 s by default.
        - `retries` and `pause_interval`, as in the JavaScript library, instead of `timeout`: look
          up to `retries` times (100), `pause_interval` apart (1 s), or sooner if the store gives
          notice.

        Raises `WorkflowNotFound`; as soon as no result can come any more, `WorkflowAborted` with
        the last error or `WorkflowCancelled` with the reason; `WaitTimeout`; and `InvalidArgument`
        for a `timeout` beside `retries` or `pause_interval`. With `handler` also
        `HandlerNotRegistered`, `WorkflowConflict` if the workflow has another handler, and
        `InvalidValue` if the result does not fit the annotation.
        """
        self.check_open("wait()")
        patience = to_patience(timeout, retries, pause_interval)
        return await self._waiting.wait(workflow_id, patience, handler)

    # Finding -----------------------------------------------------------------------------------

    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        """The workflow as it is stored, or None."""
        store = self._store.get("find_workflow()")
        return await store.find_workflow(check_id("workflow id", workflow_id))

    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        """The recorded step, or None."""
        store = self._store.get("find_step()")
        workflow_id = check_id("workflow id", workflow_id)
        return await store.find_step(workflow_id, check_id("step id", step_id))

    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        """The recorded nap, or None."""
        store = self._store.get("find_nap()")
        workflow_id = check_id("workflow id", workflow_id)
        return await store.find_nap(workflow_id, check_id("nap id", nap_id))

    def list(
        self,
        *,
        status: str | Collection[str] | None = None,
        handler_id: str | None = None,
        id_prefix: str | None = None,
        waiting_for: Message[Any] | str | None = None,
        parent: str | None = None,
        created: tuple[datetime | None, datetime | None] | None = None,
        order: Literal["newest", "oldest", "id"] | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> AsyncIterator[WorkflowSummary]:
        """The workflows that match everything given, one by one, without inputs and results.

        - `status`: one `Status` or several.
        - `waiting_for`: the message that a workflow waits for, while it is parked.
        - `parent`: the id of the workflow that has started it as a child.
        - `created`: the first instant, and the first one behind the range; either may be None. What
          the JavaScript library created counts as the oldest, and is in no range.
        - `order`: `"newest"` first, `"oldest"` first, or by `"id"`. The default is the newest
          first, and `"id"` with an `id_prefix`.
        - `after`: the `cursor` of a summary from a list of the same order; this list continues
          behind it.

        Whatever changes meanwhile, no workflow is listed twice, and none is left out that exists
        and matches all the time. Only `MongoStore` on a standalone server, asked for several
        statuses, may leave out a workflow whose status changes at that moment.

        Raises `InvalidArgument`, `InvalidId`, `NotInitialised` and `Unsupported` at once;
        `WrongEventLoop` and the store's errors during iteration. Unreadable documents are skipped,
        and logged.
        """
        return self._search.list(
            status=status,
            handler_id=handler_id,
            id_prefix=id_prefix,
            waiting_for=waiting_for,
            parent=parent,
            created=created,
            order=order,
            limit=limit,
            after=after,
        )

    async def count(self, by: Literal["status", "handler_id"] = "status") -> dict[str, int]:
        """The number of workflows by status, with a key for each status, or by handler id.

        It scans an index, but reads no workflow: a second or two for a million. Workflows that are
        being deleted count until they are gone. Raises `InvalidArgument` and `Unsupported`.
        """
        return await self._search.count(by)

    async def describe(self, workflow_id: str) -> Timeline:
        """A workflow with its steps, naps and failures, and all that happened to it in order.

        Print it. The object has everything in full, and loads all of it. Raises `InvalidId`,
        `Unsupported` and `WorkflowNotFound`.
        """
        return await self._search.describe(workflow_id)

    async def prune(
        self,
        *,
        ended_before: datetime,
        statuses: Collection[str] = ENDED,
        limit: int | None = None,
    ) -> Pruned:
        """Delete workflows that ended before an instant, in one of these statuses.

        Their steps, naps and messages go with them, and their ids are free again. Keep ended
        workflows for a lease at least: meanwhile a worker that has lost its claim may still record
        its last step. A workflow that the JavaScript library ended counts as ended when its last
        lease ran out.

        It deletes in batches, which block nobody, and stops at `limit` workflows. A workflow that
        is about to be deleted cannot be retried any more. If the call is interrupted, the next
        `prune` completes it, whatever its arguments. Any process may prune, several at once, too.
        Returns how much was deleted.

        Raises `InvalidArgument`, before anything is deleted, and `Unsupported`.
        """
        return await self._search.prune(ended_before=ended_before, statuses=statuses, limit=limit)

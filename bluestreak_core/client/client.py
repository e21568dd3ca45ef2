"""What any process can do with workflows, whether it runs some or not: start them, and look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MethodType
from typing import Any, TypeVar, assert_never, overload

from bluestreak_core.argument import (
    Duration,
    check_callable,
    check_id,
    check_implements,
    check_reason,
    has_real_type,
    is_async,
    to_instant,
    to_timedelta,
)
from bluestreak_core.client.patience import to_patience
from bluestreak_core.client.search import Search
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.codec import PLAIN, Codec, Conversion
from bluestreak_core.concurrency import HomeLoop
from bluestreak_core.errors import (
    HandlerNotRegistered,
    InvalidArgument,
    TransitionRefused,
    WaitTimeout,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowConflict,
    WorkflowNotFound,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ErrorRecord, Nap, NewWorkflow, Standing, Status, Step, Workflow
from bluestreak_core.run import Context, Handler
from bluestreak_core.store import Store, SupportsForks, SupportsTransactions, require
from bluestreak_core.store.values import same_value

Input = TypeVar("Input")
Result = TypeVar("Result")

_LATER = timedelta(milliseconds=1)

_NO_ERROR = ErrorRecord(type="unknown error", message="none was recorded", traceback="")


@dataclass(frozen=True, slots=True)
class Start:
    """What `start_many` is told of one workflow; see `start`."""

    workflow_id: str
    handler: str | Handler
    input: Any = None
    delay: Duration | None = field(default=None, kw_only=True)
    at: datetime | None = field(default=None, kw_only=True)


class Client(Search):
    """The part of `Bluestreak` that needs no handler."""

    def __init__(self, store: Store, codec: Codec = PLAIN) -> None:
        check_implements("store", store, Store)
        check_implements("codec", codec, Codec)
        self._store = store
        self._conversion = Conversion(codec)
        self._handlers: dict[str, Handler] = {}
        self._home = HomeLoop()

    async def init(self) -> None:
        """Connect the store and create what it needs. Repeated calls change nothing.

        From now on, all calls come from the event loop of this one. Every other one, as of another
        thread, gets `WrongEventLoop`, until `close`.
        """
        self._home.check_unless_closed("init()")
        await self._store.init()
        self._home.enter("init()")

    # Starting and looking ----------------------------------------------------------------------

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
        """Create a workflow, to be run by any worker that has the handler.

        `handler` is an id, or a function that is registered with this object. Where this object has
        the handler, the input is converted by its annotation; else it goes as it is.

        True; False, and nothing is changed, when the id exists. Once this has returned True, the
        workflow outlives any crash. After a `StoreUnavailable` it may exist or not: ask again.

        - `delay`, seconds or a `timedelta`, or `at`, an aware datetime: it is not claimed before.
          An instant that has passed is no delay.
        - `strict`: an id that exists with another handler, or with another input as far as the
          store tells them apart, is a `WorkflowConflict`.
        - `session`: do it as a part of the transaction that is under way in this session of the
          store's client. The workflow is there when that is committed. The driver's errors are
          raised as they are, so that its own retries work.

        Raises `InvalidId`, `InvalidArgument`, `InvalidDuration`, `HandlerNotRegistered`,
        `InvalidValue`, `UnstorableValue`, `ValueTooLarge` and `Unsupported` before anything is
        written.
        """
        self._check_open("start()")
        new = self._new(Start(workflow_id, handler, input, delay=delay, at=at))
        if session is None:
            created = await self._store.create(new)
        else:
            store = require(self._store, SupportsTransactions, "start(session=)")
            await store.check_transactions("start(session=)")
            created = await store.create_in(session, new)
        if not created and strict:
            await self._check_same(new, session)
        return created

    async def start_many(self, starts: Iterable[Start]) -> list[bool]:
        """`start` each of many, a thousand in a round trip; which of them were new, in their order.

        Where two have one id, the first of them counts. Not atomic as a whole: after an error, some
        may have been created; the same call creates the rest.

        Raises like `start`, before anything is written; the message names the place, as in
        `starts[3]`, or the workflow that a value belongs to.
        """
        self._check_open("start_many()")
        if has_real_type(starts, str) or not isinstance(starts, Iterable):
            raise InvalidArgument("starts", starts, "expected several Start")
        return await self._store.create_many(
            [self._new(start, f"starts[{place}]: ") for place, start in enumerate(starts)]
        )

    def _new(self, start: Start, where: str = "") -> NewWorkflow:
        if not has_real_type(start, Start):
            raise InvalidArgument(where.removesuffix(": "), start, "expected a Start")
        now = self._store.clock.now()
        start_at = _start_at(start, now, where)
        workflow_id = check_id(f"{where}workflow id", start.workflow_id)
        handler_id, stored_input = self._to_store(workflow_id, start.handler, start.input, where)
        return NewWorkflow(
            workflow_id=workflow_id,
            handler_id=handler_id,
            input=stored_input,
            created_at=now,
            start_at=start_at if start_at is not None and start_at > now else None,
        )

    async def _check_same(self, new: NewWorkflow, session: Any) -> None:
        """Refuse a workflow whose id is taken by another one."""
        if session is None:
            found = await self._store.find_workflow(new.workflow_id)
        else:
            found = await require(self._store, SupportsTransactions, "start(session=)").find_in(
                session, new.workflow_id
            )
        if found is None:
            return
        if found.handler_id != new.handler_id:
            raise WorkflowConflict(new.workflow_id, "handler")
        if not same_value(found.input, new.input):
            raise WorkflowConflict(new.workflow_id, "input")

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

        With `handler`, a registered function, it is of the type that the function is annotated to
        return; without, it is as it is stored.

        - `timeout`, seconds or a `timedelta`: how long to wait; 100 s where nothing is said.
        - `retries` and `pause_interval`, as in the JavaScript library, instead of `timeout`: look
          up to `retries` times (100), `pause_interval` apart (1 s), or sooner where the store gives
          notice.

        Raises `WorkflowNotFound`; as soon as there is nothing more to wait for, `WorkflowAborted`
        with the last error or `WorkflowCancelled` with its reason; `WaitTimeout`; and
        `InvalidArgument` for a `timeout` beside `retries` or `pause_interval`. With `handler` also
        `HandlerNotRegistered`, `WorkflowConflict` if the workflow has another one, and
        `InvalidValue` if its result does not fit the annotation.
        """
        self._check_open("wait()")
        workflow_id = check_id("workflow id", workflow_id)
        patience = to_patience(timeout, retries, pause_interval)
        handler_id = None if handler is None else self._id_of(handler)
        for pause in patience.pauses():
            workflow = await self._look(workflow_id, pause, handler_id)
            if workflow.status.ended:
                break
        match workflow.status:
            case Status.FINISHED:
                if handler is None:
                    return workflow.result
                return self._conversion.result(workflow_id, handler, workflow.result)
            case Status.ABORTED:
                error = workflow.error or _NO_ERROR
                raise WorkflowAborted(workflow_id, error.type, error.message, error.traceback)
            case Status.CANCELLED:
                raise WorkflowCancelled(workflow_id, workflow.reason)
            case Status.IDLE | Status.RUNNING | Status.FAILED | Status.PAUSED:
                raise WaitTimeout(workflow_id, workflow.status, patience.retries, patience.timeout)
            case _:
                assert_never(workflow.status)

    # From outside ------------------------------------------------------------------------------

    async def cancel(
        self, workflow_id: str, reason: str | None = None, *, session: Any = None
    ) -> bool:
        """End a workflow at once, whatever state it is in. True; False if it had ended before.

        Where it runs, its worker is told: its handler is cancelled, and what it asked for by
        `ctx.on_cancel` is done. `wait` raises `WorkflowCancelled` from now on. With `session`, as a
        part of the transaction that is under way in it, see `start`.

        Raises `InvalidId`, `WorkflowNotFound`, `InvalidArgument` for a reason that is no str or too
        long or for what is no session, and `Unsupported` where there are no transactions.
        """
        reason = check_reason(reason)
        try:
            await self._control("cancel()", workflow_id, Transition.CANCEL, reason, session)
        except TransitionRefused:
            return False
        return True

    async def pause(self, workflow_id: str) -> None:
        """Leave a workflow alone until it is resumed. Where it runs, its handler is cancelled.

        Raises `InvalidId`, `WorkflowNotFound`, and `TransitionRefused` if it is paused or has
        ended.
        """
        await self._control("pause()", workflow_id, Transition.PAUSE)

    async def resume(self, workflow_id: str) -> None:
        """Let a paused workflow go on: at once, or when the nap or the pause ends that it was in.

        Raises `InvalidId`, `WorkflowNotFound`, and `TransitionRefused` if it is not paused.
        """
        await self._control("resume()", workflow_id, Transition.RESUME)

    async def retry(self, workflow_id: str) -> None:
        """Let an aborted or cancelled workflow run again, over what it has recorded.

        Its failures are forgotten, and so is which steps were given up; its `deadline` begins anew.

        Raises `InvalidId`, `WorkflowNotFound`, and `TransitionRefused` if it is in another state.
        """
        await self._control("retry()", workflow_id, Transition.RETRY)

    async def fork(self, workflow_id: str, new_id: str, before: str | None = None) -> bool:
        """Start a workflow with the handler and the input of another one, and with what that had
        recorded before the step `before`: it goes on from there. Without `before`, with all of it.

        Steps, naps, and which steps were given up. The other one may be in any state, and stays in
        it. True; False, and nothing is changed, when the new id exists. On a store that has to do
        it in several writes, a fork that is broken off is left `paused`; the same call completes
        it.

        Raises `InvalidId`, `WorkflowNotFound`, `StepNotRecorded`, and `Unsupported` on a store that
        cannot do it.
        """
        self._check_open("fork()")
        workflow_id = check_id("workflow id", workflow_id)
        new_id = check_id("new id", new_id)
        before = None if before is None else check_id("before", before)
        store = require(self._store, SupportsForks, "fork()")
        return await store.fork(workflow_id, new_id, before, self._store.clock.now())

    async def _control(
        self,
        call: str,
        workflow_id: str,
        event: Transition,
        reason: str | None = None,
        session: Any = None,
    ) -> None:
        self._check_open(call)
        workflow_id = check_id("workflow id", workflow_id)
        now = self._store.clock.now()
        if session is None:
            await self._store.control(workflow_id, event, now, reason)
        else:
            with_session = call.replace("()", "(session=)")
            store = require(self._store, SupportsTransactions, with_session)
            await store.check_transactions(with_session)
            await store.control_in(session, workflow_id, event, now, reason)

    # Looking -----------------------------------------------------------------------------------

    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        """The workflow as it is stored, or None."""
        self._check_open("find_workflow()")
        return await self._store.find_workflow(check_id("workflow id", workflow_id))

    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        """The recorded step, or None."""
        self._check_open("find_step()")
        return await self._store.find_step(
            check_id("workflow id", workflow_id), check_id("step id", step_id)
        )

    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        """The recorded nap, or None."""
        self._check_open("find_nap()")
        return await self._store.find_nap(
            check_id("workflow id", workflow_id), check_id("nap id", nap_id)
        )

    def _to_store(
        self, workflow_id: str, handler: object, input: Any, where: str
    ) -> tuple[str, Any]:
        """A handler's id, and its input as it is stored."""
        is_function = callable(handler) and is_async(handler)
        name = f"{where}handler id"
        handler_id = self._id_of(handler) if is_function else check_id(name, handler)
        known = self._handlers.get(handler_id)
        if known is None:
            return handler_id, input
        return handler_id, self._conversion.stored_input(workflow_id, known, input)

    def _id_of(self, handler: object) -> str:
        check_callable("handler", handler)
        found = [name for name, known in self._handlers.items() if _is_same(known, handler)]
        if len(found) != 1:
            name = getattr(handler, "__qualname__", type(handler).__qualname__)
            ids = " and ".join(map(repr, found))
            reason = (
                f"the handler of {ids}: give the id" if found else "no handler that is registered"
            )
            raise HandlerNotRegistered(name, reason)
        return found[0]

    async def _look(self, workflow_id: str, pause: timedelta, handler_id: str | None) -> Standing:
        """How far the workflow is; unless it has ended, after a pause, which hints cut short."""
        clock = self._store.clock
        since = clock.now()
        until = since + pause
        while True:
            workflow = await self._store.find_standing(workflow_id)
            if workflow is None:
                raise WorkflowNotFound(workflow_id)
            if handler_id not in (None, workflow.handler_id):
                raise WorkflowConflict(workflow_id, "handler")
            if not workflow.status.ended and (left := until - clock.now()) > timedelta(0):
                await self._store.wait_for_end(workflow_id, since, left)
            if workflow.status.ended or clock.now() >= until:
                return workflow
            since = max(clock.now(), since + _LATER)

    def _check_open(self, call: str) -> None:
        self._home.check(call)


def _start_at(start: Start, now: datetime, where: str) -> datetime | None:
    """When a workflow is to start, if anything is said of it."""
    if start.delay is not None and start.at is not None:
        raise InvalidArgument(f"{where}at", start.at, "expected a delay or an instant, not both")
    if start.delay is not None:
        return in_milliseconds(now + to_timedelta(f"{where}delay", start.delay))
    if start.at is None:
        return None
    return to_instant(f"{where}at", start.at)


def _is_same(known: Handler, handler: object) -> bool:
    if isinstance(known, MethodType):  # which is another object at each access
        return isinstance(handler, MethodType) and known == handler
    return known is handler

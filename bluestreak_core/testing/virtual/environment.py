"""Workflows in virtual time, for tests that need neither a server nor asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar, overload

from typing_extensions import Unpack

from bluestreak_core.argument import Duration, check_count, to_instant, to_timedelta
from bluestreak_core.bluestreak import Bluestreak
from bluestreak_core.client import Client
from bluestreak_core.clock import Clock
from bluestreak_core.codec import PLAIN, Conversion
from bluestreak_core.concurrency import WakeUp
from bluestreak_core.errors import (
    InvalidArgument,
    UsageError,
    WaitTimeout,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowNotFound,
)
from bluestreak_core.model import Claim, History, Status, Workflow
from bluestreak_core.run import Handler, HandlerPolicy
from bluestreak_core.store import Store
from bluestreak_core.testing.clock import START
from bluestreak_core.testing.virtual.process import Process
from bluestreak_core.testing.virtual.stuck import Stuck
from bluestreak_core.testing.virtual.time import (
    NothingLeftToHappen,
    TooManyTurns,
    VirtualClock,
    VirtualLoop,
)
from bluestreak_core.testing.virtual.watch import StepCall, StepWatch
from bluestreak_memory import MemoryStore

T = TypeVar("T")
H = TypeVar("H", bound=Handler)

MAX_FAILURES = 10
"""Retries of a workflow in an environment that does not say: a bug in a handler ends the test."""

TURNS = 300_000
"""How often the event loop may turn in one call of an environment. That is some seconds of work,
and enough for a step that takes most of a day, whose lease is renewed every few seconds."""

_FOR_EVER = timedelta(days=365)
_LATER = timedelta(milliseconds=1)


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What has become of a workflow.

    `workflow` is its record, `steps` are its recorded outputs by step id, `naps` the instants at
    which its naps end by nap id, all of them as they are stored. `calls` are the ids of its steps
    in the order in which they were called, once for each call, and `errors` the exceptions that
    failed it.
    """

    workflow: Workflow
    steps: dict[str, Any]
    naps: dict[str, datetime]
    calls: list[str]
    errors: list[BaseException]
    converted: Callable[[Any], Any] = field(default=_as_it_is, repr=False, compare=False)
    """Makes of a stored result what the handler returned."""

    @property
    def status(self) -> Status:
        """Where the workflow stands."""
        return self.workflow.status

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


class Environment:
    """A store, a worker and a client on an event loop of their own, in virtual time.

    Its calls are plain functions, for tests that are not async; in async code each raises
    `UsageError`. Time stands still between them, and
    within them it jumps: a nap of a month takes no time. What is due earlier happens earlier, and
    the same things happen each time. Use it as `with Environment() as env:`.

    `settings` are those of `Bluestreak`; `max_failures` is 10 unless they say otherwise. `store`
    makes the store from the environment's clock; it must keep all in memory, and is a `MemoryStore`
    by default. `worker_store` makes what the workers see of it, for example a `FaultyStore`.
    A call raises `Stuck` when the event loop has turned `turns` times in it.

    What a handler does by `time` or `datetime.now()` is not in virtual time; `env.now` is.
    """

    def __init__(
        self,
        *,
        start: datetime = START,
        store: Callable[[Clock], Store] | None = None,
        worker_store: Callable[[Store], Store] | None = None,
        turns: int = TURNS,
        **settings: Any,
    ) -> None:
        _check_outside_of_async_code()
        start_at = to_instant("start", start)
        self._turns = check_count("turns", turns, least=1)
        self._loop = VirtualLoop()
        self._clock = VirtualClock(self._loop, start_at)
        self._store = self._observed(
            store(self._clock) if store else MemoryStore(clock=self._clock)
        )
        self._worker_store = worker_store(self._store) if worker_store else self._store
        self._watch = self._new_watch(self._clock)
        # In memory it is known when work will be due, so that polling is needed by nobody.
        defaults: dict[str, Any] = {"max_failures": MAX_FAILURES, "poll_interval": _FOR_EVER}
        hooks = (self._watch, *settings.get("hooks", ()))
        noted = {"error_callback": self._note_error, "hooks": hooks}
        self._settings = defaults | settings | noted
        self._error_callback = settings.get("error_callback")
        self._errors: dict[str, list[BaseException]] = {}
        self._handlers: dict[str, Handler] = {}
        self._policies: dict[str, HandlerPolicy] = {}
        self._client = Process("client", self._loop)
        self._workers: list[Process] = []
        self._process: Process | None = None
        self._worker: Bluestreak | None = None
        self._poll: asyncio.Task[None] | None = None
        self._changed = WakeUp()
        self._conversion = Conversion(settings.get("codec", PLAIN))
        self.bluestreak = Client(
            self._store, codec=settings.get("codec", PLAIN), handlers=self._handlers
        )
        """A client, for `env.call(env.bluestreak...)`. It knows the handlers."""
        self.call(self.bluestreak.init())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers as they are, and close the event loop. A repeat does nothing."""
        if self._loop.is_closed():
            return
        _check_outside_of_async_code()
        self._loop.allow(None)
        self._loop.run_until_complete(self._end())
        self._loop.close()

    @property
    def now(self) -> datetime:
        """The instant that it is."""
        return self._clock.now()

    @property
    def calls(self) -> list[StepCall]:
        """The calls of all steps of all workflows, in their order."""
        return list(self._watch.calls)

    @property
    def turns(self) -> int:
        """How often the event loop has turned, a measure of what has been done."""
        return self._loop.turns

    # Handlers ----------------------------------------------------------------------------------

    def register_handler(
        self, handler_id: str, handler: Handler, **policy: Unpack[HandlerPolicy]
    ) -> None:
        """Like `Bluestreak.register_handler`, for all workers of this environment."""
        # Which refuses what is no handler.
        self._new_worker().register_handler(handler_id, handler, **policy)
        self._handlers[handler_id] = handler
        self._policies[handler_id] = policy
        if self._worker is not None:
            self._worker.register_handler(handler_id, handler, **policy)

    def handler(self, handler_id: str, **policy: Unpack[HandlerPolicy]) -> Callable[[H], H]:
        """`register_handler` as a decorator, which returns the function as it is."""

        def register(function: H) -> H:
            self.register_handler(handler_id, function, **policy)
            return function

        return register

    # Running -----------------------------------------------------------------------------------

    def run(
        self,
        handler: Handler | str,
        input: Any = None,
        *,
        workflow_id: str = "workflow",
        policy: HandlerPolicy | None = None,
    ) -> Outcome:
        """Start a workflow, and let time pass until it has ended.

        `handler` is the id of a registered handler, or a function, which is registered by its name,
        with the rules in `policy`, such as `{"deadline": 60}`.

        Raises `InvalidArgument` if the workflow exists, or the handler is registered with other
        rules, and `Stuck` if it does not end.
        """
        self._check_usable()
        handler = self._registered(handler, policy)
        if not self.start(workflow_id, handler, input):
            raise InvalidArgument("workflow_id", workflow_id, "has been started before")
        return self.wait(workflow_id)

    def start(
        self, workflow_id: str, handler: Handler | str, input: Any = None, **options: Any
    ) -> bool:
        """`Bluestreak.start`. The workflow runs as soon as time passes."""
        return self.call(self.bluestreak.start(workflow_id, handler, input, **options))

    def wait(self, workflow_id: str) -> Outcome:
        """Let time pass until a workflow has ended. Raises `WorkflowNotFound` and `Stuck`."""
        self._check_usable()
        self._ensure_worker()
        self.call(self._until_ended(workflow_id))
        return self.outcome(workflow_id)

    def advance(self, span: Duration) -> None:
        """Let so much time pass, with all that happens in it. Raises `Stuck`."""
        self._check_usable()
        seconds = to_timedelta("span", span).total_seconds()
        self._ensure_worker()
        with self._explaining():
            self._loop.run_until(self._loop.time() + seconds)
        self._raise_what_ended_the_worker()

    @overload
    def call(self, work: Coroutine[Any, Any, T]) -> T: ...

    @overload
    def call(self, work: AsyncIterable[T]) -> list[T]: ...

    def call(self, work: Coroutine[Any, Any, Any] | AsyncIterable[Any]) -> Any:
        """Run a coroutine in this environment, to its end; of an async iterator, such as
        `bluestreak.list()`, all that it yields. Raises what it raises, and `Stuck`.
        """
        try:
            self._check_usable()
        except UsageError:
            if asyncio.iscoroutine(work):
                work.close()  # nobody will await it, which Python would warn of
            raise
        if isinstance(work, AsyncIterable):
            work = _collected(work)
        with self._explaining():
            return self._loop.run_until_complete(self._unless_the_worker_fails(work))

    def crash(self) -> None:
        """Kill the worker here and now; another one takes over when the leases have run out.

        No line of it is run any more. A step may call this: it ends at its next await then, and if
        it is not async its return is lost.
        """
        if not self._loop.is_running():
            self._check_usable()
        if self._process is not None:
            self._process.kill()
        self._worker = self._process = None
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._ensure_worker, context=Context())

    def restart(self) -> None:
        """Stop the worker, as a deployment does, and let another one go on."""
        self._check_usable()
        worker, self._worker = self._worker, None
        if worker is not None and self._poll is not None:
            worker.stop()
            self.call(self._ended(self._poll))
        self._ensure_worker()

    def outcome(self, workflow_id: str) -> Outcome:
        """What has become of a workflow so far. Raises `WorkflowNotFound`."""
        workflow, history = self.call(self._look_up(workflow_id))
        return Outcome(
            workflow=workflow,
            steps=history.steps,
            naps=history.naps,
            calls=[call.step_id for call in self.calls if call.workflow_id == workflow_id],
            errors=list(self._errors.get(workflow_id, ())),
            converted=lambda stored: self._converted(workflow, stored),
        )

    # What the methods above share --------------------------------------------------------------

    def _converted(self, workflow: Workflow, result: Any) -> Any:
        handler = self._handlers.get(workflow.handler_id)
        if handler is None:
            return result
        return self._conversion.result(workflow.workflow_id, handler, result)

    def _registered(self, handler: Handler | str, policy: HandlerPolicy | None) -> str:
        rules = _to_rules(policy)
        handler_id = handler if isinstance(handler, str) else _name_of(handler)
        known = self._handlers.get(handler_id)
        if not isinstance(handler, str) and known is not handler:
            self.register_handler(handler_id, handler, **rules)
        elif policy is not None and rules != self._policies.get(handler_id):
            reason = f"handler {handler_id!r} is not registered with these rules"
            raise InvalidArgument("policy", policy, reason)
        return handler_id

    def _observed(self, store: Store) -> Store:
        """The store that everything is to go through; override this to see it."""
        return store

    def _new_watch(self, clock: Clock) -> StepWatch:
        return StepWatch(clock)

    def _new_worker(self) -> Bluestreak:
        return Bluestreak(self._worker_store, **self._settings)

    def _ensure_worker(self) -> None:
        if self._worker is not None:
            return
        worker = self._new_worker()
        for handler_id, handler in self._handlers.items():
            worker.register_handler(handler_id, handler, **self._policies[handler_id])
        process = Process(f"worker {len(self._workers) + 1}", self._loop)
        self._workers.append(process)
        self._worker, self._process = worker, process
        self._poll = process.spawn(_work(worker))
        self._poll.add_done_callback(lambda _: self._changed.notify())

    async def _unless_the_worker_fails(self, work: Coroutine[Any, Any, T]) -> T:
        task = self._client.spawn(work)
        task.add_done_callback(lambda _: self._changed.notify())
        while not task.done():
            changed = self._changed.wait()
            self._raise_what_ended_the_worker()
            await changed
        return task.result()

    def _raise_what_ended_the_worker(self) -> None:
        poll = self._poll
        if poll is not None and poll.done() and (error := poll.exception()) is not None:
            self._poll = self._worker = None
            raise error

    async def _until_ended(self, workflow_id: str) -> None:
        since = self._clock.now()
        while not (await self._look_up(workflow_id))[0].status.ended:
            await self._store.wait_for_end(workflow_id, since, _FOR_EVER)
            since = max(self._clock.now(), since + _LATER)

    async def _look_up(self, workflow_id: str) -> tuple[Workflow, History]:
        workflow = await self.bluestreak.find_workflow(workflow_id)
        if workflow is None:
            raise WorkflowNotFound(workflow_id)
        # Histories are read by claim, of which only the id of the workflow counts.
        histories = await self._store.history([Claim(token="", workflow=workflow)])
        return workflow, histories[workflow_id]

    @staticmethod
    async def _ended(poll: asyncio.Task[None]) -> None:
        await asyncio.wait({poll})

    async def _end(self) -> None:
        for process in [self._client, *self._workers]:
            await process.bury()
        await self._store.close()

    def _note_error(self, workflow_id: str, error: BaseException) -> object:
        self._errors.setdefault(workflow_id, []).append(error)
        return self._error_callback(workflow_id, error) if self._error_callback else None

    def _check_usable(self) -> None:
        _check_outside_of_async_code()
        if self._loop.is_closed():
            raise UsageError("this Environment is closed")

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Say what everybody waits for, if nothing comes of it."""
        self._loop.allow(self._turns)
        try:
            yield
        except (NothingLeftToHappen, TooManyTurns):
            process = self._process
            raise Stuck(self.now, process.tasks if process else []) from None


def _check_outside_of_async_code() -> None:
    with suppress(RuntimeError):  # there is none, as there should be
        asyncio.get_running_loop()
        raise UsageError(
            "an Environment has an event loop of its own: make the test a plain function"
        )


def _name_of(handler: Handler) -> str:
    name: str = getattr(handler, "__name__", type(handler).__name__)
    return name


def _to_rules(policy: object) -> dict[str, Any]:
    """Rules by their names, which are checked; what they say is when they are registered."""
    rules = {} if policy is None else policy
    known = HandlerPolicy.__annotations__
    if not isinstance(rules, Mapping) or not rules.keys() <= known.keys():
        raise InvalidArgument("policy", policy, f"expected a dict of {', '.join(known)}")
    return dict(rules)


async def _collected(work: AsyncIterable[T]) -> list[T]:
    return [one async for one in work]


async def _work(worker: Bluestreak) -> None:
    await worker.init()
    await worker.poll()

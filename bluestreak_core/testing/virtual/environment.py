"""Workflows in virtual time, for tests that need neither a server nor asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar, overload

from typing_extensions import Unpack

from bluestreak_core.argument import Duration, to_instant, to_timedelta
from bluestreak_core.bluestreak import Bluestreak
from bluestreak_core.client import Client, Resolution
from bluestreak_core.clock import Clock
from bluestreak_core.codec import PLAIN
from bluestreak_core.errors import InvalidArgument, WorkflowNotFound
from bluestreak_core.message import Message
from bluestreak_core.model import Claim, History, NewMessage, Workflow
from bluestreak_core.run import ErrorCallback, Handler, HandlerPolicy
from bluestreak_core.store import Query, Store, SupportsMessages, SupportsSearch, supports
from bluestreak_core.testing.clock import START
from bluestreak_core.testing.virtual.fleet import Fleet
from bluestreak_core.testing.virtual.handlers import DeployedHandlers, id_of, to_policy
from bluestreak_core.testing.virtual.outbox import Outbox
from bluestreak_core.testing.virtual.outcome import Outcome
from bluestreak_core.testing.virtual.stage import Stage, collected
from bluestreak_core.testing.virtual.watch import StepCall, StepWatch
from bluestreak_memory import MemoryStore

T = TypeVar("T")
H = TypeVar("H", bound=Handler)

MAX_FAILURES = 10
"""Retries of a workflow by default: a bug in a handler ends the test."""

TURNS = 300_000
"""How often the event loop may turn in one call of an environment. That is some seconds of work,
and enough for a step that takes most of a day, whose lease is renewed every few seconds."""

_LATER = timedelta(milliseconds=1)
_ALL = 10_000
"""More workflows than wait in a test, and more messages than are unread."""


class Environment:
    """A store, a worker and a client on an event loop of their own, in virtual time.

    Its calls are plain functions, for tests that are not async; in async code each raises
    `UsageError`. Time stands still between the calls, and jumps within them: a nap of a month takes
    no time. What is due earlier happens earlier, and the same things happen each time. Use it as
    `with Environment() as env:`.

    `settings` are those of `Bluestreak`; `max_failures` is 10 by default. `store` makes the store
    from the environment's clock; it must keep everything in memory, and is a `MemoryStore` by
    default. `worker_store` makes the workers' view of it, for example a `FaultyStore`. A call
    raises `Stuck` when the event loop has turned `turns` times in it.

    `time` and `datetime.now()` in a handler are not in virtual time; `env.now` is.

    This class is a facade: each method is a verb of a test, and delegates to the stage, the fleet
    or the handlers.
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
        self._stage = Stage(
            start, turns, suspects=lambda: self._fleet.tasks, parked=self._find_parked
        )
        clock = self._stage.clock
        self._store = store(clock) if store else MemoryStore(clock=clock)
        self._outbox = Outbox(clock)
        self._watch = StepWatch(clock)
        self._errors = _Errors(settings.get("error_callback"))
        # In memory it is known when work will be due, so that polling is not needed.
        defaults: dict[str, Any] = {
            "max_failures": MAX_FAILURES,
            "poll_interval": self._stage.for_ever,
        }
        hooks = (self._watch, *settings.get("hooks", ()))
        worker_settings = defaults | settings
        worker_settings |= {"error_callback": self._errors.note, "hooks": hooks}
        seen_by_workers = worker_store(self._store) if worker_store else self._store

        def new_worker() -> Bluestreak:
            return Bluestreak(seen_by_workers, **worker_settings)

        codec = settings.get("codec", PLAIN)
        self._handlers = DeployedHandlers(new_worker, codec)
        self._fleet = Fleet(self._stage.loop, self._handlers.new_worker)
        self.bluestreak = Client(self._store, codec=codec, handlers=self._handlers.functions)
        """A client, for `env.call(env.bluestreak...)`. It knows the handlers."""
        self.call(self.bluestreak.init())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers as they are, and close the event loop. A repeat does nothing."""
        self._stage.close(self._end)

    @property
    def now(self) -> datetime:
        """The current instant of virtual time."""
        return self._stage.clock.now()

    @property
    def calls(self) -> list[StepCall]:
        """The calls of all steps of all workflows, in their order."""
        return list(self._watch.calls)

    @property
    def runs(self) -> int:
        """How many workflows the worker runs."""
        return self._fleet.runs

    @property
    def turns(self) -> int:
        """How often the event loop has turned, a measure of the work done."""
        return self._stage.loop.turns

    # Handlers ----------------------------------------------------------------------------------

    def register_handler(
        self, handler_id: str, handler: Handler, **policy: Unpack[HandlerPolicy]
    ) -> None:
        """Like `Bluestreak.register_handler`, for all workers of this environment."""
        self._handlers.register(handler_id, handler, **policy)
        self._fleet.register_handler(handler_id, handler, **policy)

    def handler(self, handler_id: str, **policy: Unpack[HandlerPolicy]) -> Callable[[H], H]:
        """`register_handler` as a decorator, which returns the function unchanged."""

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
        rules, and `Stuck` if the workflow does not end.
        """
        self._stage.check_usable()
        rules = to_policy(policy)
        handler_id = handler if isinstance(handler, str) else id_of(handler)
        if not isinstance(handler, str) and not self._handlers.has(handler_id, handler):
            self.register_handler(handler_id, handler, **rules)
        elif policy is not None:
            self._handlers.check_policy(handler_id, rules)
        if not self.start(workflow_id, handler_id, input):
            raise InvalidArgument("workflow_id", workflow_id, "has been started before")
        return self.wait(workflow_id)

    def start(
        self, workflow_id: str, handler: Handler | str, input: Any = None, **options: Any
    ) -> bool:
        """`Client.start`. The workflow runs as soon as time passes."""
        return self.call(self.bluestreak.start(workflow_id, handler, input, **options))

    def send(
        self,
        workflow_id: str,
        message: Message[Any] | str,
        payload: Any = None,
        *,
        message_id: str | None = None,
    ) -> bool:
        """`Client.send`. The workflow receives the message as soon as time passes."""
        sending = self.bluestreak.send(workflow_id, message, payload, message_id=message_id)
        return self.call(sending)

    def send_later(
        self,
        workflow_id: str,
        message: Message[Any] | str,
        payload: Any = None,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        message_id: str | None = None,
    ) -> None:
        """Send a message after a delay from now, or at an instant.

        It is sent by the call in which that time comes, such as `run`, `wait` or `advance`, which
        raises what `Client.send` raises. The workflow need not exist before. Messages of one time
        are sent in the order of these calls.
        """
        self._stage.check_usable()
        if (delay is None) == (at is None):
            raise InvalidArgument("at", at, "expected either a delay or an instant")
        send_at = self.now + to_timedelta("delay", delay) if at is None else to_instant("at", at)

        def send() -> Coroutine[Any, Any, bool]:
            return self.bluestreak.send(workflow_id, message, payload, message_id=message_id)

        self._fleet.run_aside(self._outbox.send_at(send_at, send))

    def resolve(self, token: str, payload: Any = None, *, error: str | None = None) -> Resolution:
        """`Client.resolve`. The workflow gets the answer as soon as time passes."""
        return self.call(self.bluestreak.resolve(token, payload, error=error))

    def beat(self, token: str) -> bool:
        """`Client.beat`."""
        return self.call(self.bluestreak.beat(token))

    def wait(self, workflow_id: str) -> Outcome:
        """Let time pass until a workflow has ended. Raises `WorkflowNotFound` and `Stuck`."""
        self._stage.check_usable()
        self._fleet.ensure_worker()
        self.call(self._until_ended(workflow_id))
        return self.outcome(workflow_id)

    def advance(self, span: Duration) -> None:
        """Let a span of time pass, with all that happens in it. Raises `Stuck`."""
        self._stage.check_usable()
        seconds = to_timedelta("span", span).total_seconds()
        self._fleet.ensure_worker()
        self._stage.advance(seconds)
        self._fleet.check()

    @overload
    def call(self, work: Coroutine[Any, Any, T]) -> T: ...

    @overload
    def call(self, work: AsyncIterable[T]) -> list[T]: ...

    def call(self, work: Coroutine[Any, Any, Any] | AsyncIterable[Any]) -> Any:
        """Run a coroutine in this environment, to its end; of an async iterator, such as
        `bluestreak.list()`, all that it yields. Raises what it raises, and `Stuck`.
        """
        self._stage.check_usable_for(work)
        if isinstance(work, AsyncIterable):
            work = collected(work)
        return self._stage.run(self._fleet.run_as_client(work))

    def crash(self) -> None:
        """Kill the worker here and now; another one takes over when the leases have run out.

        Not a line of it runs any more. A step may call this: then it ends at its next await, and
        the return of a function that is not async is lost.
        """
        if not self._stage.loop.is_running():
            self._stage.check_usable()
        self._fleet.kill()

    def restart(self) -> None:
        """Stop the worker, as a deployment does, and let another one continue."""
        self._stage.check_usable()
        if (stopping := self._fleet.stop()) is not None:
            self.call(_ended(stopping))
        self._fleet.ensure_worker()

    def outcome(self, workflow_id: str) -> Outcome:
        """What has become of a workflow so far. Raises `WorkflowNotFound`."""
        workflow, history, unread = self.call(self._look_up(workflow_id))
        return Outcome(
            workflow=workflow,
            steps=history.steps,
            naps=history.naps,
            receipts=history.receipts,
            unread=unread,
            calls=[call.step_id for call in self.calls if call.workflow_id == workflow_id],
            errors=self._errors.of(workflow_id),
            converted=lambda stored: self._handlers.result(workflow, stored),
        )

    async def _until_ended(self, workflow_id: str) -> None:
        clock = self._stage.clock
        since = clock.now()
        while not (await self._look_up(workflow_id))[0].status.ended:
            await self._store.wait_for_end(workflow_id, since, self._stage.for_ever)
            since = max(clock.now(), since + _LATER)

    async def _look_up(self, workflow_id: str) -> tuple[Workflow, History, list[NewMessage]]:
        workflow = await self.bluestreak.find_workflow(workflow_id)
        if workflow is None:
            raise WorkflowNotFound(workflow_id)
        # Histories are read by claim, but only the id of its workflow matters.
        histories = await self._store.history([Claim(token="", workflow=workflow)])
        return workflow, histories[workflow_id], await self._find_unread(workflow_id)

    async def _find_unread(self, workflow_id: str) -> list[NewMessage]:
        if not supports(store := self._store, SupportsMessages):
            return []
        return list(await store.find_unread(workflow_id, _ALL))

    async def _find_parked(self) -> Mapping[str, tuple[str, ...]]:
        """The workflows that wait for messages, if the store can list them."""
        if not supports(store := self._store, SupportsSearch):
            return {}
        found = await store.find_page(Query(), None, _ALL)
        return {each.workflow_id: each.waiting_for for each in found if each.waiting_for}

    async def _end(self) -> None:
        await self._fleet.bury()
        await self._store.close()


class _Errors:
    """The exceptions that failed workflows, which also go to the test's own error callback."""

    def __init__(self, callback: ErrorCallback | None) -> None:
        self._callback = callback
        self._by_workflow: dict[str, list[BaseException]] = {}

    def note(self, workflow_id: str, error: BaseException) -> object:
        """The error callback of the workers."""
        self._by_workflow.setdefault(workflow_id, []).append(error)
        return self._callback(workflow_id, error) if self._callback else None

    def of(self, workflow_id: str) -> list[BaseException]:
        """Those of one workflow, in order."""
        return list(self._by_workflow.get(workflow_id, ()))


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})

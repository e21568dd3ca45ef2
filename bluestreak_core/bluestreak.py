"""The facade of a process that runs workflows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeVar

from typing_extensions import Unpack, override

from bluestreak_core.argument import (
    Duration,
    check_callable,
    check_count,
    check_id,
    check_implements,
    check_limit,
    check_should_stop,
    has_real_type,
    to_positive_timedelta,
    to_timedelta,
)
from bluestreak_core.client import Client
from bluestreak_core.codec import PLAIN, Codec, Conversion
from bluestreak_core.errors import (
    AlreadyPolling,
    InvalidArgument,
)
from bluestreak_core.model import WorkerState
from bluestreak_core.retry import Backoff
from bluestreak_core.run import ErrorCallback, Handler, HandlerPolicy, Handlers, Policy, RunHook
from bluestreak_core.run.handler import to_backoff, to_time_limit
from bluestreak_core.store import Store
from bluestreak_core.worker import ShouldStop, Worker, WorkerHealth
from bluestreak_core.worker.expiry import to_expiry

H = TypeVar("H", bound=Handler)
logger = logging.getLogger(__name__)


class Bluestreak(Client):
    """A `Client` that also runs workflows: it has handlers, and polls.

    Each process that runs workflows holds one; the processes share only the store. Use it as
    `async with bluestreak:`, which calls `init` and `close`, within one event loop.

    Durations are seconds or `timedelta`.

    - `timeout_interval`: the lease, how long a claim lasts without a renewal. If a worker dies,
      others take its workflows over after this time. It does not limit how long a step may take.
    - `poll_interval`: the longest pause between two looks for work.
    - `wait_retry_interval`: the pause before a failed workflow is tried again, or a `Backoff`.
    - `max_failures`: retries before a workflow is aborted; None is unlimited.
    - `error_callback`: called with the workflow id and the exception each time that a workflow has
      failed, once the failure is recorded; sync or async. If it raises, that is logged and changes
      nothing.
    - `should_stop`: asked several times a second; `poll` drains and returns once it returns True.
    - `max_concurrency`: how many workflows this worker holds at once.
    - `park_after`: a workflow in a nap longer than this leaves memory.
    - `max_crashes`: how many workers in a row a workflow may crash without recording a step or a
      nap, before it is aborted; None is unlimited.
    - `drain_timeout`: how long a stopping worker lets its runs continue before it releases them.
    - `step_timeout`: the `timeout` of each step that has none of its own; None is no limit.
    - `unknown_handler`: with `"raise"`, `poll` raises `HandlerNotFound` when it meets a workflow
      whose handler is not registered; with `"skip"`, it leaves such workflows to other workers.
    - `expire_ended_after`: while it polls, delete workflows that ended so long ago, with steps and
      naps, as `prune` does; None keeps them. Make it longer than anyone waits for a result. A TTL
      index of the database is no substitute: it would delete a workflow without its steps, or the
      steps of a workflow that is being retried.
    - `codec`: converts inputs, outputs and results by the annotations of handlers and steps, as
      `PydanticCodec` does; by default, values are plain and stay as they are.
    - `hooks`: called around each call of a handler, a step's function and the like, see `RunHook`.

    Raises `InvalidArgument` for settings that make no sense, and `Unsupported` for
    `expire_ended_after` on a store that cannot delete.
    """

    def __init__(
        self,
        store: Store,
        *,
        timeout_interval: Duration = 10,
        poll_interval: Duration = 5,
        wait_retry_interval: Duration | Backoff = 1,
        max_failures: int | None = None,
        error_callback: ErrorCallback | None = None,
        should_stop: ShouldStop | None = None,
        max_concurrency: int = 100,
        park_after: Duration = 5,
        max_crashes: int | None = 10,
        drain_timeout: Duration = 10,
        step_timeout: Duration | None = None,
        unknown_handler: Literal["raise", "skip"] = "raise",
        expire_ended_after: Duration | None = None,
        codec: Codec = PLAIN,
        hooks: Sequence[RunHook] = (),
    ) -> None:
        check_implements("store", store, Store)
        if not has_real_type(unknown_handler, str) or unknown_handler not in ("raise", "skip"):
            raise InvalidArgument("unknown_handler", unknown_handler, "expected 'raise' or 'skip'")
        if error_callback is not None:
            check_callable("error_callback", error_callback)
        conversion = Conversion(codec)
        policy = Policy(
            wait_retry_interval=to_backoff("wait_retry_interval", wait_retry_interval),
            max_failures=check_limit("max_failures", max_failures),
            max_crashes=check_limit("max_crashes", max_crashes),
            park_after=to_timedelta("park_after", park_after),
            error_callback=error_callback,
            step_timeout=to_time_limit("step_timeout", step_timeout),
            conversion=conversion.or_none,
            hooks=tuple(hooks),
        )
        lease = to_positive_timedelta("timeout_interval", timeout_interval)
        self._registered = Handlers(policy, lease, conversion)
        super().__init__(store, codec=codec, handlers=self._registered.functions)
        self._max_concurrency = check_count("max_concurrency", max_concurrency, least=1)
        self._new_worker = partial(
            Worker,
            poll_interval=to_positive_timedelta("poll_interval", poll_interval),
            max_concurrency=self._max_concurrency,
            drain_timeout=to_timedelta("drain_timeout", drain_timeout),
            skip_unknown=unknown_handler == "skip",
        )
        self._new_expiry = partial(to_expiry, "expire_ended_after", after=expire_ended_after)
        self._new_expiry(store)  # so that what it refuses is refused here
        self._should_stop = _checked(should_stop)
        self._stop_requested = False
        self._worker: Worker | None = None
        self._poll_has_its_own = False

    @override
    def __repr__(self) -> str:
        return super().__repr__().removesuffix(">") + f", {self.health().state}>"

    @override
    async def close(self) -> None:
        """Stop polling if need be, wait until no run is left, and close the store.

        Other objects on the same store find it closed, too.
        """
        if self._worker is not None:
            self.check_open("close()")
            self._worker.stop.ask()
            await self._worker.ended.wait()
        self._stop_requested = False
        await super().close()

    # Handlers ----------------------------------------------------------------------------------

    def register_handler(
        self, handler_id: str, handler: Handler, **policy: Unpack[HandlerPolicy]
    ) -> None:
        """Let this worker run the workflows of a handler id.

        `policy` overrides the settings of this object for these workflows, see `HandlerPolicy`.

        Raises `InvalidId`, `InvalidHandler` for anything but an async function of a context and an
        input, and for annotations that the codec cannot convert, `InvalidArgument`, and
        `HandlerAlreadyRegistered`.
        """
        self._registered.register(handler_id, handler, **policy)

    def handler(self, handler_id: str, **policy: Unpack[HandlerPolicy]) -> Callable[[H], H]:
        """`register_handler` as a decorator, which returns the function unchanged."""
        check_id("handler id", handler_id)

        def register(function: H) -> H:
            self.register_handler(handler_id, function, **policy)
            return function

        return register

    @property
    def hooks(self) -> Sequence[RunHook]:
        """The hooks, the outermost first."""
        return self._registered.hooks

    def add_hook(self, hook: RunHook) -> None:
        """Put a hook around all others. Runs that have begun are not affected."""
        self._registered.add_hook(hook)

    # Running -----------------------------------------------------------------------------------

    async def poll(self, *, should_stop: ShouldStop | None = None) -> None:
        """Claim and run workflows until `stop()`, or until `should_stop()` returns True.

        Returns once none of its runs is left, see `drain_timeout`. Cancelling it stops it without
        the drain. If the store is unreachable, it tries again with backoff.

        Raises, after draining: `HandlerNotFound` (see `unknown_handler`), `StoreRefused` for wrong
        credentials and the like, and what a programming error raises. `AlreadyPolling` at once.
        """
        self.check_open("poll()")
        if self._worker is not None:
            raise AlreadyPolling
        self._poll_has_its_own = should_stop is not None
        store = self._store.get("poll()")
        self._worker = self._new_worker(
            *(store, self._registered),
            expiry=self._new_expiry(store),
            should_stop=_checked(should_stop) or self._should_stop,
        )
        if self._stop_requested:
            self._worker.stop.ask()
        try:
            await self._worker.work()
        except Exception as error:
            name = self._worker.name
            logger.error(  # noqa: TRY400 - is raised
                "%s: poll ends: %r", name, error, extra={"worker": name}
            )
            raise
        finally:
            self._worker = None
            self._stop_requested = False

    @property
    def should_stop(self) -> ShouldStop | None:
        """Asked several times a second while polling. You may set it any time, from any thread."""
        return self._should_stop

    @should_stop.setter
    def should_stop(self, should_stop: ShouldStop | None) -> None:
        self._should_stop = _checked(should_stop)
        if self._worker is not None and not self._poll_has_its_own:
            self._worker.stop.set_should_stop(should_stop)

    def stop(self) -> None:
        """Stop polling: claim nothing more, drain, release the rest.

        A second call while draining skips the rest of the drain. Without a running `poll`, it stops
        the next one as soon as that begins, unless `close` comes first. Safe to call from a signal
        handler of the event loop, and from any thread.
        """
        if self._worker is None:
            self._stop_requested = True
        else:
            self._worker.stop.ask()

    def health(self) -> WorkerHealth:
        """How this object's worker is doing, without asking the store."""
        if self._worker is not None:
            return self._worker.health
        return WorkerHealth(
            state=WorkerState.STOPPED, worker=None, runs=0, max_concurrency=self._max_concurrency
        )


def _checked(should_stop: ShouldStop | None) -> ShouldStop | None:
    if should_stop is not None:
        check_should_stop(should_stop)
    return should_stop

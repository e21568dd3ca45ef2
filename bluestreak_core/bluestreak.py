"""The facade that an application holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Literal, Self, TypeVar

from typing_extensions import Unpack

from bluestreak_core.argument import (
    Duration,
    check_callable,
    check_count,
    check_id,
    check_limit,
    check_should_stop,
    has_real_type,
    to_positive_timedelta,
    to_timedelta,
)
from bluestreak_core.client.client import Client
from bluestreak_core.codec import PLAIN, Codec
from bluestreak_core.errors import (
    AlreadyPolling,
    InvalidArgument,
)
from bluestreak_core.retry import Backoff
from bluestreak_core.run import ErrorCallback, Handler, HandlerPolicy, Handlers, Policy, RunHook
from bluestreak_core.run.handler import to_backoff
from bluestreak_core.store import Store
from bluestreak_core.worker import ShouldStop, Worker, WorkerHealth, WorkerState
from bluestreak_core.worker.expiry import to_expiry

H = TypeVar("H", bound=Handler)
logger = logging.getLogger(__name__)


class Bluestreak(Client):
    """Starts workflows, runs them, and waits for them, over one store.

    Every process that starts or runs workflows holds one; all that they share is the store. Use it
    as `async with bluestreak:`, which calls `init` and `close`, within one event loop.

    Durations are seconds or `timedelta`.

    - `timeout_interval`: the lease, how long a claim lives without being renewed. A worker that
      dies is replaced after this time. It does not limit how long a step may take.
    - `poll_interval`: the longest pause before looking for work again.
    - `wait_retry_interval`: the pause before a failed workflow is tried again, or a `Backoff`.
    - `max_failures`: retries before a workflow is aborted; None is unlimited.
    - `error_callback`: called with the workflow id and the exception whenever a workflow fails,
      after that is recorded; sync or async. If it raises, that is logged and nothing else.
    - `should_stop`: asked several times a second; `poll` drains and returns once it says True.
    - `max_concurrency`: how many workflows this worker holds at once.
    - `park_after`: a nap longer than this leaves memory.
    - `max_crashes`: how many workers in a row a workflow may take down without recording a step
      or a nap, before it is aborted; None is unlimited.
    - `drain_timeout`: how long a stopping worker lets its runs go on before it hands them back.
    - `unknown_handler`: with `"raise"`, `poll` raises `HandlerNotFound` when it meets a workflow of
      a handler that is not registered; with `"skip"` it leaves those to other workers.
    - `expire_ended_after`: while it polls, delete what ended so long ago, steps and naps included,
      as `prune` does; None keeps it. Longer than anybody waits for a result. A TTL index of the
      database cannot do it: it would take a workflow without its steps, or the steps of one that is
      being retried.
    - `codec`: converts inputs, outputs and results by the annotations of handlers and steps, as
      `PydanticCodec` does; by default they are plain values, which stay as they are.
    - `hooks`: called around each call of a handler, a step's function and the like, see `RunHook`.

    Raises `InvalidArgument` for what cannot be meant, and `Unsupported` for `expire_ended_after` on
    a store that cannot delete.
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
        unknown_handler: Literal["raise", "skip"] = "raise",
        expire_ended_after: Duration | None = None,
        codec: Codec = PLAIN,
        hooks: Sequence[RunHook] = (),
    ) -> None:
        super().__init__(store, codec)
        if not has_real_type(unknown_handler, str) or unknown_handler not in ("raise", "skip"):
            raise InvalidArgument("unknown_handler", unknown_handler, "expected 'raise' or 'skip'")
        if error_callback is not None:
            check_callable("error_callback", error_callback)
        if should_stop is not None:
            check_should_stop(should_stop)
        self._should_stop = should_stop
        self._poll_interval = to_positive_timedelta("poll_interval", poll_interval)
        self._max_concurrency = check_count("max_concurrency", max_concurrency, least=1)
        self._drain_timeout = to_timedelta("drain_timeout", drain_timeout)
        self._skip_unknown = unknown_handler == "skip"
        self._expiry = to_expiry("expire_ended_after", store, expire_ended_after)
        policy = Policy(
            wait_retry_interval=to_backoff("wait_retry_interval", wait_retry_interval),
            max_failures=check_limit("max_failures", max_failures),
            max_crashes=check_limit("max_crashes", max_crashes),
            park_after=to_timedelta("park_after", park_after),
            error_callback=error_callback,
            conversion=self._conversion.or_none,
            hooks=tuple(hooks),
        )
        lease = to_positive_timedelta("timeout_interval", timeout_interval)
        self._registered = Handlers(policy, lease, self._conversion)
        self._stop_requested = False
        self._worker: Worker | None = None
        self._poll_has_its_own = False

    def __repr__(self) -> str:
        return f"<Bluestreak on {self._store!r}, {self.health().state}>"

    # Opening and closing -----------------------------------------------------------------------

    async def close(self) -> None:
        """Stop polling if need be, wait until no run is left, and close the store.

        A second `Bluestreak` on the same store object finds it closed, too.
        """
        self._home.check_unless_closed("close()")
        if self._worker is not None:
            self._worker.stop.ask()
            await self._worker.ended.wait()
        self._home.leave()
        self._stop_requested = False
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

    # Handlers ----------------------------------------------------------------------------------

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The registered handlers by id, read-only."""
        return MappingProxyType(self._handlers)

    def register_handler(
        self, handler_id: str, handler: Handler, **policy: Unpack[HandlerPolicy]
    ) -> None:
        """Let this worker run the workflows of a handler id.

        `policy` holds for its workflows instead of the engine's own settings, see `HandlerPolicy`.

        Raises `InvalidId`, `InvalidHandler` for what is not an async function of a context and an
        input, or is annotated with what the codec cannot convert, `InvalidArgument`, and
        `HandlerAlreadyRegistered`.
        """
        handler_id = self._registered.register(handler_id, handler, **policy)
        self._handlers[handler_id] = handler

    def handler(self, handler_id: str, **policy: Unpack[HandlerPolicy]) -> Callable[[H], H]:
        """`register_handler` as a decorator, which returns the function as it is."""
        check_id("handler id", handler_id)

        def register(function: H) -> H:
            self.register_handler(handler_id, function, **policy)
            return function

        return register

    # Running -----------------------------------------------------------------------------------

    async def poll(self, *, should_stop: ShouldStop | None = None) -> None:
        """Claim and run workflows until `stop()`, or until `should_stop()` says so.

        Returns when no run of its own is left: see `drain_timeout`. Cancelling it is stopping
        without the drain. It outlives an unreachable store, which it tries again with backoff.

        Raises, after draining: `HandlerNotFound` (see `unknown_handler`), `StoreRefused` for wrong
        credentials and the like, and whatever a programming error raises. `AlreadyPolling` at once.
        """
        self._check_open("poll()")
        if self._worker is not None:
            raise AlreadyPolling
        if should_stop is not None:
            check_should_stop(should_stop)
        self._poll_has_its_own = should_stop is not None
        self._worker = self._new_worker(should_stop or self._should_stop)
        if self._stop_requested:
            self._worker.stop.ask()
        try:
            await self._worker.work()
        except Exception as error:
            logger.error("%s: poll ends: %r", self._worker.name, error)  # noqa: TRY400 - is raised
            raise
        finally:
            self._worker = None
            self._stop_requested = False

    @property
    def should_stop(self) -> ShouldStop | None:
        """Asked several times a second while polling; may be set at any time, from any thread."""
        return self._should_stop

    @should_stop.setter
    def should_stop(self, should_stop: ShouldStop | None) -> None:
        if should_stop is not None:
            check_should_stop(should_stop)
        self._should_stop = should_stop
        if self._worker is not None and not self._poll_has_its_own:
            self._worker.stop.set_should_stop(should_stop)

    def stop(self) -> None:
        """Stop polling: claim nothing more, drain, hand back what is left.

        Said again while draining, it skips the rest of the drain. Without a `poll` it stops the
        next one as soon as that begins, unless `close` comes between. Safe to call from a signal
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

    def _new_worker(self, should_stop: ShouldStop | None) -> Worker:
        return Worker(
            self._store,
            self._registered,
            poll_interval=self._poll_interval,
            max_concurrency=self._max_concurrency,
            drain_timeout=self._drain_timeout,
            skip_unknown=self._skip_unknown,
            should_stop=should_stop,
            expiry=self._expiry,
        )

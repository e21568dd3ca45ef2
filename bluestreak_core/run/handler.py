"""Handlers, and the policies for their workflows."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, KeysView, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

from typing_extensions import Unpack

from bluestreak_core.argument import (
    Duration,
    check_handler,
    check_id,
    check_limit,
    has_real_type,
    to_positive_timedelta,
    to_timedelta,
)
from bluestreak_core.codec import Conversion
from bluestreak_core.errors import HandlerAlreadyRegistered, InvalidArgument
from bluestreak_core.retry import Backoff, Retry
from bluestreak_core.run.hook import RunHook
from bluestreak_core.run.known_handlers import KnownHandlers

if TYPE_CHECKING:
    from bluestreak_core.run.context import Context

logger = logging.getLogger(__name__)

Handler = Callable[["Context", Any], Awaitable[Any]]
"""An async function that takes a context and the workflow's input, and returns its result."""

ErrorCallback = Callable[[str, Any], object]
"""Called with a workflow id and the exception that failed it; sync, or async and awaited."""


class HandlerPolicy(TypedDict, total=False):
    """Settings for the workflows of one handler.

    The first five override settings of `Bluestreak`. `deadline`: a workflow that has not ended so
    long after its start time is aborted; None means no deadline. Durations are seconds or
    `timedelta`.
    """

    max_failures: int | None
    max_crashes: int | None
    wait_retry_interval: Duration | Backoff
    timeout_interval: Duration
    step_timeout: Duration | None
    deadline: Duration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a handler's workflows are run, tried again and aborted.

    `conversion` is None if values need no conversion.
    """

    wait_retry_interval: timedelta | Backoff
    max_failures: int | None
    max_crashes: int | None
    park_after: timedelta
    error_callback: ErrorCallback | None
    step_timeout: timedelta | None = None
    deadline: timedelta | None = None
    conversion: Conversion | None = None
    hooks: tuple[RunHook, ...] = ()

    def pause_after(self, failures: int) -> timedelta:
        """The pause after so many failures; a minute if a subclass of `Backoff` raises."""
        if not isinstance(self.wait_retry_interval, Backoff):
            return self.wait_retry_interval
        try:
            return to_timedelta("delay", self.wait_retry_interval.delay(failures))
        except Exception:
            logger.exception("a Backoff raised; the workflow is tried again in a minute")
            return timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A handler, its policy, and the lease of its workflows; `known` are those beside it."""

    handler: Handler
    policy: Policy
    lease: timedelta
    known: KnownHandlers


class Handlers:
    """The handlers of one engine, by id.

    `policy` and `lease` are the defaults of a handler. Handlers may be registered while a worker
    runs.
    """

    def __init__(self, policy: Policy, lease: timedelta, conversion: Conversion) -> None:
        self.lease = lease
        self._policy = policy
        self._conversion = conversion
        self._registered: dict[str, Registration] = {}
        self._functions: dict[str, Handler] = {}
        self._known = KnownHandlers(self._functions, conversion)

    def __contains__(self, handler_id: str) -> bool:
        return handler_id in self._registered

    def __getitem__(self, handler_id: str) -> Registration:
        return self._registered[handler_id]

    @property
    def functions(self) -> Mapping[str, Handler]:
        """The functions by id; the view follows later registrations."""
        return MappingProxyType(self._functions)

    @property
    def ids(self) -> KeysView[str]:
        """A live view of the registered ids."""
        return self._registered.keys()

    @property
    def shortest_lease(self) -> timedelta:
        """The lease to claim with.

        A claim does not know the handler yet, and a renewal never shortens a lease.
        """
        leases = [registration.lease for registration in self._registered.values()]
        return min(leases, default=self.lease)

    @property
    def hooks(self) -> Sequence[RunHook]:
        """The hooks of all handlers, the outermost first."""
        return self._policy.hooks

    def add_hook(self, hook: RunHook) -> None:
        """Put a hook around those of all handlers."""
        hooks = (hook, *self._policy.hooks)
        self._policy = replace(self._policy, hooks=hooks)
        for handler_id, registration in self._registered.items():
            policy = replace(registration.policy, hooks=hooks)
            self._registered[handler_id] = replace(registration, policy=policy)

    def register(self, handler_id: str, handler: Handler, **policy: Unpack[HandlerPolicy]) -> str:
        """Add a handler; return its id as a plain str. See `Bluestreak.register_handler`."""
        handler_id = check_id("handler id", handler_id)
        check_handler(handler_id, handler)
        self._conversion.check_handler(handler_id, handler)
        rules = to_rules(policy)
        if handler_id in self._registered:
            raise HandlerAlreadyRegistered(handler_id)
        lease = rules.pop("timeout_interval", self.lease)
        self._registered[handler_id] = Registration(
            handler=handler,
            policy=replace(self._policy, **rules),
            lease=lease,
            known=self._known,
        )
        self._functions[handler_id] = handler
        return handler_id


def to_rules(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a `HandlerPolicy`, checked and converted.

    Raises `TypeError` for an unknown setting, and `InvalidArgument` for a bad value.
    """
    if unknown := policy.keys() - _CHECKS.keys():
        raise TypeError(f"a handler has no setting {min(unknown)!r}, only {', '.join(_CHECKS)}")
    return {name: _CHECKS[name](name, value) for name, value in policy.items()}


def to_backoff(name: str, value: object) -> timedelta | Backoff:
    """The pauses before a failed workflow is tried again."""
    if has_real_type(value, Retry):
        reason = "expected a Backoff, not a Retry; max_failures limits the number of tries"
        raise InvalidArgument(name, value, reason)
    return value if has_real_type(value, Backoff) else to_timedelta(name, value)


def to_time_limit(name: str, value: object) -> timedelta | None:
    """A duration of at least a millisecond, or None for no limit."""
    return None if value is None else to_positive_timedelta(name, value)


_CHECKS: Mapping[str, Callable[[str, object], Any]] = MappingProxyType(
    {
        "max_failures": check_limit,
        "max_crashes": check_limit,
        "wait_retry_interval": to_backoff,
        "timeout_interval": to_positive_timedelta,
        "step_timeout": to_time_limit,
        "deadline": to_time_limit,
    }
)

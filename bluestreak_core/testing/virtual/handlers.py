"""The handlers of an environment, which each of its workers gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

from typing_extensions import Unpack

from bluestreak_core.bluestreak import Bluestreak
from bluestreak_core.codec import Codec, Conversion
from bluestreak_core.errors import InvalidArgument
from bluestreak_core.model import Workflow
from bluestreak_core.run import Handler, HandlerPolicy
from bluestreak_core.run.known_handlers import is_same_handler


class DeployedHandlers:
    """Handlers with their policies, by id. A later registration of an id replaces the earlier one.

    `new_worker` makes a worker without handlers.
    """

    def __init__(self, new_worker: Callable[[], Bluestreak], codec: Codec) -> None:
        self._new_worker = new_worker
        self._conversion = Conversion(codec)
        self._functions: dict[str, Handler] = {}
        self._policies: dict[str, HandlerPolicy] = {}

    @property
    def functions(self) -> Mapping[str, Handler]:
        """The functions by id; the view follows later registrations."""
        return MappingProxyType(self._functions)

    def register(self, handler_id: str, handler: Handler, **policy: Unpack[HandlerPolicy]) -> None:
        """Add a handler. Raises like `Bluestreak.register_handler`."""
        trial = self._new_worker()
        trial.register_handler(handler_id, handler, **policy)
        self._functions[handler_id] = handler
        self._policies[handler_id] = policy

    def new_worker(self) -> Bluestreak:
        """A worker that has all handlers."""
        worker = self._new_worker()
        for handler_id, handler in self._functions.items():
            worker.register_handler(handler_id, handler, **self._policies[handler_id])
        return worker

    def has(self, handler_id: str, handler: Handler) -> bool:
        """Whether an id is registered, for this very function."""
        known = self._functions.get(handler_id)
        return known is not None and is_same_handler(known, handler)

    def check_policy(self, handler_id: str, policy: HandlerPolicy) -> None:
        """Raise `InvalidArgument` if a handler is registered with another policy."""
        if policy != self._policies.get(handler_id):
            reason = f"handler {handler_id!r} is not registered with these rules"
            raise InvalidArgument("policy", policy, reason)

    def result(self, workflow: Workflow, stored: Any) -> Any:
        """A stored result as the handler of the workflow returned it."""
        handler = self._functions.get(workflow.handler_id)
        if handler is None:
            return stored
        return self._conversion.result(workflow.workflow_id, handler, stored)


def id_of(handler: Handler) -> str:
    """The id under which a function is registered unless the test gives one: its name."""
    name: str = getattr(handler, "__name__", type(handler).__name__)
    return name


def to_policy(policy: object) -> HandlerPolicy:
    """The rules of a policy. Their names are checked; registering them checks their values."""
    rules = {} if policy is None else policy
    known = HandlerPolicy.__annotations__
    if not isinstance(rules, Mapping) or not rules.keys() <= known.keys():
        raise InvalidArgument("policy", policy, f"expected a dict of {', '.join(known)}")
    return cast("HandlerPolicy", dict(rules))

"""The handlers that a process knows, and the conversion of what they get and return."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any

from bluestreak_core.argument import check_callable, check_handler, check_id, is_async
from bluestreak_core.codec import Conversion
from bluestreak_core.errors import HandlerNotRegistered, InvalidArgument, InvalidId
from bluestreak_core.message import Message

if TYPE_CHECKING:
    from bluestreak_core.run.handler import Handler


class KnownHandlers:
    """Finds handlers by id or by function, and converts by their annotations.

    `handlers` is read at each call, so it may grow. Those that it has now are checked.
    """

    def __init__(self, handlers: Mapping[str, Handler], conversion: Conversion) -> None:
        if not isinstance(handlers, Mapping):
            raise InvalidArgument("handlers", handlers, "expected a mapping of ids to functions")
        self._conversion = conversion
        for handler_id, handler in handlers.items():
            check_id("handler id", handler_id)
            check_handler(handler_id, handler)
            self._conversion.check_handler(handler_id, handler)
        self.by_id = MappingProxyType(handlers)
        """The handlers by id, read-only."""

    def id_of(self, handler: object) -> str:
        """The id of a function. Raises `HandlerNotRegistered` unless it has exactly one."""
        check_callable("handler", handler)
        ids = [name for name, known in self.by_id.items() if is_same_handler(known, handler)]
        if len(ids) != 1:
            name = getattr(handler, "__qualname__", type(handler).__qualname__)
            named = " and ".join(map(repr, ids))
            reason = f"the handler of {named}: give the id" if ids else "not a registered handler"
            raise HandlerNotRegistered(name, reason)
        return ids[0]

    def to_id(self, handler: object, where: str = "") -> str:
        """The id of a handler, given as such or as a function.

        Raises `InvalidId` and `HandlerNotRegistered`.
        """
        if not callable(handler):
            return check_id(f"{where}handler id", handler)
        if not is_async(handler):
            raise InvalidId(f"{where}handler id", handler, "neither an id nor an async function")
        return self.id_of(handler)

    def to_store(
        self, workflow_id: str, handler: object, input: Any, where: str = ""
    ) -> tuple[str, Any]:
        """The id of a handler, given as such or as a function, and the input as it is stored."""
        handler_id = self.to_id(handler, where)
        known = self.by_id.get(handler_id)
        if known is None:
            return handler_id, input
        return handler_id, self._conversion.stored_input(workflow_id, known, input)

    def stored_payload(self, workflow_id: str, message: Message[Any], payload: Any) -> Any:
        """A payload as it is stored, converted by the type of the message."""
        return self._conversion.stored_payload(workflow_id, message.name, message.type, payload)

    def result(self, workflow_id: str, handler: Handler, stored: Any) -> Any:
        """A result as the handler returned it."""
        return self._conversion.result(workflow_id, handler, stored)


def is_same_handler(known: Handler, handler: object) -> bool:
    """Whether two names stand for one handler. A bound method is a new object at each access."""
    if isinstance(known, MethodType):
        return isinstance(handler, MethodType) and known == handler
    return known is handler

"""What the functions of a program say of their values.

An annotation is looked up once for each function. Only the one that is asked for is evaluated, so
that the others may name what is imported for type checkers alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType, UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

ABSENT = inspect.Parameter.empty
"""Stands for the annotation of what is not annotated."""

Function = Callable[..., Any]


class Unresolved(Exception):
    """An annotation names something that its module does not have, or is no type."""


def of_input(handler: Function) -> Any:
    """The annotation of a handler's second parameter. Raises `Unresolved`."""
    parameters = list(inspect.signature(handler).parameters.values())
    given = parameters[1] if len(parameters) > 1 else parameters[0]  # which is *args then
    if given.kind is inspect.Parameter.KEYWORD_ONLY:  # after *args
        given = parameters[0]
    return _evaluated(handler, given.annotation)


def of_return(function: Function) -> Any:
    """The annotation of what comes of calling a function, and of awaiting that if need be.

    Raises `Unresolved`.
    """
    called = _innermost(function)
    if isinstance(get_origin(called) or called, type):  # a class, which may have parameters
        return called
    annotation = _evaluated(called, inspect.signature(called).return_annotation)
    return _awaited(annotation, _receiver(function))


class Annotations:
    """Remembers annotations, for as long as there are the functions."""

    def __init__(self, find: Callable[[Function], Any]) -> None:
        self._find = find
        self._known: WeakKeyDictionary[FunctionType, Any] = WeakKeyDictionary()

    def of(self, function: Function) -> Any:
        """The annotation, or `ABSENT`, also for what cannot be resolved."""
        key = getattr(function, "__func__", function)  # a bound method is made at each access
        if not isinstance(key, FunctionType):
            return self._look_up(function)
        if key in self._known:
            return self._known[key]
        annotation = self._look_up(function)
        # What `Self` is for one class, it is not for the others that have the method.
        if function is key or not _names(annotation, _receiver(function)):
            self._known[key] = annotation
        return annotation

    def _look_up(self, function: Function) -> Any:
        try:
            return self._find(function)
        except (Unresolved, TypeError, ValueError):  # a builtin may have no signature
            return ABSENT


def _evaluated(function: Function, annotation: Any) -> Any:
    if annotation is ABSENT:
        return ABSENT

    def bearer() -> None: ...

    bearer.__annotations__ = {"one": annotation}
    try:
        return get_type_hints(bearer, _names_around(function), include_extras=True)["one"]
    except Exception as error:  # an annotation is an expression, which may raise anything
        raise Unresolved(f"{annotation!r} cannot be resolved: {error}") from error


def _innermost(function: Any, stop: Callable[[Any], bool] | None = None) -> Any:
    """What partials and wrappers call in the end."""
    while isinstance(function := inspect.unwrap(function, stop=stop), functools.partial):
        function = function.func
    return function


def _receiver(function: Function) -> Any:
    """What `Self` stands for: the class that has the method, or itself for want of one."""
    method = _innermost(function, stop=lambda layer: hasattr(layer, "__self__"))
    receiver = getattr(method, "__self__", method)
    if isinstance(receiver, FunctionType):
        return Self
    return receiver if isinstance(receiver, type) else type(receiver)


def _awaited(annotation: Any, receiver: Any) -> Any:
    if annotation is Self:
        return receiver
    origin, args = get_origin(annotation), get_args(annotation)
    if args and isinstance(origin, type) and issubclass(origin, Awaitable):
        return _awaited(args[-1], receiver)
    if origin in {Union, UnionType}:
        # Not by `|`, which a metaclass may have a meaning of its own for.
        return Union[tuple(_awaited(arg, receiver) for arg in args)]  # noqa: UP007
    return annotation


def _names(annotation: Any, receiver: Any) -> bool:
    return any(part is receiver for part in (annotation, *get_args(annotation)))


def _names_around(function: Any) -> dict[str, Any]:
    """The globals of the module that a function was written in."""
    function = _innermost(function)
    if not hasattr(function, "__globals__"):  # an object that can be called
        function = _innermost(type(function).__call__)
    names: dict[str, Any] = function.__globals__
    return names

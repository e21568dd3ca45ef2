"""What the functions of a program say of their values.

An annotation is looked up once for each function. Only the one that is asked for is evaluated, so
that the others may name what is imported for type checkers alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any, get_args, get_origin, get_type_hints
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
    function = inspect.unwrap(function)
    if isinstance(function, type):
        return function
    annotation = _evaluated(function, inspect.signature(function).return_annotation)
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Awaitable):
        return get_args(annotation)[-1]
    return annotation


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
        if key not in self._known:
            self._known[key] = self._look_up(function)
        return self._known[key]

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


def _names_around(function: Any) -> dict[str, Any]:
    """The globals of the module that a function was written in."""
    function = inspect.unwrap(function)
    if isinstance(function, functools.partial):
        return _names_around(function.func)
    if not hasattr(function, "__globals__"):  # an object that can be called
        function = inspect.unwrap(type(function).__call__)
    names: dict[str, Any] = function.__globals__
    return names

"""Finding the annotations of inputs and return values.

Only the annotation in question is evaluated, so the others of the function may name what is
imported only `if TYPE_CHECKING`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType, UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

ABSENT = inspect.Parameter.empty
"""Stands for a missing annotation."""

Function = Callable[..., Any]


class Unresolved(Exception):
    """An annotation names something that its module does not have, or is not a type."""


def of_input(handler: Function) -> Any:
    """The annotation of a handler's second parameter. Raises `Unresolved`."""
    parameters = list(inspect.signature(handler).parameters.values())
    parameter = parameters[1] if len(parameters) > 1 else parameters[0]  # `*args`
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:  # as in `(*args, flag)`
        parameter = parameters[0]
    return _evaluated(handler, parameter.annotation)


def of_return(function: Function) -> Any:
    """The annotation of the value that a call returns, awaited where it is awaitable.

    Raises `Unresolved`.
    """
    called = _innermost(function)
    if isinstance(get_origin(called) or called, type):  # a class, which may have parameters
        return called
    annotation = _evaluated(called, inspect.signature(called).return_annotation)
    return _awaited(annotation, _receiver(function))


class Annotations:
    """A cache of annotations, by function; an entry lives as long as its function."""

    def __init__(self, find: Callable[[Function], Any]) -> None:
        self._find = find
        self._known: WeakKeyDictionary[FunctionType, Any] = WeakKeyDictionary()

    def of(self, function: Function) -> Any:
        """The annotation; `ABSENT` where there is none, or none that can be resolved."""
        key = getattr(function, "__func__", function)  # each access creates a new bound method
        if not isinstance(key, FunctionType):
            return self._look_up(function)
        if key in self._known:
            return self._known[key]
        annotation = self._look_up(function)
        # `Self` differs between the classes that share a method, so it is not remembered.
        if function is key or not _contains(annotation, _receiver(function)):
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

    def holder() -> None: ...

    holder.__annotations__ = {"value": annotation}
    try:
        return get_type_hints(holder, _globals_of(function), include_extras=True)["value"]
    except Exception as error:  # an annotation is an expression, which may raise anything
        raise Unresolved(f"{annotation!r} cannot be resolved: {error}") from error


def _innermost(function: Any, stop: Callable[[Any], bool] | None = None) -> Any:
    """The function that partials and wrappers call in the end."""
    while isinstance(function := inspect.unwrap(function, stop=stop), functools.partial):
        function = function.func
    return function


def _receiver(function: Function) -> Any:
    """What `Self` stands for: the class of a method; `Self` itself for a plain function."""
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
        # Not `|`, which a metaclass may overload.
        return Union[tuple(_awaited(arg, receiver) for arg in args)]  # noqa: UP007
    return annotation


def _contains(annotation: Any, receiver: Any) -> bool:
    return any(argument is receiver for argument in (annotation, *get_args(annotation)))


def _globals_of(function: Any) -> dict[str, Any]:
    """The globals of the module that defines a function."""
    function = _innermost(function)
    if not hasattr(function, "__globals__"):  # an instance with a `__call__`
        function = _innermost(type(function).__call__)
    names: dict[str, Any] = function.__globals__
    return names

"""Which annotation counts, and when it is evaluated."""

from __future__ import annotations

import functools
import gc
import typing
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, Generic, Optional, Self, TypeVar

import pytest

from bluestreak_core.codec.annotation import ABSENT, Annotations, Unresolved, of_input, of_return

if TYPE_CHECKING:
    from bluestreak_core import Context, Missing  # type: ignore[attr-defined]


T = TypeVar("T")


class Order: ...


async def handler(ctx: Context, input: Order) -> list[Order]:
    return [input]


async def anything(*args: Order) -> None: ...


async def keyword(*args: Order, more: int = 0) -> None: ...


async def bare(ctx, input): ...  # type: ignore[no-untyped-def]


async def missing(ctx: Context, input: Missing) -> Missing:
    return input


async def metadata(ctx: Context, input: Annotated[Order, "kept"]) -> None: ...


class Service:
    async def handle(self, ctx: Context, input: Order) -> Order:
        return input

    async def __call__(self, ctx: Context, input: Order) -> Order:
        return input


@functools.wraps(handler)
async def wrapped(*args: Any) -> Any: ...


@pytest.mark.parametrize(
    "function",
    [handler, anything, keyword, Service().handle, Service(), wrapped, functools.partial(handler)],
)
def test_the_second_argument_is_the_input(function: Any) -> None:
    assert of_input(function) is Order


def test_what_is_only_imported_for_type_checkers_is_not_asked_for() -> None:
    assert of_return(handler) == list[Order]


def test_what_is_asked_for_and_not_there_is_named() -> None:
    with pytest.raises(Unresolved, match="'Missing' cannot be resolved: name 'Missing' is not"):
        of_input(missing)
    with pytest.raises(Unresolved, match="'Missing'"):
        of_return(missing)


def test_what_is_not_annotated_is_absent() -> None:
    assert of_input(bare) is ABSENT
    assert of_return(bare) is ABSENT
    assert of_return(lambda: 1) is ABSENT


def test_metadata_is_kept() -> None:
    assert of_input(metadata) == Annotated[Order, "kept"]


def later() -> Awaitable[Order]:
    raise NotImplementedError


def coroutine() -> Coroutine[Any, Any, Order]:
    raise NotImplementedError


def perhaps() -> Order | Awaitable[Order]:
    raise NotImplementedError


def something() -> typing.Awaitable:  # type: ignore[type-arg]
    raise NotImplementedError


@pytest.mark.parametrize("function", [later, coroutine, perhaps])
def test_what_is_awaited_counts(function: Callable[..., Any]) -> None:
    assert of_return(function) is Order


def test_what_is_awaited_need_not_be_told() -> None:
    assert of_return(something) is typing.Awaitable


class Box(Generic[T]): ...


def test_a_class_returns_its_instances() -> None:
    assert of_return(Order) is Order
    assert of_return(functools.wraps(Order, updated=())(lambda *_: None)) is Order
    assert of_return(Box[int]) == Box[int]


class Joining(type):
    def __or__(cls, other: object) -> str:  # type: ignore[override]
        return "joined"


class Joined(metaclass=Joining): ...


def perhaps_joined() -> Optional[Joined]: ...  # noqa: UP045 - `|` means something else to this class


def test_a_class_whose_metaclass_joins_is_left_in_its_union() -> None:
    assert of_return(perhaps_joined) == Optional[Joined]  # noqa: UP045


def through(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any: ...

    return wrapper


@pytest.mark.parametrize(
    ("function", "annotation"),
    [
        (functools.partial(Order), Order),
        (functools.partial(Box[int]), Box[int]),
        (functools.partial(functools.partial(later), 1), Order),
        (functools.partial(through(functools.partial(Order)), 1), Order),
        (through(functools.partial(later)), Order),
        (functools.partial(Service().handle), Order),
    ],
    ids=["class", "generic class", "partial", "wrapped class", "wrapped partial", "method"],
)
def test_a_partial_returns_what_its_function_does(function: Any, annotation: Any) -> None:
    assert of_return(function) == annotation


class Shape:
    @classmethod
    def made(cls) -> Self:
        raise NotImplementedError

    @classmethod
    @through
    async def found(cls) -> Self | None:
        raise NotImplementedError

    def copied(self) -> Coroutine[Any, Any, Self]:
        raise NotImplementedError

    def __call__(self) -> Self:
        raise NotImplementedError


class Circle(Shape): ...


@pytest.mark.parametrize("shape", [Shape, Circle])
def test_self_is_the_class_of_the_receiver(shape: type[Shape]) -> None:
    assert of_return(shape.made) is shape
    assert of_return(functools.partial(shape.made)) is shape
    assert of_return(through(shape.made)) is shape
    assert of_return(shape().copied) is shape
    assert of_return(shape()) is shape
    assert of_return(shape.found) == shape | None


def test_self_is_not_remembered_for_another_class() -> None:
    annotations = Annotations(of_return)
    for shape in (Shape, Circle, Shape):
        assert annotations.of(shape.made) is shape
        assert annotations.of(shape.found) == shape | None


def test_self_without_a_receiver_stays_as_it_is() -> None:
    assert of_return(Shape.copied) is Self


@pytest.mark.parametrize("function", [missing, min, print, functools.partial(print, 1)])
def test_what_cannot_be_looked_up_is_remembered_as_absent(function: Any) -> None:
    annotations = Annotations(of_return)
    assert annotations.of(function) is ABSENT
    assert annotations.of(function) is ABSENT


def test_an_annotation_is_looked_up_once_and_keeps_no_function_alive() -> None:
    looked: list[object] = []
    annotations = Annotations(lambda function: looked.append(function.__name__))

    def local() -> None: ...

    annotations.of(local)
    annotations.of(local)
    annotations.of(Service().handle)
    annotations.of(Service().handle)
    assert looked == ["local", "handle"]
    gone = weakref.ref(local)
    del local
    gc.collect()
    assert gone() is None

"""Which annotation counts, and when it is evaluated."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from bluestreak_core.annotation import ABSENT, Annotations, Unresolved, of_input, of_return

if TYPE_CHECKING:
    from bluestreak_core import Context, Missing  # type: ignore[attr-defined]


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


@pytest.mark.parametrize("function", [later, coroutine])
def test_what_is_awaited_counts(function: Callable[..., Any]) -> None:
    assert of_return(function) is Order


def test_a_class_returns_its_instances() -> None:
    assert of_return(Order) is Order
    assert of_return(functools.wraps(Order, updated=())(lambda *_: None)) is Order


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

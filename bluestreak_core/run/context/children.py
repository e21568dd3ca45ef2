"""The verbs of a context about children."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from bluestreak_core.run.context.verbs import Verbs
from bluestreak_core.run.structure.child_branches import map_children
from bluestreak_core.run.structure.outcomes import Outcomes
from bluestreak_core.run.verb.child import ChildHandle, ChildRequest, child, start_child

if TYPE_CHECKING:
    from bluestreak_core.run.context import Context

Input = TypeVar("Input")
Result = TypeVar("Result")


class ChildVerbs(Verbs):
    """Starts workflows and waits for them; a part of `Context`."""

    @overload
    def child(
        self,
        step_id: str,
        handler: str,
        input: Any = None,
        /,
        *,
        workflow_id: str | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, Any]: ...

    @overload
    def child(
        self,
        step_id: str,
        handler: Callable[[Context, None], Awaitable[Result]],
        input: None = None,
        /,
        *,
        workflow_id: str | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, Result]: ...

    @overload
    def child(
        self,
        step_id: str,
        handler: Callable[[Context, Input], Awaitable[Result]],
        input: Input,
        /,
        *,
        workflow_id: str | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, Result]: ...

    def child(
        self,
        step_id: str,
        handler: str | Callable[[Context, Any], Awaitable[Any]],
        input: Any = None,
        /,
        *,
        workflow_id: str | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, Any]:
        """Start a workflow and wait for its result, which is recorded as this step.

        The child is a workflow like any other: any worker with its handler runs it, it has its own
        failures, and it can be found, paused and retried. It is found again in later runs. While
        this workflow waits, it leaves memory after `park_after`, and the end of the child wakes it.

        - `handler`: an id, or a function that this worker knows. The result has the type that the
          function is annotated to return; for an id, it is as stored.
        - `workflow_id`: the child's id, by default `"{workflow_id}/{step_id}"`, and after restarts
          that and their number: `sub-7/bill#2`.
        - `on_parent_end`: if this workflow ends first, in any way, `"cancel"` cancels the child and
          its own children; with `"abandon"` the child goes on.

        A child that is aborted or cancelled raises `ChildFailed` here, in this run and in each
        later one. If the handler does not catch it, this workflow is aborted. A child that is
        retried before its end is recorded here keeps this workflow waiting.

        Raises `WorkflowConflict` if the id exists with another parent or another handler;
        `InvalidId`, `InvalidArgument`, `HandlerNotRegistered`, `DuplicateStep`, `UsedInStep`,
        `UsedInTransaction`, and `Unsupported` if the store does not know children; and for the
        input `InvalidValue`, `UnstorableValue` or `ValueTooLarge`.
        """
        request = ChildRequest(
            handler=handler, input=input, workflow_id=workflow_id, on_parent_end=on_parent_end
        )
        work = child(self._frame, step_id, request)
        return self._watch("child", step_id, work)

    @overload
    def start_child(
        self,
        step_id: str,
        handler: str,
        input: Any = None,
        /,
        *,
        workflow_id: str | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, ChildHandle[Any]]: ...

    @overload
    def start_child(
        self,
        step_id: str,
        handler: Callable[[Context, None], Awaitable[Result]],
        input: None = None,
        /,
        *,
        workflow_id: str | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, ChildHandle[Result]]: ...

    @overload
    def start_child(
        self,
        step_id: str,
        handler: Callable[[Context, Input], Awaitable[Result]],
        input: Input,
        /,
        *,
        workflow_id: str | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, ChildHandle[Result]]: ...

    def start_child(
        self,
        step_id: str,
        handler: str | Callable[[Context, Any], Awaitable[Any]],
        input: Any = None,
        /,
        *,
        workflow_id: str | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, ChildHandle[Any]]:
        """Start a workflow, which is recorded as this step, and go on; see `child`.

        `await handle.result()` waits for its result, which is recorded as `"{step_id}/result"`. A
        child whose result is never awaited may fail unnoticed.
        """
        request = ChildRequest(
            handler=handler, input=input, workflow_id=workflow_id, on_parent_end=on_parent_end
        )
        work = start_child(self._frame, self._unawaited, step_id, request)
        return self._watch("start_child", step_id, work)

    @overload
    def map_children(
        self,
        step_id: str,
        handler: str,
        items: Iterable[Any],
        /,
        *,
        limit: int = 100,
        key: Callable[[Any], str] | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, list[Any]]: ...

    @overload
    def map_children(
        self,
        step_id: str,
        handler: Callable[[Context, Input], Awaitable[Result]],
        items: Iterable[Input],
        /,
        *,
        limit: int = 100,
        key: Callable[[Input], str] | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, list[Result]]: ...

    @overload
    def map_children(
        self,
        step_id: str,
        handler: str,
        items: Iterable[Any],
        /,
        *,
        limit: int = 100,
        key: Callable[[Any], str] | None = None,
        tolerate: float | None = None,
        enough: int | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, Outcomes[Any]]: ...

    @overload
    def map_children(
        self,
        step_id: str,
        handler: Callable[[Context, Input], Awaitable[Result]],
        items: Iterable[Input],
        /,
        *,
        limit: int = 100,
        key: Callable[[Input], str] | None = None,
        tolerate: float | None = None,
        enough: int | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, Outcomes[Result]]: ...

    def map_children(
        self,
        step_id: str,
        handler: str | Callable[[Context, Any], Awaitable[Any]],
        items: Iterable[Any],
        /,
        *,
        limit: int = 100,
        key: Callable[[Any], str] | None = None,
        tolerate: float | None = None,
        enough: int | None = None,
        on_parent_end: Literal["cancel", "abandon"] = "cancel",
    ) -> Coroutine[Any, Any, Any]:
        """Run a child for each item, which gets it as its input, at most `limit` at once.

        The child of an item is `"{workflow_id}/{step_id}/{key}"`, and its result is recorded as the
        step `"{step_id}/{key}"`. `key` is called with the item, and is its place from 0 by default.
        If items may come or go between two runs, give them keys.

        Returns the results in the order of the items. The first child that is aborted or cancelled
        ends the rest: the others are cancelled, and an `ExceptionGroup` of `ChildFailed` is raised,
        in this run and in each later one.

        With `tolerate` or `enough`, returns `Outcomes` instead, as `map` does. A child that is
        skipped is cancelled.

        The handler, `on_parent_end`, and what is raised are as for `child`; in addition,
        `InvalidArgument` is raised for a bad limit and for two items with the same key.
        """
        work = map_children(
            self._frame,
            step_id,
            handler,
            items,
            limit=limit,
            key=key,
            tolerate=tolerate,
            enough=enough,
            on_parent_end=on_parent_end,
        )
        return self._watch("map_children", step_id, work)

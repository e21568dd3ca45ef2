"""The verbs of a context about scopes and branches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from copy import copy
from typing import Any, Self, TypeVar, TypeVarTuple, overload

from bluestreak_core.argument import Duration
from bluestreak_core.errors import FinalMistakes
from bluestreak_core.retry import Backoff, Retry
from bluestreak_core.run.context.verbs import Verbs
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.structure.mapping import map_items
from bluestreak_core.run.structure.outcomes import Outcomes
from bluestreak_core.run.structure.parallel import parallel
from bluestreak_core.run.structure.poll import poll
from bluestreak_core.run.structure.race import Winner, race

A = TypeVar("A")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class StructureVerbs(Verbs):
    """Runs branches; a part of `Context`."""

    def scope(self, scope_id: str, /) -> Self:
        """The same context with ids in a scope: its step `pack` is the step `{scope_id}/pack`.

        So a function that takes a context can be called several times in one workflow, each time
        with another scope. Scopes may be nested. Raises `InvalidId`.
        """
        with FinalMistakes():
            frame = self._frame.scoped(scope_id)
        return self._within(frame)

    def _within(self, frame: Frame) -> Self:
        context = copy(self)
        context._frame = frame  # noqa: SLF001 - of the same class
        return context

    @overload
    def map(  # type: ignore[overload-overlap] # a call with `tolerate` never matches this
        self,
        step_id: str,
        fn: Callable[[A], Awaitable[T]],
        items: Iterable[A],
        /,
        *,
        limit: int = 100,
        key: Callable[[A], str] | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, list[T]]: ...

    @overload
    def map(
        self,
        step_id: str,
        fn: Callable[[A], T],
        items: Iterable[A],
        /,
        *,
        limit: int = 100,
        key: Callable[[A], str] | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, list[T]]: ...

    @overload
    def map(
        self,
        step_id: str,
        fn: Callable[[A], Awaitable[T]],
        items: Iterable[A],
        /,
        *,
        limit: int = 100,
        key: Callable[[A], str] | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        tolerate: float | None = None,
        enough: int | None = None,
    ) -> Coroutine[Any, Any, Outcomes[T]]: ...

    @overload
    def map(
        self,
        step_id: str,
        fn: Callable[[A], T],
        items: Iterable[A],
        /,
        *,
        limit: int = 100,
        key: Callable[[A], str] | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        tolerate: float | None = None,
        enough: int | None = None,
    ) -> Coroutine[Any, Any, Outcomes[T]]: ...

    def map(
        self,
        step_id: str,
        fn: Callable[[A], Any],
        items: Iterable[A],
        /,
        *,
        limit: int = 100,
        key: Callable[[A], str] | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        tolerate: float | None = None,
        enough: int | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Call `fn(item)` as a step for each item, at most `limit` at once.

        The step of an item is `{step_id}/{key}`, where `key` is called with the item, and is its
        place from 0 by default. If items may come or go between two runs, give them keys.

        Returns the results in the order of the items. The first failure cancels the other calls,
        and is raised in an `ExceptionGroup`, with others that came at the same time. Recorded items
        stay recorded: the next run calls only the others.

        With `tolerate` or `enough`, returns `Outcomes` instead, with the value or the error of each
        item. They are recorded, so later runs get the same.

        - `tolerate`: how many items may fail; a float is a share of them, from 0.0 to 1.0. If more
          fail, the rest is skipped. An item has failed after the last attempt of `retry`, or after
          one attempt without.
        - `enough`: once so many items have succeeded, the rest is skipped. Without `tolerate`, any
          number of items may fail.
        - `retry`, `timeout`: as for `step`, for each item.

        An `Abort` is raised at once, whatever is tolerated. Raises what `step` raises, and
        `InvalidArgument` for a bad limit and for two items with the same key.
        """
        work = map_items(
            self._frame,
            step_id,
            fn,
            items,
            limit=limit,
            key=key,
            retry=retry,
            timeout=timeout,
            tolerate=tolerate,
            enough=enough,
        )
        return self._watch("map", step_id, work)

    @overload
    def parallel(
        self,
        step_id: str,
        branches: Mapping[str, Callable[[Self], Awaitable[T]]],
        /,
        *,
        limit: int | None = None,
    ) -> Coroutine[Any, Any, dict[str, T]]: ...

    @overload
    def parallel(
        self,
        step_id: str,
        branches: Mapping[str, Callable[[Self], Awaitable[T]]],
        /,
        *,
        limit: int | None = None,
        tolerate: float | None = None,
        enough: int | None = None,
    ) -> Coroutine[Any, Any, Outcomes[T]]: ...

    def parallel(
        self,
        step_id: str,
        branches: Mapping[str, Callable[[Self], Awaitable[Any]]],
        /,
        *,
        limit: int | None = None,
        tolerate: float | None = None,
        enough: int | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Run named branches at the same time: `{"acme": ask_acme, "globex": ask_globex}`.

        Each function is called with a context of the scope `{step_id}/{name}`, and may use all of
        its verbs. Its result is recorded as the step `{step_id}/{name}`; from then on, the
        function is not called again. Until then, each run calls it from the top, like a handler.

        Returns the results by name. Failures, `tolerate` and `enough` are as in `map`; `limit` is
        how many branches run at once, by default all of them.

        Raises `InvalidId`, `InvalidArgument`, `DuplicateStep`, `UsedInStep` and
        `UsedInTransaction`.
        """
        work = parallel(
            self._frame,
            step_id,
            branches,
            self._within,
            limit=limit,
            tolerate=tolerate,
            enough=enough,
        )
        return self._watch("parallel", step_id, work)

    def race(
        self, step_id: str, /, **branches: Callable[[], Awaitable[T]]
    ) -> Coroutine[Any, Any, Winner[T]]:
        """Run named branches; return the name and the value of the first one that ends.

        The winner's name is recorded as a step. The others are cancelled, and have ended when this
        returns. A later run calls only the winner's function, so its result has to come from steps,
        naps and messages. The records of the losers stay.

        If a branch raises before one has returned, the others are cancelled, and its error is
        raised here. That is not recorded. If several end at the same time, the first one in the
        order of the arguments counts.

        Raises `InvalidId`, `InvalidArgument`, `DuplicateStep`, `UsedInStep` and
        `UsedInTransaction`.
        """
        return self._watch("race", step_id, race(self._frame, step_id, branches))

    def poll(
        self,
        step_id: str,
        check: Callable[[Any, *Ts], Any],
        /,
        *args: *Ts,
        every: Duration | Backoff,
        timeout: Duration | None = None,
        retry: Retry | None = None,
        state: Any = None,
    ) -> Coroutine[Any, Any, Any]:
        """Call `check(state, *args)` until it returns `Done(value)`; return that value.

        Anything else that it returns is the state of the next call. Check n is recorded as the step
        `{step_id}/{n}`, the pause after it as the nap of that id, and the value as the step
        `step_id`. During a pause longer than `park_after` the workflow leaves memory.

        - `every`: the pause between two checks, or a `Backoff` for growing ones.
        - `timeout` counts from the first run that gets here. If the next check would begin later,
          `PollTimeout` is raised at the end, in this run and in each later one. If the handler does
          not catch it, the workflow is aborted.
        - `retry` applies to each check; without it, an error of `check` is raised here and not
          recorded.

        Raises what `step` and `sleep` raise.
        """
        work = poll(
            self._frame,
            step_id,
            check,
            args,
            every=every,
            timeout=timeout,
            retry=retry,
            state=state,
        )
        return self._watch("poll", step_id, work)

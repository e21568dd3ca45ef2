"""Handlers whose steps are watched: which of them were called, and when."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from typing_extensions import override

from bluestreak_core.argument import is_async
from bluestreak_core.clock import Clock
from bluestreak_core.run.context import Context
from bluestreak_core.run.handler import Handler


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """One call of a step's function, whatever came of it."""

    workflow_id: str
    step_id: str
    args: tuple[Any, ...]
    called_at: datetime


class StepWatch:
    """Makes handlers that note each call of a step."""

    def __init__(self, clock: Clock) -> None:
        self.calls: list[StepCall] = []
        self._clock = clock

    def watched(self, handler: Handler) -> Handler:
        """The handler, with a context that notes the calls of its steps."""

        @functools.wraps(handler)
        async def watched(context: Context, input: Any) -> Any:
            return await handler(WatchedContext(context, self), input)

        return watched

    def around(self, workflow_id: str, step_id: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """A step's function that notes its calls; override this to do more."""

        def note(args: tuple[Any, ...]) -> None:
            call = StepCall(
                workflow_id=workflow_id, step_id=step_id, args=args, called_at=self._clock.now()
            )
            self.calls.append(call)

        @functools.wraps(fn, updated=())
        async def noted_async(*args: Any) -> Any:
            note(args)
            return await fn(*args)

        @functools.wraps(fn, updated=())
        def noted(*args: Any) -> Any:
            note(args)
            return fn(*args)

        return noted_async if is_async(fn) else noted


class WatchedContext(Context):
    """The context that it is made from, with its steps watched."""

    def __init__(self, context: Context, watch: StepWatch) -> None:
        self.__dict__.update(context.__dict__)
        self._watch = watch

    @override
    def on_cancel(  # type: ignore[override]
        self, step_id: str, fn: Callable[..., Any], /, *args: Any
    ) -> None:
        if callable(fn) and isinstance(step_id, str):
            fn = self._watch.around(self.workflow_id, step_id, fn)
        super().on_cancel(step_id, fn, *args)

    @override
    def transaction(  # type: ignore[override]
        self, step_id: str, fn: Callable[..., Any], /, *args: Any
    ) -> Coroutine[Any, Any, Any]:
        if callable(fn) and isinstance(step_id, str):
            fn = self._watch.around(self.workflow_id, step_id, fn)
        return super().transaction(step_id, fn, *args)

    @override
    def step(  # type: ignore[override]
        self, step_id: str, fn: Callable[..., Any], /, *args: Any, **options: Any
    ) -> Coroutine[Any, Any, Any]:
        if callable(fn) and isinstance(step_id, str):  # else it is refused, by its name
            fn = self._watch.around(self.workflow_id, step_id, fn)
        return super().step(step_id, fn, *args, **options)

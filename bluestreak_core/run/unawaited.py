"""Detecting calls of a context that the handler does not await."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any, TypeVar

from bluestreak_core.errors import NotAwaited
from bluestreak_core.errors.text import shown

T = TypeVar("T")

_FIRST_SWEEP = 64


class Unawaited:
    """The coroutines of one run that have not begun yet, and some that have.

    A step that is not awaited is never called, and Python only warns when it collects the
    coroutine. So each coroutine is kept here until it has begun or the handler has ended.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._calls: list[tuple[str, object, Any]] = []
        self._sweep_at = _FIRST_SWEEP

    def watch(self, verb: str, id: object, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Keep and return the coroutine of a call like `ctx.step(id, ...)`."""
        self._calls.append((verb, id, work))
        if len(self._calls) >= self._sweep_at:
            self._drop_begun()
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._calls))
        return work

    async def check(self) -> None:
        """After the handler has returned, raise `NotAwaited` for calls that have not begun."""
        self._drop_begun()
        if not self._calls:
            return
        await asyncio.sleep(0)  # let tasks that the handler has left behind begin
        self._drop_begun()
        if self._calls:
            calls = [f"ctx.{verb}({shown(used_id)}, ...)" for verb, used_id, _ in self._calls]
            mistake = NotAwaited(self._workflow_id, tuple(calls))
            mistake.is_final = True
            raise mistake

    def close(self) -> None:
        """Close what has not begun by the end of the run, so that Python does not warn."""
        self._drop_begun()
        if self._calls:  # later, since some may belong to tasks that are about to begin
            asyncio.get_running_loop().call_soon(self._close)

    def _close(self) -> None:
        self._drop_begun()
        while self._calls:
            _, _, work = self._calls.pop()
            work.close()

    def _drop_begun(self) -> None:
        # Most calls have ended, and `cr_frame` shows that at less cost than their state.
        self._calls = [
            call for call in self._calls if call[2].cr_frame is not None and _is_new(call[2])
        ]


def _is_new(work: Coroutine[Any, Any, Any]) -> bool:
    return inspect.getcoroutinestate(work) == inspect.CORO_CREATED

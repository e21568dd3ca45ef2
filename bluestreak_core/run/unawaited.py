"""What a handler has asked its context for, and does not await."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any, TypeVar

from bluestreak_core.errors import NotAwaited
from bluestreak_core.errors.text import shown

T = TypeVar("T")

_LOOK_AFTER = 64


class Unawaited:
    """The coroutines of one run that have not begun yet, and some that have.

    Without an `await`, a step is not called, and all that Python does is warn when it happens to
    collect the coroutine. So each is kept here until it has begun, or the handler has ended.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._asked_for: list[tuple[str, object, Any]] = []
        self._look_at = _LOOK_AFTER

    def watch(self, verb: str, id: object, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """The work that a call like `ctx.step(id, ...)` returns, to be awaited by the handler."""
        self._asked_for.append((verb, id, work))
        if len(self._asked_for) >= self._look_at:
            self._drop_begun()
            self._look_at = max(_LOOK_AFTER, 2 * len(self._asked_for))
        return work

    async def check(self) -> None:
        """Raise `NotAwaited`, once the handler has returned, for what has not begun."""
        self._drop_begun()
        if not self._asked_for:
            return
        await asyncio.sleep(0)  # tasks that the handler has left behind begin
        self._drop_begun()
        if self._asked_for:
            calls = [f"ctx.{verb}({shown(used)}, ...)" for verb, used, _ in self._asked_for]
            mistake = NotAwaited(self._workflow_id, tuple(calls))
            mistake.is_final = True
            raise mistake

    def close(self) -> None:
        """The run has ended: nothing begins any more, and Python need not warn of it."""
        self._drop_begun()
        if self._asked_for:  # of which some may belong to tasks that are about to begin
            asyncio.get_running_loop().call_soon(self._close)

    def _close(self) -> None:
        self._drop_begun()
        while self._asked_for:
            self._asked_for.pop()[2].close()

    def _drop_begun(self) -> None:
        self._asked_for = [
            one for one in self._asked_for if one[2].cr_frame is not None and _is_new(one[2])
        ]


def _is_new(work: Coroutine[Any, Any, Any]) -> bool:
    return inspect.getcoroutinestate(work) == inspect.CORO_CREATED

"""Which run a test's handlers and steps belong to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from typing_extensions import override

from bluestreak_core.run import RunHook, RunInfo, UserCall

_RUN: ContextVar[RunInfo] = ContextVar("run")


class RunWatch(RunHook):
    """Makes each run known to the functions that it calls, by `current_run`."""

    @override
    async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
        _RUN.set(call.run)
        return await proceed()


def current_run() -> RunInfo:
    """The run that the calling function belongs to."""
    return _RUN.get()

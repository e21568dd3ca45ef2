"""What the groups of verbs that make up a context have in common."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from bluestreak_core.run.frame import Frame
from bluestreak_core.run.unawaited import Unawaited

T = TypeVar("T")


class Verbs:
    """Some of the methods of a context. Each makes a coroutine that the handler has to await."""

    def __init__(self, frame: Frame, unawaited: Unawaited) -> None:
        self._frame = frame
        self._unawaited = unawaited

    def _watch(self, verb: str, id: object, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """The coroutine of a call like `ctx.step(id, ...)`, which is missed if it never begins."""
        return self._unawaited.watch(verb, id, work)

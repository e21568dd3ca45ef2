"""What the groups of verbs that make up a context have in common."""

from __future__ import annotations

from bluestreak_core.run.frame import Frame
from bluestreak_core.run.unawaited import Unawaited


class Verbs:
    """Some of the methods of a context. Each makes a coroutine that the handler has to await."""

    def __init__(self, frame: Frame, unawaited: Unawaited) -> None:
        self._frame = frame
        self._unawaited = unawaited
        self._watch = unawaited.watch
        """Hands on the coroutine of a call, which is missed if it never begins."""

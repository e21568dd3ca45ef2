"""`ctx.log`: a logger that is silent while the handler is replayed."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from itertools import pairwise
from typing import Any

from typing_extensions import override

from bluestreak_core.run.frame import Frame
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.log import fields
from bluestreak_core.run.within import WITHIN


class ContextLog(logging.LoggerAdapter[logging.Logger]):
    """The logger of the handler's module, with the facts of the workflow in each record.

    All is found out when a line is logged, so that a run that logs nothing pays nothing.
    """

    def __init__(self, frame: Frame) -> None:
        super().__init__(logging.getLogger(frame.handler.__module__))
        self._frame = frame

    @override
    def isEnabledFor(self, level: int) -> bool:
        """Whether a line of this level is logged now."""
        return super().isEnabledFor(level) and not self._is_replaying()

    @override
    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """The message as it is, and the facts beside the caller's own `extra`."""
        facts = fields(self._frame.journal.workflow)
        if self._frame.prefix:
            facts["scope"] = self._frame.prefix.removesuffix("/")
        if (step_id := self._step_id()) is not None:
            facts["step_id"] = step_id
        kwargs["extra"] = facts | dict(kwargs.get("extra") or {})
        return msg, kwargs

    def _step_id(self) -> str | None:
        """The step whose function logs, if one does."""
        within = WITHIN.get()
        if within is None or not isinstance(within[0], Journal):
            return None
        # A compensation has another journal than the handler, whose context it may use.
        return within[2] if within[0].lease is self._frame.journal.lease else None

    def _is_replaying(self) -> bool:
        if self._step_id() is not None:  # what is recorded is not called
            return False
        if self._frame.replay is not None:
            return True
        journal = self._frame.journal
        if self._frame.operations.has_new:
            return False
        if journal.unreached is None:
            journal.unreached = [*journal.history.steps, *journal.history.naps]
        while journal.unreached and self._is_reached(journal.unreached[-1]):
            journal.unreached.pop()
        return bool(journal.unreached)

    def _is_reached(self, recorded_id: str) -> bool:
        """Whether the handler has asked for a record, or for the end of what contains it."""
        frame, steps = self._frame, self._frame.journal.history.steps
        if frame.is_used(recorded_id):
            return True
        parts = recorded_id.split("/")
        heads = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        return any(
            frame.is_used(whole) and (whole in steps or part in steps)
            for whole, part in pairwise(heads)
        )

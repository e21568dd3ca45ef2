"""Which function of a step or the like the current code is a part of."""

from __future__ import annotations

from contextvars import ContextVar

Within = tuple[object, str, str]
"""The journal of the run that has called a function, the kind of the call, and the step's id."""

WITHIN: ContextVar[Within | None] = ContextVar("WITHIN", default=None)
"""The call that the current code is a part of, be it in a thread or in a task that it has created.

The call may have ended since.
"""

"""Keeps errors of telemetry away from what it looks at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
logger = logging.getLogger(__name__)


class Guard:
    """Calls what observes, and logs what that raises: once as an error, later for debugging."""

    def __init__(self) -> None:
        self._has_failed = False

    def __call__(self, observe: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call a function; return None if it raises."""
        try:
            return observe(*args, **kwargs)
        except Exception as error:
            level = logging.DEBUG if self._has_failed else logging.ERROR
            self._has_failed = True
            message = "telemetry failed, and workflows go on without it: %r"
            logger.log(level, message, error, exc_info=error)
            return None

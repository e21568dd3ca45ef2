"""What a worker knows of a handler: the function, and the rules for its workflows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from bluestreak_core.argument import to_timedelta
from bluestreak_core.codec.conversion import Conversion
from bluestreak_core.retry import Backoff
from bluestreak_core.run.handler import Handler

logger = logging.getLogger(__name__)

ErrorCallback = Callable[[str, Any], object]
"""Called with a workflow id and the exception that failed it; sync, or async and awaited."""


class Unset(Enum):
    """What stands for an argument that was not given, where None means something."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "the engine's setting"


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a run leaves memory, and when a workflow is tried again or given up."""

    wait_retry_interval: timedelta | Backoff
    max_failures: int | None
    max_crashes: int | None
    park_after: timedelta
    error_callback: ErrorCallback | None
    deadline: timedelta | None = None
    conversion: Conversion | None = None

    def pause_after(self, failures: int) -> timedelta:
        """How long to wait after so many failures; a minute if a subclass of `Backoff` fails."""
        if not isinstance(self.wait_retry_interval, Backoff):
            return self.wait_retry_interval
        try:
            return to_timedelta("delay", self.wait_retry_interval.delay(failures))
        except Exception:
            logger.exception("a Backoff has failed; the workflow is tried again in a minute")
            return timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A handler, its policy, and the lease of its workflows."""

    handler: Handler
    policy: Policy
    lease: timedelta

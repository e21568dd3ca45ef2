"""What a workflow records while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bluestreak_core.model.error import ErrorRecord
from bluestreak_core.model.message import Receipt

WAITING = ErrorRecord(type="waiting", message="until then, for a message", traceback="")
"""Stands where no error has occurred; see `Attempt`."""


BEGUN = "begun"
"""The type of the error of an attempt that has begun; its message is the token of the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A recorded step. `saved_at` is None where the JavaScript library recorded it.

    A step that received a message has its payload as the output, and a `receipt`.
    """

    workflow_id: str
    step_id: str
    output: Any
    saved_at: datetime | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nap:
    """A recorded nap. `saved_at` is None where the JavaScript library recorded it."""

    workflow_id: str
    nap_id: str
    wake_up_at: datetime
    saved_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A failed attempt of a step with a retry policy.

    `round` is how often the workflow had been retried before. `number` counts the attempts of one
    round from 1. `retry_at` is when the next attempt is due; None after the last one.

    A `receive` with a timeout keeps the end of its wait in the same way, as the `retry_at` of
    attempt 0, whose error is `WAITING`. The begin of attempt n of a step that is called at most
    once is kept as attempt -n.
    """

    workflow_id: str
    step_id: str
    round: int
    number: int
    error: ErrorRecord
    retry_at: datetime | None
    saved_at: datetime

    @property
    def is_wait(self) -> bool:
        """Whether it is the wait of a `receive`, and nothing has failed."""
        return self.number == 0

    @property
    def is_begin(self) -> bool:
        """Whether it is the begin of attempt `-number`, and nothing has failed yet."""
        return self.number < 0

    @property
    def order(self) -> tuple[int, bool]:
        """Its place among the attempts of a round: what came of an attempt follows its begin."""
        return abs(self.number), self.number > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a workflow has recorded so far.

    `steps` maps step ids to outputs, `naps` nap ids to wake-up instants, `attempts` step ids to the
    latest attempt of the current round, and `receipts` the ids of steps that received a
    message, or none in time, to what they have got.
    """

    steps: dict[str, Any] = field(default_factory=dict)
    naps: dict[str, datetime] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)

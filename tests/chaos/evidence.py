"""All that an audit is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import Attempt, Nap, Step, Workflow
from tests.chaos.history import Change, Odd
from tests.chaos.ledger import Call, Effect
from tests.chaos.stories import Answer, Story
from tests.chaos.workload import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What came of starting a workflow.

    `accepted` is None where nobody can know. `asked_again` means that an earlier attempt had no
    answer, so False may mean that it is there.
    """

    order: Order
    accepted: bool | None
    asked_again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of sending a message.

    `is_new` is the answer: whether it was sent for the first time; None if it was refused, since
    the workflow had finished or was gone.
    """

    workflow_id: str
    message_id: str
    is_new: bool | None
    answered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A message in a mailbox; one that `is_refused` has come too late."""

    workflow_id: str
    message_id: str
    is_refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the test knows, what the ledger says, and what the database holds at the end."""

    lease: timedelta
    starts: Sequence[Start]
    results: Mapping[str, Any]
    """What `wait` has returned, by workflow id, while all was going on."""
    calls: Sequence[Call]
    workflows: Mapping[str, Workflow]
    steps: Sequence[Step]
    naps: Sequence[Nap]
    history: Sequence[Change]
    attempts: Sequence[Attempt] = field(default=())
    mail: Sequence[Mail] = field(default=())
    effects: Sequence[Effect] = field(default=())
    sent: Sequence[Sent] = field(default=())
    cancelled: Collection[str] = field(default=())
    """The workflows that an answer has said to be cancelled."""
    stories: Mapping[str, Story] = field(default_factory=dict)
    answers: Sequence[Answer] = field(default=())
    odd: Sequence[Odd] = field(default=())
    complaints: Sequence[str] = field(default=())
    """Workers that ended by themselves or badly, or logged an error."""

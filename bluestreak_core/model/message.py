"""Messages, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to send. No two messages to one workflow have the same `message_id`."""

    workflow_id: str
    message_id: str
    name: str
    payload: Any
    sent_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a `receive` has got: a message, or, where the fields are None, none in time."""

    message_id: str | None = None
    name: str | None = None
    sent_at: datetime | None = None

    @classmethod
    def of(cls, message: NewMessage | None) -> Receipt:
        """The receipt of a message; of none in time for None."""
        if message is None:
            return cls()
        return cls(message_id=message.message_id, name=message.name, sent_at=message.sent_at)

    @property
    def timed_out(self) -> bool:
        """Whether no message came in time."""
        return self.message_id is None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMessage:
    """The answer of a mailbox that has none of the messages asked for.

    `mail` is a count of the workflow's messages from before the look: while the workflow has no
    other one, the mailbox still has none.
    """

    mail: int

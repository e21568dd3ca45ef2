"""The messages to one workflow."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection

from bluestreak_core.model import NewMessage

Numbered = tuple[int, NewMessage]


class Mailbox:
    """Keeps messages in the order in which they came, until they are taken."""

    def __init__(self) -> None:
        self._messages: dict[str, NewMessage] = {}
        """By id, taken or not."""
        self._unread: dict[str, deque[Numbered]] = {}
        """By name."""

    def __len__(self) -> int:
        """How many have come, taken or not."""
        return len(self._messages)

    def add(self, message: NewMessage) -> bool:
        """Add a message, unless there has been one of its id."""
        if message.message_id in self._messages:
            return False
        numbered = (len(self._messages), message)
        self._messages[message.message_id] = message
        self._unread.setdefault(message.name, deque()).append(numbered)
        return True

    def put_back(self, message_id: str) -> None:
        """Put a message back that was taken, to its place."""
        message = self._messages[message_id]
        unread = self._unread.setdefault(message.name, deque())
        unread.append((list(self._messages).index(message_id), message))
        self._unread[message.name] = deque(sorted(unread, key=_number))

    def has_had(self, message_id: str) -> bool:
        """Whether a message of this id has come, taken or not."""
        return message_id in self._messages

    def find(self, message_id: str) -> NewMessage | None:
        """The message of this id, taken or not."""
        return self._messages.get(message_id)

    def take(self, names: Collection[str]) -> NewMessage | None:
        """Take out the first message of one of these names."""
        firsts = [self._unread[name][0] for name in names if self._unread.get(name)]
        if not firsts:
            return None
        _, message = min(firsts, key=_number)
        self._unread[message.name].popleft()
        return message

    def unread(self, limit: int) -> list[NewMessage]:
        """The first messages that have not been taken."""
        in_order = sorted(itertools.chain(*self._unread.values()), key=_number)
        return [message for _, message in in_order[:limit]]


def _number(numbered: Numbered) -> int:
    return numbered[0]

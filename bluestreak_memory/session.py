"""The session of a transaction in memory."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import TypeVar

from bluestreak_core.errors import InvalidArgument
from bluestreak_core.model import Workflow

K = TypeVar("K")
V = TypeVar("V")


class MemorySession:
    """Makes the writes of a transaction, and undoes them if it fails.

    There is no isolation: others see a change before the transaction has committed, and what they
    do to the same key meanwhile is lost if it fails. For tests that is enough.
    """

    def __init__(self) -> None:
        self.is_open = True
        """Whether the transaction is under way."""
        self.workflows: dict[str, Workflow] = {}
        """The workflows that the commit will start or move, as they will be then."""
        self.sent: set[tuple[str, str]] = set()
        """The ids of workflows and of the messages that the commit will send to them."""
        self._undo: list[Callable[[], object]] = []
        self._before_commit: list[Callable[[], object]] = []
        self._after_commit: list[Callable[[], object]] = []

    def check_open(self) -> None:
        """Raise `InvalidArgument` if the transaction is over."""
        if not self.is_open:
            raise InvalidArgument("session", self, "its transaction is over")

    def set(self, mapping: MutableMapping[K, V], key: K, value: V) -> None:
        """`mapping[key] = value`, until the transaction fails."""
        self.check_open()
        if key in mapping:
            before = mapping[key]
            self._undo.append(lambda: mapping.__setitem__(key, before))
        else:
            self._undo.append(lambda: mapping.pop(key, None))
        mapping[key] = value

    def delete(self, mapping: MutableMapping[K, V], key: K) -> None:
        """`del mapping[key]`, until the transaction fails."""
        self.check_open()
        before = mapping.pop(key)
        self._undo.append(lambda: mapping.__setitem__(key, before))

    def undo(self, callback: Callable[[], object]) -> None:
        """Have this called if the transaction fails. The last callback is called first."""
        self.check_open()
        self._undo.append(callback)

    def before_commit(self, callback: Callable[[], object]) -> None:
        """Have this called at the commit, which fails if the callback raises."""
        self.check_open()
        self._before_commit.append(callback)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Have this called when the transaction can no longer fail. It must not raise."""
        self.check_open()
        self._after_commit.append(callback)

    def commit(self) -> None:
        """End the transaction. If this raises, roll it back."""
        self.check_open()
        for callback in self._before_commit:
            callback()
        self.is_open = False
        for callback in self._after_commit:
            callback()

    def roll_back(self) -> None:
        """Undo everything, the last write first. A repeat does nothing."""
        if self.is_open:
            self.is_open = False
            for callback in reversed(self._undo):
                callback()

"""A transaction in memory: what it does is visible at once, and taken back if it fails."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import TypeVar

from bluestreak_core.errors import InvalidArgument
from bluestreak_core.model import Workflow

K = TypeVar("K")
V = TypeVar("V")


class MemorySession:
    """What a function in a transaction writes by, so that it can be undone.

    There is no isolation: others see a change before the transaction is through, and what they do
    to the same key meanwhile is lost if it fails. For tests that is enough.
    """

    def __init__(self) -> None:
        self.is_open = True
        """Whether the transaction is under way."""
        self.workflows: dict[str, Workflow] = {}
        """Those that a store is to start or move when it is through, as they will be then."""
        self._undo: list[Callable[[], object]] = []
        self._commit: list[Callable[[], object]] = []
        self._acts: list[Callable[[], object]] = []

    def set(self, mapping: MutableMapping[K, V], key: K, value: V) -> None:
        """`mapping[key] = value`, until the transaction fails."""
        self._check_open()
        if key in mapping:
            before = mapping[key]
            self._undo.append(lambda: mapping.__setitem__(key, before))
        else:
            self._undo.append(lambda: mapping.pop(key, None))
        mapping[key] = value

    def delete(self, mapping: MutableMapping[K, V], key: K) -> None:
        """`del mapping[key]`, until the transaction fails."""
        self._check_open()
        before = mapping.pop(key)
        self._undo.append(lambda: mapping.__setitem__(key, before))

    def undo(self, callback: Callable[[], object]) -> None:
        """Have this called if the transaction fails, before what was given earlier."""
        self._check_open()
        self._undo.append(callback)

    def before_commit(self, callback: Callable[[], object]) -> None:
        """Have this called when the transaction is through; what it raises makes it fail."""
        self._check_open()
        self._commit.append(callback)

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Have this called when nothing can make the transaction fail any more. It must not."""
        self._check_open()
        self._acts.append(callback)

    def commit(self) -> None:
        """End the transaction well, or raise and have it taken back."""
        self._check_open()
        for callback in self._commit:
            callback()
        self.is_open = False
        for callback in self._acts:
            callback()

    def roll_back(self) -> None:
        """Take back all that was done, the last first. A repeat does nothing."""
        if self.is_open:
            self.is_open = False
            for callback in reversed(self._undo):
                callback()

    def _check_open(self) -> None:
        if not self.is_open:
            raise InvalidArgument("session", self, "its transaction is over")

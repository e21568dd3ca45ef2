"""How far a worker looks for due workflows when other workers do the same."""

from __future__ import annotations

WIDEST = 8
CALM = 8
"""Claims in a row without a loss, after which a worker searches half as wide a range."""


class SearchRange:
    """Widens after a claim that lost workflows to another worker, and narrows in calm times.

    A worker with a narrow range tries for the workflows that are due longest. With a wider one it
    tries for a random choice, so that several workers do not chase the same few.
    """

    def __init__(self) -> None:
        self.width = 1
        """How many times the limit of a claim is searched."""
        self._undisturbed = 0

    @property
    def is_narrow(self) -> bool:
        """Whether the range is no wider than the limit."""
        return self.width == 1

    def adapt(self, tried: int, won: int) -> None:
        """Take a claim into account that tried for some workflows and won some."""
        if won < tried:
            self._undisturbed = 0
            self.width = min(self.width * 2, WIDEST)
            return
        self._undisturbed += 1
        if self._undisturbed % CALM == 0:
            self.width = max(self.width // 2, 1)

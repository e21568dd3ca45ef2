"""The workflows whose ends callers in this process wait for."""

from __future__ import annotations

from collections import Counter, OrderedDict

_REMEMBERED = 10_000
"""How many workflows are remembered that were read, or have ended, without a caller that waits."""


class Awaited:
    """The workflows whose ends are waited for. A caller names them by id, an event by `_id`.

    Reads teach which is which. A read comes before its wait, and may come after the event.
    """

    def __init__(self) -> None:
        self._callers: Counter[str] = Counter()
        self._keys: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._looked_at: OrderedDict[str, None] = OrderedDict()
        self._lately_ended: OrderedDict[bytes, None] = OrderedDict()

    @property
    def count(self) -> int:
        """How many workflows are waited for."""
        return len(self._callers)

    def add(self, workflow_id: str) -> None:
        """One more caller waits for this workflow."""
        self._callers[workflow_id] += 1

    def remove(self, workflow_id: str) -> None:
        """A caller of this workflow waits no more."""
        self._callers[workflow_id] -= 1
        if not self._callers[workflow_id]:
            del self._callers[workflow_id]
            self._forget_unless_wanted(workflow_id)

    def identify(self, workflow_id: str, key: bytes) -> bool:
        """Learn a workflow's `_id`. True, once, if its end was heard of before that."""
        self._keys[workflow_id] = key
        self._names[key] = workflow_id
        self._looked_at[workflow_id] = None
        self._looked_at.move_to_end(workflow_id)
        if len(self._looked_at) > _REMEMBERED:
            oldest, _ = self._looked_at.popitem(last=False)
            self._forget_unless_wanted(oldest)
        if key not in self._lately_ended:
            return False
        del self._lately_ended[key]
        return True

    def ended(self, key: bytes) -> str | None:
        """The workflow that has ended, if it is known by a look."""
        if key in self._names:
            return self._names[key]
        self._lately_ended[key] = None
        if len(self._lately_ended) > _REMEMBERED:
            self._lately_ended.popitem(last=False)
        return None

    def _forget_unless_wanted(self, workflow_id: str) -> None:
        if workflow_id not in self._callers and workflow_id not in self._looked_at:
            self._names.pop(self._keys.pop(workflow_id, b""), None)

"""The workflows that callers in this process wait for, and how events are known to be theirs."""

from __future__ import annotations

from collections import Counter, OrderedDict

_REMEMBERED = 10_000
"""How many workflows are remembered that were read, or that events came of, without a caller."""


class Awaited:
    """The workflows of which an event is awaited. A caller names them by id, an event by `_id`.

    Reads teach which is which. A read comes before its wait, and may come after the event.
    """

    def __init__(self) -> None:
        self._callers: Counter[str] = Counter()
        self._keys: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._looked_at: OrderedDict[str, None] = OrderedDict()
        self._lately: OrderedDict[bytes, None] = OrderedDict()

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
        """Learn a workflow's `_id`. True, once, if an event was heard of before that."""
        self._keys[workflow_id] = key
        self._names[key] = workflow_id
        self._looked_at[workflow_id] = None
        self._looked_at.move_to_end(workflow_id)
        if len(self._looked_at) > _REMEMBERED:
            oldest, _ = self._looked_at.popitem(last=False)
            self._forget_unless_wanted(oldest)
        if key not in self._lately:
            return False
        del self._lately[key]
        return True

    def heard_of(self, key: bytes) -> str | None:
        """The workflow that an event is about, if it is known by a look."""
        if key in self._names:
            return self._names[key]
        self._lately[key] = None
        if len(self._lately) > _REMEMBERED:
            self._lately.popitem(last=False)
        return None

    def _forget_unless_wanted(self, workflow_id: str) -> None:
        if workflow_id not in self._callers and workflow_id not in self._looked_at:
            self._names.pop(self._keys.pop(workflow_id, b""), None)

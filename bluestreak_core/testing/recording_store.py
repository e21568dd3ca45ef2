"""A store that counts its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from typing_extensions import override

from bluestreak_core.concurrency import WakeUp
from bluestreak_core.store import Store, StoreWrapper

T = TypeVar("T")


class RecordingStore(StoreWrapper):
    """Counts the calls that have begun and those that have returned, and lets a test await them."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.begun: Counter[str] = Counter()
        self.returned: Counter[str] = Counter()
        self.failing: dict[str, Exception] = {}
        """Errors by call name; such a call raises the error instead of being carried out."""
        self._changed = WakeUp()

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.begun[name] += 1
        self._changed.notify()
        if name in self.failing:
            raise self.failing[name]
        result = await call()
        self.returned[name] += 1
        self._changed.notify()
        return result

    async def until_begun(self, name: str, count: int = 1) -> None:
        """Return when a call has begun `count` times in all."""
        while self.begun[name] < count:
            await self._changed.wait()

    async def until_returned(self, name: str, count: int = 1) -> None:
        """Return when a call has returned `count` times in all."""
        while self.returned[name] < count:
            await self._changed.wait()

"""Virtual time over a real server: it stands still while a call of the store is under way.

The store runs on an event loop in a thread, for all tests of this folder. The environment of a
test, whose loop waits for threads but not for sockets, hands each call over to it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from typing_extensions import override

from bluestreak_core import Claim, ClaimRequest, Clock, Failure, Hints, Store
from bluestreak_core.concurrency import WakeUp, finish_despite_cancel, first_of
from bluestreak_core.machine import Transition
from bluestreak_core.testing import ManualClock, StoreWrapper

T = TypeVar("T")

_NEWS_FOR_NOBODY = (
    *("find_", "history", "records", "count", "claim", "renew", "save_", "receive"),
    *("register_", "unregister_"),
)
"""The beginnings of the calls after which nobody has to look again."""

_NO_WORK = ("finish", "fail", "park")
"""Those after which no worker has to, but for what `ServerStore` notes as due."""


class StoreThread:
    """A store on an event loop in a thread. `clock` is to show the time of the current test."""

    def __init__(self, make: Callable[[Clock], Store]) -> None:
        self.clock = _BorrowedClock()
        self.store = make(self.clock)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="conformance store")
        self._thread.start()
        self.run(self.store.init())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on that loop, and wait for its end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Close the store, and end the thread."""
        self.run(self.store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ServerStore(StoreWrapper):
    """The store of a thread, for an environment: it makes each call there, and waits here.

    Its waits are hints from its own calls, since there are no others.
    """

    def __init__(self, thread: StoreThread, clock: Clock) -> None:
        super().__init__(thread.store)
        thread.clock.shown = clock
        self._thread = thread
        self._clock = clock
        self._hints = Hints(clock)
        self._due: set[datetime] = set()
        self._written = WakeUp()

    @property
    @override
    def clock(self) -> Clock:
        return self._clock

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        async def there() -> T:
            return await call()

        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(None, lambda: self._thread.run(there()))
        try:
            return await finish_despite_cancel(job)
        finally:
            self._report(name)

    def _report(self, name: str) -> None:
        if name.startswith(_NEWS_FOR_NOBODY):
            return
        self._written.notify()
        if not name.startswith(_NO_WORK) or name == "park_until_message":
            self._hints.missed_something()

    @override
    async def init(self) -> None: ...

    @override
    async def close(self) -> None: ...

    @override
    def renewer(self) -> None:
        """Leases are renewed by the event loop, which is never blocked."""

    # Due times ------------------------------------------------------------------------------------

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        self._hints.looking(request.now)
        claims = await super().claim(request)
        self._due = {due_at for due_at in self._due if due_at > request.now}
        self._note(request.now + request.lease if claims else None, *self._due)
        return claims

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        lost = await super().renew(claims, now, lease)
        self._note(now + lease)
        return lost

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await super().park(claim, wake_up_at)
        self._note(wake_up_at)

    @override
    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, *args: Any, **options: Any
    ) -> None:
        await super().park_until_message(claim, wake_up_at, *args, **options)
        self._note(wake_up_at)

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await super().fail(claim, failure, now)
        self._note(failure.retry_at)

    def _note(self, *due_at: datetime | None) -> None:
        for instant in filter(None, due_at):
            self._due.add(instant)
            self._hints.due(instant)

    # Waits ----------------------------------------------------------------------------------------

    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        await super().control(workflow_id, event, now, reason)
        self._hints.controlled()

    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        await self._hints.wait_for_work(timeout)

    @override
    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        is_in_time = True
        while is_in_time:
            seen = self._written.count
            standing = await self.find_standing(workflow_id)
            if standing is None or standing.status.ended:
                return True
            is_in_time = await self._until_written(seen, timeout)
        return False

    @override
    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        return await self._hints.wait_for_control(since, timeout)

    @override
    async def wait_for_message(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        seen = self._written.count
        workflow = await self.find_workflow(workflow_id)
        if workflow is None or workflow.mail != mail:
            return True
        return await self._until_written(seen, timeout)

    async def _until_written(self, seen: int, timeout: timedelta) -> bool:
        await first_of(self._written.wait(seen), self._clock.sleep(timeout))
        return self._written.count != seen


class _BorrowedClock:
    """Shows the time of another clock; sleeps in real time."""

    def __init__(self) -> None:
        self.shown: Clock = ManualClock()

    def now(self) -> datetime:
        return self.shown.now()

    def monotonic(self) -> float:
        return self.shown.monotonic()

    async def sleep(self, span: timedelta) -> None:
        await asyncio.sleep(span.total_seconds())

"""How the workers of a process get work: they claim what is due, and wait in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from bluestreak_core.adapter import JUMP, Timekeeper
from bluestreak_core.clock import Clock, in_milliseconds
from bluestreak_core.concurrency import pauses
from bluestreak_core.model import Claim, ClaimRequest
from bluestreak_core.store import Hints
from bluestreak_mongo import transitions
from bluestreak_mongo.claiming import Claiming
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import reads, writes
from bluestreak_mongo.feed import Feed
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.unreadable import UnreadableDocuments


def _poll_pauses() -> Iterator[timedelta]:
    """Pauses between polls without a change stream: they grow until a poll finds work."""
    return pauses(timedelta(days=1))


class Work:
    """Claims for the workers of a process, and the wait of those that are idle."""

    def __init__(
        self,
        *,
        database: Database,
        unreadable: UnreadableDocuments,
        feed: Feed,
        hints: Hints,
        clock: Clock,
        timekeeper: Timekeeper | None,
    ) -> None:
        self._database = database
        self._unreadable = unreadable
        self._claiming = Claiming(database, unreadable)
        self._feed = feed
        self._hints = hints
        self._clock = clock
        self._timekeeper = timekeeper
        self._poll_pauses = _poll_pauses()

    @writes
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        """See `Store.claim`."""
        arrived = self._hints.looking(request.now)
        self._feed.rivalry.knows(request.worker)
        if self._timekeeper is not None and abs(await self._timekeeper.refresh()) >= JUMP:
            # By `now`, other workflows are due, and leases would end at another time than meant.
            self._hints.due(self._clock.now())
            return []
        claims = await self._claim(request, arrived)
        if claims:
            self._poll_pauses = _poll_pauses()
        return claims

    async def wait(self, timeout: timedelta) -> None:
        """See `Store.wait_for_work`."""
        arrivals = self._hints.arrivals
        with self._feed.waiting():
            now = self._clock.now()
            await self._inspect(now)
            next_due = await self._find_next_due(self._hints.looked_at, now, timeout)
            if next_due is not None:
                self._hints.due(next_due)
            pause = timeout if self._feed.is_live else min(timeout, next(self._poll_pauses))
            await self._hints.wait_for_work(pause, arrivals)

    async def _claim(self, request: ClaimRequest, arrived: int) -> Sequence[Claim]:
        claims: Sequence[Claim] = []
        if arrived == 1 and self._claiming.was_in_vain:
            claims = await self._claiming.claim_one(request)
        return claims or await self._claiming.claim(request)

    @reads
    async def _inspect(self, now: datetime) -> None:
        await self._claiming.inspect(now)

    @reads
    async def _find_next_due(
        self, after: datetime, now: datetime, horizon: timedelta
    ) -> datetime | None:
        """When the next nap or retry ends, whichever process has recorded it."""
        soon = transitions.due_between(after, now + horizon) | self._unreadable.excluded(now)
        found = await self._database.tolerant_workflows.find_one(
            soon, {"_id": 0, wf.TIMEOUT_AT: 1}, sort=[(wf.TIMEOUT_AT, 1)]
        )
        due_at = None if found is None else found[wf.TIMEOUT_AT]
        return in_milliseconds(due_at) if isinstance(due_at, datetime) else None

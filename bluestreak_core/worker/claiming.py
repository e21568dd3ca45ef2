"""Claiming due workflows, and beginning their runs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import ClaimLost, HandlerNotFound, StoreError
from bluestreak_core.model import Claim, ClaimRequest
from bluestreak_core.run import Handlers, Lease, Run, SharedHistories
from bluestreak_core.run.log import fields
from bluestreak_core.store import Store
from bluestreak_core.worker.health import Contact
from bluestreak_core.worker.runs import Runs

logger = logging.getLogger(__name__)


class Claiming:
    """Claims workflows for a worker, and begins their runs.

    If the handler of a workflow is not registered, its claim is released, and `on_error` is called
    with a `HandlerNotFound`. With `skip_unknown`, such workflows are not claimed.
    """

    def __init__(
        self,
        worker: str,
        store: Store,
        handlers: Handlers,
        runs: Runs,
        contact: Contact,
        *,
        skip_unknown: bool,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._worker = worker
        self._store = store
        self._clock = store.clock
        self._handlers = handlers
        self._runs = runs
        self._contact = contact
        self._skip_unknown = skip_unknown
        self._on_error = on_error

    async def claim(self, limit: int) -> int:
        """Claim up to `limit` workflows, and begin their runs; return the number of claims."""
        lease = self._handlers.shortest_lease
        # Measured before `now` is read, so that no lease outlasts the one in the store.
        deadline = self._clock.monotonic() + lease.total_seconds()
        handler_ids = self._handlers.ids if self._skip_unknown else None
        now = self._clock.now()
        claims = await self._store.claim(
            ClaimRequest(
                worker=self._worker, now=now, lease=lease, limit=limit, handlers=handler_ids
            )
        )
        self._contact.succeeded()
        self._contact.claims += len(claims)
        if logger.isEnabledFor(logging.DEBUG):
            _log(claims)
        known = [claim for claim in claims if self._knows(claim)]
        await self._begin([self._new_run(claim, deadline) for claim in known])
        for claim in claims:
            if not self._knows(claim):
                await self._refuse(claim)
        return len(claims)

    def _knows(self, claim: Claim) -> bool:
        return claim.workflow.handler_id in self._handlers

    def _new_run(self, claim: Claim, deadline: float) -> Run:
        registration = self._handlers[claim.workflow.handler_id]
        lease = Lease(claim, self._clock, deadline, registration.lease)
        return Run(self._store, lease, registration, lambda: self._runs.are_full)

    async def _begin(self, runs: Sequence[Run]) -> None:
        """Begin the runs, but only one suspect at a time, so that a crash names the culprit."""
        suspects = [run for run in runs if run.is_suspect]
        suspect_runs = any(run.is_suspect for run in self._runs.all())
        put_off = suspects if suspect_runs else suspects[1:]
        histories = SharedHistories(
            self._store, [run.lease.claim for run in runs if run not in put_off]
        )
        for run in runs:
            if run not in suspects:
                self._runs.begin(run, histories)
        await self._put_off(put_off, histories)
        for run in suspects:
            if run not in put_off:
                logger.warning(
                    "workflow %r is suspected of crashing workers",
                    run.workflow_id,
                    extra=fields(run.lease.claim.workflow),
                )
                self._runs.begin(run, histories)

    async def _put_off(self, runs: Sequence[Run], histories: SharedHistories) -> None:
        """Park workflows for random times; return when that is recorded.

        A suspect must not begin before: its crash would count against them as well.
        """
        for run in runs:
            pause = self._handlers.lease * random.random()  # noqa: S311 - nothing secret
            run.put_off(in_milliseconds(self._clock.now() + pause))
        if tasks := [self._runs.begin(run, histories) for run in runs]:
            await asyncio.wait(tasks)

    async def _refuse(self, claim: Claim) -> None:
        self._on_error(HandlerNotFound(claim.workflow.handler_id, claim.workflow_id))
        try:
            await self._store.release(claim, self._clock.now())
        except (StoreError, ClaimLost) as error:
            logger.warning(
                "workflow %r could not be released: %r",
                *(claim.workflow_id, error),
                extra=fields(claim.workflow),
            )


def _log(claims: Sequence[Claim]) -> None:
    for claim in claims:
        logger.debug(
            "workflow %r: claim %d begins",
            *(claim.workflow_id, claim.number),
            extra=fields(claim.workflow),
        )

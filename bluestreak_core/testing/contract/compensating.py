"""Workflows that compensate, for the rules of `CompensationContract`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from bluestreak_core import machine
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, ClaimRequest, Status, Workflow
from bluestreak_core.store import (
    Store,
    SupportsCompensation,
)
from bluestreak_core.testing.contract.arrange import (
    ERROR,
    LEASE,
    NOW,
    SECOND,
    claimed,
    failure,
    found,
)

LATER = NOW + SECOND


class Compensating(Store, SupportsCompensation, Protocol):
    """A store whose workflows can compensate."""


Ending = Callable[[Compensating, Claim, datetime], Awaitable[None]]

ENDINGS: Mapping[str, tuple[Ending, Callable[[Workflow, datetime], Workflow]]] = {
    "postpone": (
        lambda store, claim, now: store.postpone(claim, now + SECOND),
        lambda workflow, now: machine.postpone(workflow, now + SECOND),
    ),
    "end_compensated": (
        lambda store, claim, now: store.end_compensated(claim, now),
        machine.end_compensated,
    ),
}
"""The calls by which the holder ends a claim to compensate, and what becomes of the workflow."""


async def promised(store: Compensating, workflow_id: str = "w") -> Claim:
    """A claim on a workflow that has promised to compensate."""
    claim = await claimed(store, workflow_id)
    await store.promise(claim)
    return claim


async def stopped(store: Compensating, outcome: Status = Status.CANCELLED) -> Workflow:
    """A workflow that is to end as this, and whose compensations are due."""
    claim = await promised(store)
    if outcome is Status.ABORTED:
        await store.give_up(claim, ERROR, LATER)
    else:
        await store.control("w", Transition.CANCEL, LATER, "why")
        await store.hand_over(claim, LATER)
    return await found(store, "w")


async def compensating(
    store: Compensating, outcome: Status = Status.CANCELLED, *, now: datetime = LATER
) -> Claim:
    """A claim to compensate."""
    await stopped(store, outcome)
    return await claim_next(store, now)


async def claim_next(store: Store, now: datetime, worker: str = "worker") -> Claim:
    """A claim on the one workflow that is due."""
    (claim,) = await store.claim(ClaimRequest(worker=worker, now=now, lease=LEASE, limit=1))
    return claim


async def parked(store: Compensating) -> None:
    """A workflow that compensates, and waits for a long time."""
    await store.park(await promised(store), NOW + LEASE)


async def _pause(store: Compensating) -> None:
    await parked(store)
    await store.control("w", Transition.PAUSE, NOW)


async def _fail(store: Compensating) -> None:
    await store.fail(await promised(store), failure(NOW + LEASE), NOW)


PLACES: Mapping[Status, Callable[[Compensating], Awaitable[Any]]] = {
    Status.IDLE: parked,
    Status.FAILED: _fail,
    Status.RUNNING: promised,
    Status.PAUSED: _pause,
}
"""Where a workflow that compensates can be when it is cancelled."""

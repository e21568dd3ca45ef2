"""A store around a store, to be subclassed: for tests, faults and telemetry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from bluestreak_core.clock import Clock
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    FailedStep,
    Failure,
    History,
    Nap,
    NewWorkflow,
    Standing,
    Step,
    Workflow,
)
from bluestreak_core.store.protocol import Store
from bluestreak_core.store.wrapped_powers import WrappedPowers

UNCOUNTED = frozenset(
    {
        *("init", "close"),
        *("wait_for_work", "wait_for_end", "wait_for_control", "wait_for_message"),
        "find_unsettled",
        *("register_worker", "unregister_worker"),
    }
)
"""The calls that no run depends on; tools that count calls leave them out."""


class StoreWrapper(WrappedPowers, Store):
    """Passes every call to another store through `around`, a line for each; not those of a renewer.

    A call for a power that the other store lacks raises `Unsupported`.
    """

    @property
    @override
    def clock(self) -> Clock:
        return self._store.clock

    @override
    async def init(self) -> None:
        await self.around("init", self._store.init)

    @override
    async def close(self) -> None:
        await self.around("close", self._store.close)

    @override
    async def create(self, new: NewWorkflow) -> bool:
        return await self.around("create", lambda: self._store.create(new))

    @override
    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        return await self.around("create_many", lambda: self._store.create_many(new))

    @override
    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        return await self.around("find_workflow", lambda: self._store.find_workflow(workflow_id))

    @override
    async def find_standing(self, workflow_id: str) -> Standing | None:
        return await self.around("find_standing", lambda: self._store.find_standing(workflow_id))

    @override
    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        return await self.around("find_step", lambda: self._store.find_step(workflow_id, step_id))

    @override
    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        return await self.around("find_nap", lambda: self._store.find_nap(workflow_id, nap_id))

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        return await self.around("claim", lambda: self._store.claim(request))

    @override
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        return await self.around("history", lambda: self._store.history(claims))

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        return await self.around("renew", lambda: self._store.renew(claims, now, lease))

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        return await self.around(
            "save_step", lambda: self._store.save_step(claim, step_id, output, now)
        )

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        return await self.around(
            "save_nap", lambda: self._store.save_nap(claim, nap_id, wake_up_at, now)
        )

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        return await self.around("save_attempt", lambda: self._store.save_attempt(claim, attempt))

    @override
    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        await self.around("fail_step", lambda: self._store.fail_step(claim, failed))

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await self.around("park", lambda: self._store.park(claim, wake_up_at))

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        await self.around("release", lambda: self._store.release(claim, now))

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        await self.around("finish", lambda: self._store.finish(claim, result, now))

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await self.around("fail", lambda: self._store.fail(claim, failure, now))

    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        await self.around("control", lambda: self._store.control(workflow_id, event, now, reason))

    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        await self.around("wait_for_work", lambda: self._store.wait_for_work(timeout))

    @override
    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        return await self.around(
            "wait_for_end", lambda: self._store.wait_for_end(workflow_id, since, timeout)
        )

    @override
    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        return await self.around(
            "wait_for_control", lambda: self._store.wait_for_control(worker, since, timeout)
        )

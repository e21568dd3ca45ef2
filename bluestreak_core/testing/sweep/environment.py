"""The environment of a rerun in a crash sweep: it notes what happens, and crashes the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from typing_extensions import override

from bluestreak_core.clock import Clock
from bluestreak_core.errors import Unsupported
from bluestreak_core.machine import Transition
from bluestreak_core.model import Attempt, Claim, ClaimRequest, Failure, Status
from bluestreak_core.run import Handler, HandlerPolicy, RunInfo, UserCall
from bluestreak_core.store import Store, StoreWrapper
from bluestreak_core.store.wrapper import UNCOUNTED
from bluestreak_core.testing.sweep.rerun import WORKFLOW_ID, Rerun
from bluestreak_core.testing.virtual.environment import Environment, Outcome
from bluestreak_core.testing.virtual.watch import StepWatch

T = TypeVar("T")


class SweptEnvironment(Environment):
    """An environment that crashes where a run is to, and tells it what happens."""

    def __init__(self, rerun: Rerun) -> None:
        self._rerun = rerun
        super().__init__(
            worker_store=lambda store: _CrashingStore(store, rerun, self.crash), **rerun.settings
        )

    @override
    def _observed(self, store: Store) -> Store:
        return _NotingStore(store, self._rerun)

    @override
    def _new_watch(self, clock: Clock) -> StepWatch:
        return _SweepWatch(clock, self._rerun)

    def begin(self, handler: Handler, input: Any, policy: HandlerPolicy | None) -> None:
        """Start the workflow that is swept."""
        self.start(WORKFLOW_ID, self._registered(handler, policy), input)

    def ended(self) -> dict[str, Outcome]:
        """What has become of all workflows, once they have ended and are cleaned up."""
        self.wait(WORKFLOW_ID)
        while going_on := [one for one, status in self._all().items() if not status.ended]:
            self.wait(going_on[0])
        if Status.CANCELLED in self._all().values():
            self.call(self._at_rest())
        return {workflow_id: self.outcome(workflow_id) for workflow_id in self._all()}

    def _all(self) -> dict[str, Status]:
        try:
            return {one.workflow_id: one.status for one in self.call(self.bluestreak.list())}
        except Unsupported:
            return {WORKFLOW_ID: self.outcome(WORKFLOW_ID).status}

    async def _at_rest(self) -> None:
        """Until nothing runs any more: what was cancelled is cleaned up after that."""
        while self._worker is not None and self._worker.health().runs:  # noqa: ASYNC110
            await asyncio.sleep(1)  # of virtual time


class _NotingStore(StoreWrapper):
    """Tells a run of what is carried out, whoever asked for it."""

    def __init__(self, store: Store, rerun: Rerun) -> None:
        super().__init__(store)
        self._seen = rerun.seen

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        claims = await super().claim(request)
        for claim in claims:
            self._seen[claim.workflow_id].note_claim()
        return claims

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        stored = await super().save_step(claim, step_id, output, now)
        self._seen[claim.workflow_id].note_record(step_id)
        return stored

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        stored = await super().transact(claim, step_id, fn, now)
        self._seen[claim.workflow_id].note_record(step_id)
        return stored

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        stored = await super().save_attempt(claim, attempt)
        self._seen[claim.workflow_id].unsettled.discard(attempt.step_id)
        return stored

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await super().park(claim, wake_up_at)
        self._seen[claim.workflow_id].note_end()

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        await super().release(claim, now)
        self._seen[claim.workflow_id].note_end()

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        await super().finish(claim, result, now)
        self._seen[claim.workflow_id].note_end()

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await super().fail(claim, failure, now)
        self._seen[claim.workflow_id].note_end()

    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        await super().control(workflow_id, event, now, reason)
        self._seen[workflow_id].note_control(event)

    @override
    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        await super().control_in(session, workflow_id, event, now, reason)
        self._seen[workflow_id].note_control(event)


class _CrashingStore(StoreWrapper):
    """What a worker sees of the store, until it dies of one of its calls."""

    def __init__(self, store: Store, rerun: Rerun, crash: Callable[[], None]) -> None:
        super().__init__(store)
        self._rerun = rerun
        self._crash = crash
        self._about = ""

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name in UNCOUNTED:
            return await call()
        calls, about, self._about = self._rerun.store_calls, self._about, ""
        calls.append(f"{name}{about}")
        point = self._rerun.point
        if point is None or point.number != len(calls):
            return await call()
        if point.after:
            with suppress(Exception):  # whatever it raises, nobody hears of it
                await call()
        self._rerun.note_crash()
        self._crash()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a dead worker went on")

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        self._about = f" {step_id!r}"
        return await super().save_step(claim, step_id, output, now)

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        self._about = f" {nap_id!r}"
        return await super().save_nap(claim, nap_id, wake_up_at, now)


class _SweepWatch(StepWatch):
    """Lets steps return what they returned in the first run, and notes registered clean-ups."""

    def __init__(self, clock: Clock, rerun: Rerun) -> None:
        super().__init__(clock)
        self._rerun = rerun

    @override
    async def around_step(
        self, call: UserCall, step_id: str, proceed: Callable[[], Awaitable[Any]]
    ) -> Any:
        workflow_id = call.run.claim.workflow_id
        self._rerun.seen[workflow_id].note_call(step_id, call.args)
        output = await proceed()
        outputs = self._rerun.outputs.get(workflow_id, {})
        if step_id not in outputs:
            return output
        return self._rerun.conversion.output(workflow_id, step_id, call.fn, outputs[step_id])

    @override
    def clean_up_registered(self, run: RunInfo, step_id: str) -> None:
        self._rerun.seen[run.claim.workflow_id].asked_for.append(step_id)

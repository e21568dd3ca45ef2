"""What a crash sweep sees of a run: what is stored, and what is called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from typing_extensions import override

from bluestreak_core.machine import Transition
from bluestreak_core.model import Attempt, Claim, ClaimRequest, Failure, NoMessage, Step
from bluestreak_core.run import RunHook, RunInfo, UserCall
from bluestreak_core.store import Store, StoreWrapper
from bluestreak_core.testing.sweep.rerun import Rerun


class ObservedStore(StoreWrapper):
    """Notes in a run what is carried out, for any caller."""

    def __init__(self, store: Store, rerun: Rerun) -> None:
        super().__init__(store)
        self._seen = rerun.seen
        self._past = rerun.past

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
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        found = await super().receive(claim, step_id, names, now, give_up=give_up)
        if isinstance(found, Step):
            self._seen[claim.workflow_id].note_record(step_id)
        return found

    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        steps = (await self.wrapped.history([claim]))[claim.workflow_id].steps
        await super().restart(claim, input, received, now)
        generation = claim.workflow.generation
        self._past.setdefault((claim.workflow_id, generation), steps)
        self._seen[claim.workflow_id].note_restart(generation + 1)

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await super().park(claim, wake_up_at)
        self._seen[claim.workflow_id].note_end()

    @override
    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        await super().park_until_message(claim, wake_up_at, names, mail, now)
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


class StepObserver(RunHook):
    """Notes calls of steps and registered clean-ups. Steps return what the first run recorded."""

    def __init__(self, rerun: Rerun) -> None:
        self._rerun = rerun

    @override
    async def around(self, call: UserCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
        if call.step_id is None:
            return await proceed()
        workflow_id = call.run.claim.workflow_id
        self._rerun.seen[workflow_id].note_call(call.step_id, call.args)
        output = await proceed()
        generation = call.run.claim.workflow.generation
        outputs = self._rerun.outputs.get((workflow_id, generation), {})
        if call.step_id not in outputs:
            return output
        recorded = outputs[call.step_id]
        return self._rerun.conversion.output(workflow_id, call.step_id, call.fn, recorded)

    @override
    def clean_up_registered(self, run: RunInfo, step_id: str) -> None:
        self._rerun.seen[run.claim.workflow_id].asked_for.append(step_id)

"""What the workflows of a simulation do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

from bluestreak_core import Abort, Context, MessageTimeout, Retry, StepFailed
from bluestreak_memory import MemorySession, MemoryStore
from tests.run_watch import current_run
from tests.simulation import (
    compensation_invariant,
    lasting_invariant,
    mail_invariant,
    store_invariant,
)
from tests.simulation import fleet_invariant as invariant
from tests.simulation.record import Record
from tests.simulation.scenario import TIME_TO_STOP, Kind, Operation
from tests.simulation.structure import Structure, under_way


class Handler:
    """The handler of all workflows: it does what each one's plan says."""

    def __init__(self, record: Record, store: MemoryStore) -> None:
        self._record = record
        self._store = store
        self._catching = {
            Kind.RETRIED: self._try,
            Kind.GIVEN_UP: self._try,
            Kind.TIMED: self._try,
            Kind.REFUSED: self._refused,
            Kind.UNEXPECTED: self._refused,
            Kind.RECEIVE: self._receive,
            Kind.RECEIVE_ANY: self._receive,
            **Structure(record, self._called).kinds,
        }
        """How to do what raises an error that the handler catches."""

    async def __call__(self, ctx: Context, workflow_id: str) -> list[Any]:
        """Do what is planned, one after the other."""
        run = current_run()
        self._record.leases[run.claim.key] = run.lease
        invariant.handlers_begin_before_their_deadline(self._record, run.claim)
        return [await self._do(ctx, operation) for operation in self._record.plans[workflow_id]]

    async def _do(self, ctx: Context, operation: Operation) -> Any:
        workflow = await self._store.find_workflow(ctx.workflow_id)
        invariant.leases_end_before_their_records(self._record, current_run(), workflow)
        if operation.kind in self._catching:
            return await self._catching[operation.kind](ctx, operation)
        match operation.kind:
            case Kind.GATHER:
                return await asyncio.gather(
                    *(self._do(ctx, branch) for branch in operation.branches)
                )
            case Kind.NAP:
                await ctx.sleep(operation.id, operation.seconds)
                invariant.naps_end_in_time(self._record, current_run().claim, operation.id)
                return operation.id
            case Kind.COMPENSATION:
                await ctx.compensate(operation.id, self._compensate, ctx, operation)
                self._record.note_registered(current_run().claim, operation.id)
                return operation.id
            case Kind.ABORT:
                patiently = Retry(max_attempts=None, initial=operation.seconds)
                await ctx.step(operation.id, self._abort, ctx, operation, retry=patiently)
            case Kind.TRANSACTION:
                output = await ctx.transaction(operation.id, self._book, ctx, operation)
            case Kind.THREAD:
                output = await ctx.step(operation.id, self._called, ctx, operation.id)
            case _:
                output = await ctx.step(operation.id, self._work, ctx, operation)
        self._check_output(ctx, operation, output)
        return output

    def _check_output(self, ctx: Context, operation: Operation, output: Any) -> None:
        claim = current_run().claim
        lasting_invariant.generations_are_apart(self._record, claim, operation.id, output)
        if self._record.is_present(claim):
            invariant.handlers_see_the_stored_output(
                self._record, ctx.workflow_id, operation.id, output
            )

    async def _try(self, ctx: Context, operation: Operation) -> str:
        retry = Retry(max_attempts=operation.failures + 1, initial=operation.seconds)
        limit = operation.seconds if operation.kind is Kind.TIMED else None
        try:
            output = await ctx.step(
                operation.id, self._attempt, ctx, operation, retry=retry, timeout=limit
            )
        except StepFailed as failed:
            return operation.given_up(failed.attempts)
        self._check_output(ctx, operation, output)
        return output

    async def _refused(self, ctx: Context, operation: Operation) -> str:
        is_refused = operation.kind is Kind.REFUSED
        retry = Retry(
            max_attempts=None,
            initial=operation.seconds,
            retry_on=Exception if is_refused else ConnectionError,
            give_up_on=PermissionError if is_refused else (),
        )
        try:
            await ctx.step(operation.id, self._attempt, ctx, operation, retry=retry)
        except StepFailed as failed:
            return f"{operation.id} given up for {failed.error_type}"
        return f"{operation.id} was not given up"

    async def _receive(self, ctx: Context, operation: Operation) -> Any:
        limits: dict[str, Any] = {"timeout": operation.timeout}
        if operation.until is not None:
            limits = {"deadline": self._record.began_at + timedelta(seconds=operation.until)}
        try:
            if operation.kind is Kind.RECEIVE:
                output = await ctx.receive(operation.id, operation.names[0], **limits)
            else:
                output = (await ctx.receive_any(operation.id, operation.names, **limits)).payload
        except MessageTimeout:
            output = operation.timed_out
        mail_invariant.handlers_see_what_was_received(
            self._record, ctx.workflow_id, operation, output
        )
        return output

    async def _abort(self, ctx: Context, operation: Operation) -> None:
        raise Abort(f"{self._called(ctx, operation.id)} aborts")

    async def _attempt(self, ctx: Context, operation: Operation) -> str:
        claim = current_run().claim
        invariant.steps_given_up_are_not_called(self._record, claim, operation.id)
        invariant.steps_wait_for_their_pause(self._record, claim, operation.id)
        output = self._called(ctx, operation.id)
        call = self._record.calls[ctx.workflow_id, operation.id]
        if operation.kind is Kind.TIMED and call <= operation.failures:
            await asyncio.sleep(TIME_TO_STOP)
            invariant.time_limits_cut_steps(self._record, output)
        elif operation.kind is Kind.GIVEN_UP or call <= operation.failures:
            raise ConnectionError(f"{output} fails")
        if operation.kind in (Kind.REFUSED, Kind.UNEXPECTED):
            raise PermissionError(f"{output} is refused")
        return output

    async def _book(self, session: MemorySession, ctx: Context, operation: Operation) -> str:
        output, ledger = self._called(ctx, operation.id), self._record.ledger
        key = (ctx.workflow_id, operation.id)
        await asyncio.sleep(operation.seconds / 2)
        session.set(ledger, key, ledger.get(key, 0) + 1)
        await asyncio.sleep(operation.seconds / 2)
        return output

    def _called(self, ctx: Context, step_id: str) -> str:
        """Count a call of a step; its output differs from that of every other call."""
        workflow_id, claim = ctx.workflow_id, current_run().claim
        if self._record.has_one_time:
            store_invariant.only_owners_call_a_step(self._record, claim, step_id)
        invariant.losses_are_known_soon(self._record, claim)
        self._record.calls[workflow_id, step_id] += 1
        output = f"{workflow_id}/{step_id}#{self._record.calls[workflow_id, step_id]}"
        self._record.born[output] = claim.workflow.generation
        return output

    async def _work(self, ctx: Context, operation: Operation) -> str:
        output = self._called(ctx, operation.id)
        with under_way(self._record, operation.id):
            await self._take_time(ctx, operation, output)
        return output

    async def _take_time(self, ctx: Context, operation: Operation, output: str) -> None:
        call = self._record.calls[ctx.workflow_id, operation.id]
        if operation.kind is Kind.FLAKY and call <= operation.failures:
            raise ConnectionError(f"{output} fails")
        if operation.kind is Kind.STUBBORN:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(operation.seconds)
        elif operation.kind is not Kind.STUCK or call == 1:
            try:
                await asyncio.sleep(operation.seconds)
            except asyncio.CancelledError:
                invariant.losses_are_known_soon(self._record, current_run().claim)
                raise

    async def _compensate(self, ctx: Context, operation: Operation) -> str:
        record, run = self._record, current_run()
        claim, step_id = run.claim, operation.id
        is_recorded = step_id in run.history.steps
        compensation_invariant.compensations_follow_an_end(record, claim, step_id)
        compensation_invariant.compensations_are_called_once(
            record, claim, step_id, is_recorded=is_recorded
        )
        compensation_invariant.compensations_come_in_reverse(record, claim, step_id)
        compensation_invariant.nothing_runs_beside_compensations(record, claim, step_id)
        invariant.steps_given_up_are_not_called(record, claim, step_id)
        invariant.steps_wait_for_their_pause(record, claim, step_id)
        record.undone.add(claim.workflow_id)
        record.calls[claim.workflow_id, step_id] += 1
        call = record.calls[claim.workflow_id, step_id]
        await asyncio.sleep(operation.seconds)
        if call <= operation.failures:
            raise ConnectionError(f"compensation {step_id} fails")
        record.compensated[claim.key].append(step_id)
        return f"{claim.workflow_id}/{step_id}#{call}"

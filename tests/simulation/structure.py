"""What handlers do with children, branches, restarts, published values and callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bluestreak_core import (
    CallbackFailed,
    CallbackTimeout,
    ChildFailed,
    Claim,
    Context,
    Retry,
    StepFailed,
)
from bluestreak_core.run.structure.outcomes import Outcomes
from bluestreak_core.testing import Process
from tests.run_watch import current_run
from tests.simulation import branch_invariant as invariant
from tests.simulation import lasting_invariant
from tests.simulation.record import Handed, Record, UnderWay
from tests.simulation.scenario import Kind, Operation, handler_id

SHOWN = "progress"
"""The name of what is published."""


@contextmanager
def under_way(record: Record, step_id: str) -> Iterator[None]:
    """While a function of a step is under way."""
    call = UnderWay(current_run().claim, step_id, Process.of())
    record.under_way.append(call)
    try:
        yield
    finally:
        record.under_way.remove(call)


class Structure:
    """Does these operations of a plan; `called` counts the call of a step."""

    def __init__(self, record: Record, called: Callable[[Context, str], str]) -> None:
        self._record = record
        self._called = called
        self.kinds = {
            Kind.CHILD: self._child,
            Kind.STARTED_CHILD: self._started_child,
            Kind.RESTART: self._restart,
            Kind.ONCE: self._once,
            Kind.MAP: self._map,
            Kind.PARALLEL: self._parallel,
            Kind.RACE: self._race,
            Kind.PUBLISH: self._publish,
            Kind.CALLBACK: self._callback,
        }
        """How to do each of them."""

    # Children ------------------------------------------------------------------------------------

    async def _child(self, ctx: Context, operation: Operation) -> Any:
        try:
            return await ctx.child(
                operation.id,
                handler_id(None),
                f"{ctx.workflow_id}/{operation.id}",
                on_parent_end="abandon" if operation.is_abandoned else "cancel",
            )
        except ChildFailed:
            return operation.child_failed

    async def _started_child(self, ctx: Context, operation: Operation) -> Any:
        handle = await ctx.start_child(
            operation.id,
            handler_id(None),
            f"{ctx.workflow_id}/{operation.id}",
            on_parent_end="abandon" if operation.is_abandoned else "cancel",
        )
        if not operation.is_awaited:
            return operation.id
        await ctx.sleep(f"{operation.id}/pause", operation.seconds)
        try:
            return await handle.result()
        except ChildFailed:
            return operation.child_failed

    # Restarts and published values ---------------------------------------------------------------

    async def _restart(self, ctx: Context, operation: Operation) -> str:
        if ctx.info.generation < operation.failures:
            await ctx.restart(ctx.workflow_id)
        return operation.id

    async def _publish(self, ctx: Context, operation: Operation) -> str:
        await ctx.publish(SHOWN, operation.id)
        return operation.id

    # Steps and branches --------------------------------------------------------------------------

    async def _once(self, ctx: Context, operation: Operation) -> str:
        policy = Retry(max_attempts=max(1, operation.failures), initial=operation.seconds)
        try:
            output = await ctx.step(
                operation.id,
                self._call_once,
                ctx,
                operation,
                retry=policy if operation.failures else None,
                at_most_once=True,
            )
        except StepFailed:
            return f"{operation.id} given up"
        self._check_generation(operation.id, output)
        return output

    async def _call_once(self, ctx: Context, operation: Operation) -> str:
        workflow = current_run().claim.workflow
        key = (ctx.workflow_id, operation.id, workflow.generation, workflow.retries)
        self._record.begun[key] += 1
        invariant.attempts_are_called_at_most_once(self._record, current_run().claim, operation)
        output = self._called(ctx, operation.id)
        with under_way(self._record, operation.id):
            await asyncio.sleep(operation.seconds)
        if operation.failures > 1 and self._record.begun[key] == 1:
            raise ConnectionError(f"{output} fails")
        return output

    async def _map(self, ctx: Context, operation: Operation) -> Any:
        async def fn(branch: Operation) -> str:
            return await self._branch(ctx, f"{operation.id}/{branch.id}", branch)

        rule = _rule(operation)
        ended = await ctx.map(
            operation.id, fn, operation.branches, limit=2, key=lambda branch: branch.id, **rule
        )
        return self._checked(operation, ended)

    async def _parallel(self, ctx: Context, operation: Operation) -> Any:
        def branch_of(branch: Operation) -> Callable[[Context], Any]:
            async def run(scope: Context) -> str:
                step_id = f"{operation.id}/{branch.id}/in it"
                return await scope.step("in it", self._branch, ctx, step_id, branch)

            return run

        rule = _rule(operation)
        branches = {branch.id: branch_of(branch) for branch in operation.branches}
        ended = await ctx.parallel(operation.id, branches, **rule)
        return self._checked(operation, list(ended.values()) if isinstance(ended, dict) else ended)

    def _checked(self, operation: Operation, ended: Any) -> Any:
        """What a fan-out has ended with, as it can be stored."""
        claim = current_run().claim
        if isinstance(ended, Outcomes):
            invariant.fan_outs_end_as_asked(self._record, claim, operation, ended)
            invariant.branches_have_the_stored_output(self._record, claim, operation, ended)
            ended = [[found.key, found.status.value, found.value] for found in ended]
        invariant.branches_end_once(self._record, claim, operation, ended)
        return ended

    async def _race(self, ctx: Context, operation: Operation) -> Any:
        def racer(branch: Operation) -> Callable[[], Any]:
            step_id = f"{operation.id}/{branch.id}"

            async def run() -> str:
                if branch.kind is Kind.NAP:
                    await ctx.sleep(step_id, branch.seconds)
                    return step_id
                return await ctx.step(step_id, self._branch, ctx, step_id, branch)

            return run

        branches = {branch.id: racer(branch) for branch in operation.branches}
        winner = await ctx.race(operation.id, **branches)
        ended = [winner.name, winner.value]
        invariant.branches_end_once(self._record, current_run().claim, operation, ended)
        return ended

    async def _branch(self, ctx: Context, step_id: str, branch: Operation) -> str:
        output = self._called(ctx, step_id)
        with under_way(self._record, step_id):
            await asyncio.sleep(branch.seconds)
        if branch.kind is Kind.GIVEN_UP:
            raise ConnectionError(f"{output} fails")
        return output

    # Callbacks -----------------------------------------------------------------------------------

    async def _callback(self, ctx: Context, operation: Operation) -> str:
        async def hand_over(token: str) -> None:
            self._record.hand_over(Handed(ctx.workflow_id, operation, token))

        try:
            answer: str = await ctx.callback(operation.id, hand_over, timeout=operation.timeout)
        except CallbackFailed as failed:
            answer = f"error {failed.reason}"
        except CallbackTimeout:
            answer = operation.timed_out
        invariant.callbacks_have_one_answer(self._record, ctx.workflow_id, operation.id, answer)
        return answer

    def _check_generation(self, step_id: str, output: object) -> None:
        claim: Claim = current_run().claim
        lasting_invariant.generations_are_apart(self._record, claim, step_id, output)


def _rule(operation: Operation) -> dict[str, Any]:
    """What a fan-out tolerates, and how much is enough for it, where it is asked for."""
    rule = {"tolerate": operation.tolerate, "enough": operation.enough}
    return {name: count for name, count in rule.items() if count is not None}

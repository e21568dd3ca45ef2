"""Guards of steps, claims and ends taken away; see `mutation`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from bluestreak_core import (
    Attempt,
    Claim,
    NewWorkflow,
    Retry,
    Step,
    Workflow,
    WorkflowNotFound,
    machine,
)
from bluestreak_core.client.starting import Starting
from bluestreak_core.clock import Clock
from bluestreak_core.machine import Transition
from bluestreak_core.model import History
from bluestreak_core.run import Run, commit, outcome
from bluestreak_core.run.attempts import Attempts
from bluestreak_core.run.compensation_call import CompensationCall
from bluestreak_core.run.compensations import Compensations
from bluestreak_core.run.deadline import Deadline
from bluestreak_core.run.exit import Exit, Park, Release
from bluestreak_core.run.handler import Policy
from bluestreak_core.run.lease import Lease, Renewal, renewals
from bluestreak_core.run.operations import Operations
from bluestreak_core.run.verb import step
from bluestreak_core.store.hints import Hints
from bluestreak_core.store.query import ENDED
from bluestreak_core.worker import leases
from bluestreak_core.worker.claiming import Claiming
from bluestreak_core.worker.expiry import AT_ONCE, Expiry
from bluestreak_core.worker.leases import Leases
from bluestreak_core.worker.runs import Runs
from bluestreak_memory import MemorySession, MemoryStore
from tests.simulation.guard import Mutation, nothing


def _any_claim(workflow: Workflow | None, claim: Claim) -> bool:
    return workflow is not None


async def _last_writer_wins(
    store: MemoryStore, claim: Claim, step_id: str, output: Any, now: datetime
) -> Any:
    record = store._workflows.claimed(claim)
    record.steps[step_id] = Step(
        workflow_id=claim.workflow_id, step_id=step_id, output=output, saved_at=now
    )
    return output


_save_step = MemoryStore.save_step


async def _own_output(
    store: MemoryStore, claim: Claim, step_id: str, output: Any, now: datetime
) -> Any:
    await _save_step(store, claim, step_id, output, now)
    return output


async def _no_history(store: MemoryStore, claims: list[Claim]) -> dict[str, History]:
    return {claim.workflow_id: History() for claim in claims}


async def _unrecorded(store: MemoryStore, claim: Claim, attempt: Attempt) -> Attempt:
    return attempt


async def _bare_fork(
    store: MemoryStore, workflow_id: str, new_id: str, before: str | None, now: datetime
) -> bool:
    if (source := store._workflows.get(workflow_id)) is None:
        raise WorkflowNotFound(workflow_id)
    new = NewWorkflow(
        workflow_id=new_id,
        handler_id=source.workflow.handler_id,
        input=source.workflow.input,
        created_at=now,
    )
    return await store.create(new)


_create = machine.create


def _due_at_once(new: NewWorkflow) -> Workflow:
    return _create(replace(new, start_at=None))


def _end(session: MemorySession) -> None:
    session.is_open = False


_control = machine.control


def _from_anywhere(
    workflow: Workflow, event: Transition, now: datetime, reason: str | None
) -> Workflow:
    return _control(replace(workflow, status=machine.sources(event)[0]), event, now, reason)


_new_run = Claiming._new_run


def _from_the_answer_to_its_claim(claiming: Claiming, claim: Claim, deadline: float) -> Run:
    span = claiming._handlers.shortest_lease
    return _new_run(claiming, claim, claiming._clock.monotonic() + span.total_seconds())


class _RenewalFromItsAnswer(Renewal):
    @override
    def settle(self, lost: Iterable[Claim]) -> list[Lease]:
        self._deadline = self._clock.monotonic() + self._span.total_seconds()
        return super().settle(lost)


def _from_their_answers(held: Iterable[Lease], clock: Clock) -> Iterator[Renewal]:
    for renewal in renewals(held, clock):
        yield _RenewalFromItsAnswer(renewal._span, renewal._leases, clock)


def _in_their_order(compensations: Compensations) -> list[Any]:
    return compensations.registered


_on_end = Runs._on_end


def _keep_the_slot(runs: Runs, task: Any) -> None:
    run = runs._by_task[task]
    _on_end(runs, task)
    runs._by_task[task] = run


async def _without_end(deadline: Deadline, task: asyncio.Task[Any]) -> None:
    await asyncio.wait({task})


async def _without_limit(
    limit: timedelta, workflow_id: str, step_id: str, calling: Awaitable[Any]
) -> Any:
    return await calling


def _tried_for_ever(retry: Retry, number: int, error: Exception) -> timedelta:
    return retry.delay(number)


_pause_after = Policy.pause_after


def _always_the_first_pause(policy: Policy, failures: int) -> timedelta:
    return _pause_after(policy, 1)


async def _created_at_once(store: MemoryStore, session: MemorySession, new: NewWorkflow) -> bool:
    return await store.create(new)


_control_in_store = MemoryStore.control


async def _controlled_at_once(store: MemoryStore, session: MemorySession, *order: Any) -> None:
    await _control_in_store(store, *order)


async def _all_new(store: MemoryStore, new: Sequence[NewWorkflow]) -> list[bool]:
    return [await store.create(workflow) or True for workflow in new]


async def _expire_everything(expiry: Expiry) -> None:
    now = expiry._clock.now()
    await expiry._store.prune(now, ENDED, AT_ONCE, now)


_parking = Operations.parking


def _parked_amid_a_step(operations: Operations) -> Park | Release | None:
    pending = operations._pending
    operations._pending = {op: None for op in pending if op.may_be_parked}
    parking = _parking(operations)
    operations._pending = pending
    return parking


FLEET: dict[str, Mutation] = {
    "any claim moves a workflow": Mutation(1, [(machine, "in_force", _any_claim)]),
    "the last writer of a step wins": Mutation(23, [(MemoryStore, "save_step", _last_writer_wins)]),
    "the winner of a step is not adopted": Mutation(35, [(MemoryStore, "save_step", _own_output)]),
    "nothing wakes workers for what falls due": Mutation(4, [(Hints, "due", lambda *_: None)]),
    "leases are not renewed": Mutation(1, [(Leases, "renew", nothing)]),
    "histories are empty": Mutation(1, [(MemoryStore, "history", _no_history)]),
    "a run is parked though a step is in flight": Mutation(
        27, [(Operations, "parking", _parked_amid_a_step)]
    ),
    "slots are leaked": Mutation(1, [(Runs, "_on_end", _keep_the_slot)]),
    "a lease counts from the answer to its claim": Mutation(
        1, [(Claiming, "_new_run", _from_the_answer_to_its_claim)]
    ),
    "a lease counts from the answer to its renewal": Mutation(
        1, [(leases, "renewals", _from_their_answers)]
    ),
    "a lease counts from the answer to the renewal after a transaction": Mutation(
        21, [(commit, "renewals", _from_their_answers)]
    ),
    "a run goes on after its lease": Mutation(
        5, [(Lease, "error", None), (Leases, "expire", nothing)]
    ),
    "control is obeyed in any state": Mutation(1, [(machine, "control", _from_anywhere)]),
    "workers do not hear that claims are taken from them": Mutation(
        269, [(Leases, "watch_control", nothing)]
    ),
    "failed attempts are not recorded": Mutation(1, [(MemoryStore, "save_attempt", _unrecorded)]),
    "a pause between attempts is not kept": Mutation(2, [(Attempts, "next_at", None)]),
    "what is given up is tried again": Mutation(
        1,
        [
            (MemoryStore, "fail_step", nothing),
            (MemoryStore, "save_attempt", _unrecorded),
        ],
    ),
    "what a policy gives up on is tried again": Mutation(
        1, [(Retry, "pause_after", _tried_for_ever)]
    ),
    "pauses after failures do not grow": Mutation(
        93, [(Policy, "pause_after", _always_the_first_pause)]
    ),
    "a workflow that has aborted is tried again": Mutation(
        3, [(outcome, "is_abort", lambda _: False)]
    ),
    "an abort is an attempt like any other": Mutation(3, [(step, "is_abort", lambda _: False)]),
    "start_many takes each for new": Mutation(6, [(MemoryStore, "create_many", _all_new)]),
    "a strict start takes anything for the same": Mutation(1, [(Starting, "_check_same", nothing)]),
    "a start does not wait for its transaction": Mutation(
        1, [(MemoryStore, "create_in", _created_at_once)]
    ),
    "a cancellation does not wait for its transaction": Mutation(
        5, [(MemoryStore, "control_in", _controlled_at_once)]
    ),
    "what a transaction has written stays": Mutation(1, [(MemorySession, "roll_back", _end)]),
    "a fork has nothing of what was recorded": Mutation(23, [(MemoryStore, "fork", _bare_fork)]),
    "what is to begin later begins at once": Mutation(1, [(machine, "create", _due_at_once)]),
    "a handler goes on after its deadline": Mutation(51, [(Deadline, "wait_for", _without_end)]),
    "steps are not cut": Mutation(2, [(step, "in_time", _without_limit)]),
    "what has ended expires at once": Mutation(5, [(Expiry, "_expire", _expire_everything)]),
    "nothing expires": Mutation(912, [(Expiry, "_expire", nothing)]),
    "nothing is compensated": Mutation(1, [(CompensationCall, "_carry_out", nothing)]),
    "what is compensated is compensated again": Mutation(
        1, [(CompensationCall, "_is_settled", lambda *_: False)]
    ),
    "the first compensation comes first": Mutation(
        1, [(Compensations, "last_first", _in_their_order)]
    ),
    "a cancelled workflow compensates nothing": Mutation(
        1, [(machine, "promise", lambda workflow: workflow)]
    ),
    "a decision to leave is forgotten": Mutation(1, [(Exit, "decide", lambda *_: None)]),
}

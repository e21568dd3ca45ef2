"""MemoryStore: the state machine applied to dictionaries.

No method waits for anything, so each is atomic on its event loop. The exceptions are the hints,
which change nothing, and `transact`, which waits for its function and then commits at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from bluestreak_core import machine
from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import HomeLoop
from bluestreak_core.machine import Transition, change
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
    Status,
    Step,
    Workflow,
)
from bluestreak_core.store import (
    MAX_VALUE_BYTES,
    CountBy,
    ListPosition,
    Pruned,
    Query,
    Records,
    Store,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
    SupportsTransactions,
    ValueRules,
    WorkflowSummary,
)
from bluestreak_core.store.query import to_summary
from bluestreak_memory.children import Children
from bluestreak_memory.compensations import Compensations
from bluestreak_memory.messages import Messages
from bluestreak_memory.publishing import Publishing
from bluestreak_memory.registry import Registry
from bluestreak_memory.restarting import Restarting
from bluestreak_memory.session import MemorySession


class MemoryStore(
    Messages,
    Publishing,
    Restarting,
    Compensations,
    Children,
    Registry,
    Store,
    SupportsForks,
    SupportsTransactions,
    SupportsSearch,
    SupportsPruning,
):
    """A store in the memory of one process, which forgets everything when the process ends.

    It holds the values that every store holds. `rules` widens that, for example to BSON's types
    with `bluestreak_mongo.BsonRules()`. `clock` is the time authority, a `ManualClock` in tests.

    Its methods are those of the protocols, and what is handed in and out is copied here. The rest
    is the work of its `Parts`.
    """

    def __init__(self, *, clock: Clock | None = None, rules: ValueRules | None = None) -> None:
        super().__init__(clock, rules)
        self._home = HomeLoop()

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._workflows)} workflows>"

    @property
    @override
    def clock(self) -> Clock:
        return self._clock

    @override
    async def init(self) -> None:
        """Enter the event loop, to which the waits belong. There is nothing to open."""
        self._home.enter("init()")

    @override
    async def close(self) -> None:
        """Leave the event loop. What is stored stays for as long as the object does."""
        self._home.check_unless_closed("close()")
        self._home.leave()

    # Starting and looking ----------------------------------------------------------------------

    @override
    async def create(self, new: NewWorkflow) -> bool:
        return self._workflows.add(self._copies.record(new))

    @override
    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        records = [self._copies.record(workflow) for workflow in new]
        return [self._workflows.add(record) for record in records]

    @override
    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        workflow = self._workflows.find(workflow_id)
        return None if workflow is None else self._copies.workflow(workflow)

    @override
    async def find_standing(self, workflow_id: str) -> Standing | None:
        workflow = self._workflows.find(workflow_id)
        return None if workflow is None else self._copies.standing(workflow)

    @override
    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        record = self._workflows.get(workflow_id)
        step = None if record is None else record.steps.get(step_id)
        return None if step is None else replace(step, output=self._copies.copy(step.output))

    @override
    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        record = self._workflows.get(workflow_id)
        return None if record is None else record.naps.get(nap_id)

    # Claiming ----------------------------------------------------------------------------------

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        self._hints.looking(request.now)
        return [
            replace(claim, workflow=self._copies.workflow(claim.workflow))
            for claim in self._workflows.claim(request)
        ]

    @override
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        histories = {claim.workflow_id: History() for claim in claims}
        for claim in claims:
            record = self._workflows.get(claim.workflow_id)
            if record is not None and machine.is_of(claim, record.workflow):
                histories[claim.workflow_id] = record.history(self._copies.copy)
        return histories

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        renewal, lost = change.renew(now, lease), []
        for claim in claims:
            workflow = self._workflows.find(claim.workflow_id)
            if workflow is not None and machine.in_force(workflow, claim):
                self._workflows.put(renewal.apply(workflow))
            else:
                lost.append(claim)
        return lost

    # Recording ---------------------------------------------------------------------------------

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        value = self._copies.to_stored(output, what)
        step = Step(workflow_id=claim.workflow_id, step_id=step_id, output=value, saved_at=now)
        return self._copies.copy(self._workflows.claimed(claim).save_step(claim, step).output)

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        nap = Nap(workflow_id=claim.workflow_id, nap_id=nap_id, wake_up_at=wake_up_at, saved_at=now)
        return self._workflows.claimed(claim).save_nap(claim, nap).wake_up_at

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        return self._workflows.claimed(claim).save_attempt(claim, attempt)

    @override
    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        self._workflows.in_force(claim).fail_step(claim, failed)

    # Ending a claim ----------------------------------------------------------------------------

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        self._workflows.end(claim, change.park(wake_up_at))

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        self._workflows.end(claim, change.release(now))

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        record = self._workflows.get(claim.workflow_id)
        room = MAX_VALUE_BYTES - (record.input_size if record else 0)
        what = f"result of workflow {claim.workflow_id!r}"
        value = self._copies.to_stored(result, what, room)
        self._workflows.end(claim, change.finish(value, now))

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        self._workflows.end(claim, change.fail(failure, now))

    # From outside ------------------------------------------------------------------------------

    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        self._workflows.control(workflow_id, event, now, reason)

    # Hints -------------------------------------------------------------------------------------

    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        next_due = self._workflows.next_due_after(self._hints.looked_at)
        if next_due is not None:
            self._hints.due(next_due)
        await self._hints.wait_for_work(timeout)

    @override
    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        return await self._hints.wait_for_end(workflow_id, since, timeout)

    @override
    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        return await self._hints.wait_for_control(since, timeout)

    # Transactions ------------------------------------------------------------------------------

    @override
    async def check_transactions(self, call: str) -> None:
        """Do nothing: transactions are always possible."""

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        step = await self._transactions.transact(claim, step_id, fn, now)
        return self._copies.copy(step.output)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemorySession]:
        """A transaction of the caller's own, as for `start(..., session=)`; see `MemorySession`."""
        with self._transactions.begin() as session:
            yield session
            session.commit()

    @override
    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        return self._transactions.create(session, self._copies.record(new))

    @override
    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        workflow = self._transactions.find(session, workflow_id)
        return None if workflow is None else self._copies.workflow(workflow)

    @override
    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        self._transactions.control(session, workflow_id, event, now, reason)

    # Forks, search and pruning -----------------------------------------------------------------

    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        return self._workflows.add(self._workflows.existing(workflow_id).fork(new_id, before, now))

    @override
    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        workflows = (record.workflow for record in self._workflows)
        meant = [to_summary(workflow) for workflow in workflows if query.accepts(workflow)]
        return query.page_of(meant, after, limit)

    @override
    async def count(self, by: CountBy) -> Mapping[str, int]:
        return Counter(str(getattr(record.workflow, by)) for record in self._workflows)

    @override
    async def records(self, workflow_id: str) -> Records:
        record = self._workflows.get(workflow_id)
        return Records() if record is None else record.copy_records(self._copies.copy)

    @override
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        pruned = Pruned()
        for record in list(self._workflows):
            if pruned.workflows >= limit:
                break
            workflow = record.workflow
            is_over = workflow.status in statuses and not workflow.unsettled
            if is_over and workflow.timeout_at < ended_before:
                pruned += record.size()
                self._workflows.delete(workflow.workflow_id)
        return pruned

"""What all the calls that are observed share: looking at the store, and what is noted of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from bluestreak_core import (
    Attempt,
    Claim,
    FailedStep,
    Status,
    Workflow,
)
from bluestreak_core.model import (
    NewMessage,
)
from bluestreak_core.testing import StoreWrapper
from bluestreak_memory import MemoryStore
from tests.simulation import (
    child_invariant,
    mail_invariant,
)
from tests.simulation import store_invariant as invariant
from tests.simulation.record import Record
from tests.simulation.scenario import families

T = TypeVar("T")

ALL = 10_000
"""More messages than a mailbox has."""


class Disappeared(AssertionError):
    """A workflow is not there that must be."""


class Observation(StoreWrapper):
    """Looks at the store, without faults, and notes what a call has done."""

    def __init__(self, store: MemoryStore, record: Record) -> None:
        super().__init__(store)
        self._memory = store
        self._record = record

    async def _found(self, workflow_id: str) -> Workflow:
        workflow = await self._store.find_workflow(workflow_id)
        if workflow is None:
            raise Disappeared(f"{workflow_id} has disappeared")
        return workflow

    async def _mail(self, workflow_id: str) -> object:
        """All that others see of a workflow and its mail."""
        return await self._store.find_workflow(workflow_id), self._unread(workflow_id)

    def _stored(self, workflow_id: str) -> list[Workflow]:
        """The workflow, if it is there, where nothing can be awaited."""
        found = _at_once(self._memory.find_workflow(workflow_id))
        return [] if found is None else [found]

    def _unread(self, workflow_id: str) -> Sequence[NewMessage]:
        """What is in its mailbox, where nothing can be awaited."""
        return _at_once(self._memory.find_unread(workflow_id, ALL))

    async def _check_isolated(self, workflow_id: str, before: Workflow | None) -> None:
        after = await self._store.find_workflow(workflow_id)
        invariant.transactions_are_isolated(self._record, workflow_id, before, after)

    def _note_record(self, claim: Claim, what: str, stored: Any) -> None:
        told = "begun" if isinstance(stored, Attempt) and stored.is_begin else stored
        self._record.note(f"save {claim.workflow_id} {what} by claim {claim.number} -> {told}")
        invariant.steps_have_one_output(self._record, claim.workflow_id, what, stored)

    def _check_child(
        self, claim: Claim, step_id: str, output: Any, failed: FailedStep | None
    ) -> None:
        record, workflow_id = self._record, claim.workflow_id
        for parent_id, child_id, operation in families(workflow_id, record.plans[workflow_id]):
            if parent_id == workflow_id and operation.result_id == step_id:
                child_invariant.children_end_as_recorded(
                    record, workflow_id, child_id, output, failed
                )

    def _note_end(self, workflow: Workflow | None) -> None:
        """Note how a workflow has ended, or is to end, if it does."""
        if workflow is None:
            return
        if workflow.status.ended:
            end = (workflow.status, workflow.result)
            if end not in self._record.ends[workflow.workflow_id]:
                self._record.ends[workflow.workflow_id].append(end)
        if workflow.status is Status.STOPPING and workflow.outcome is not None:
            self._record.decided.setdefault(workflow.workflow_id, workflow.outcome)

    def _check_awake(self, workflow: Workflow) -> None:
        unread = self._unread(workflow.workflow_id)
        mail_invariant.nobody_sleeps_over_mail(self._record, workflow, unread)
        child_invariant.nobody_sleeps_over_the_end_of_a_child(self._record, workflow, self._find)

    def _find(self, workflow_id: str) -> Workflow | None:
        return next(iter(self._stored(workflow_id)), None)

    async def _end(self, event: str, claim: Claim, call: Callable[[], Awaitable[T]]) -> T:
        record, workflow_id = self._record, claim.workflow_id
        before = await self._store.find_workflow(workflow_id)
        try:
            answer = await call()
        except Exception as refusal:
            record.note(f"{event} {workflow_id} by claim {claim.number} -> {refusal}")
            after = await self._store.find_workflow(workflow_id)
            invariant.refusals_change_nothing(record, workflow_id, event, before, after)
            raise
        if before is None:
            raise Disappeared(f"{workflow_id} was moved by {event}, and is not there")
        record.note(f"{event} {workflow_id} by claim {claim.number}")
        after = await self._store.find_workflow(workflow_id)
        self._note_end(after)
        invariant.ends_are_final(record, event, before, after)
        invariant.only_owners_move_a_workflow(record, claim, event, before, after)
        invariant.taken_claims_write_nothing(record, claim, event, before, after)
        return answer


def _at_once(looking: Coroutine[Any, Any, T]) -> T:
    """The answer of the store, which is in memory and never waits."""
    try:
        looking.send(None)
    except StopIteration as found:
        answer: T = found.value
        return answer
    raise AssertionError("the store in memory waits for something")

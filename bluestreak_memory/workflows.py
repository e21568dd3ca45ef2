"""The workflows that a store holds in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from bluestreak_core import machine
from bluestreak_core.errors import BluestreakError, WorkflowEnded, WorkflowNotFound
from bluestreak_core.machine import Change, Transition
from bluestreak_core.model import (
    Claim,
    ClaimRequest,
    NewMessage,
    Parent,
    Standing,
    Status,
    Workflow,
)
from bluestreak_core.store import Hints
from bluestreak_memory.agenda import Agenda
from bluestreak_memory.record import Record


class Workflows:
    """Finds and moves workflows, and reports to the hints what became due or ended."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._records: dict[str, Record] = {}
        self._children: dict[str, dict[str, None]] = {}
        """The ids of children, by that of their parent."""
        self._agenda = Agenda(self.find)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, workflow_id: str) -> Record | None:
        """A workflow and its records."""
        return self._records.get(workflow_id)

    def find(self, workflow_id: str) -> Workflow | None:
        """A workflow without its records."""
        record = self._records.get(workflow_id)
        return None if record is None else record.workflow

    def existing(self, workflow_id: str) -> Record:
        """A workflow and its records. Raises `WorkflowNotFound`."""
        record = self._records.get(workflow_id)
        if record is None:
            raise WorkflowNotFound(workflow_id)
        return record

    def claimed(self, claim: Claim) -> Record:
        """The workflow that a claim was made on, whether or not the claim is in force.

        Raises `ClaimLost` if it has been deleted, or has restarted since.
        """
        record = self._records.get(claim.workflow_id)
        if record is None or record.workflow.created_at != claim.workflow.created_at:
            raise machine.lost(None, claim)
        if not machine.is_of(claim, record.workflow):
            raise machine.lost(record.workflow, claim)
        return record

    def in_force(self, claim: Claim) -> Record:
        """The workflow that a claim may move. Raises `ClaimLost`."""
        record = self._records.get(claim.workflow_id)
        if record is None:
            raise machine.lost(None, claim)
        record.check_in_force(claim)
        return record

    def add(self, record: Record) -> bool:
        """Add a workflow, unless its id exists."""
        workflow_id = record.workflow.workflow_id
        if workflow_id in self._records:
            return False
        self._records[workflow_id] = record
        if (parent := record.workflow.parent) is not None:
            self._children.setdefault(parent.workflow_id, {})[workflow_id] = None
        self.put(record.workflow)
        return True

    def delete(self, workflow_id: str) -> None:
        """Delete a workflow and its records."""
        record = self._records.pop(workflow_id)
        if (parent := record.workflow.parent) is not None:
            del self._children[parent.workflow_id][workflow_id]

    def put(self, workflow: Workflow) -> None:
        """Store a workflow's new state, and wake those who wait for it."""
        self._records[workflow.workflow_id].workflow = workflow
        if workflow.status.ended:
            self._hints.ended(workflow.workflow_id)
        elif workflow.status is not Status.PAUSED:
            self._agenda.add(workflow)
            if workflow.status not in machine.held():
                self._hints.due(workflow.timeout_at)

    def claim(self, request: ClaimRequest) -> list[Claim]:
        """Claim what is due, the longest due first."""
        claims: list[Claim] = []
        passed_over: list[Workflow] = []
        while len(claims) < request.limit and (due := self._agenda.pop_due(request.now)):
            if request.accepts(due.handler_id):
                claims.append(self._claim(due, request))
            else:
                passed_over.append(due)
        for workflow in passed_over:
            self._agenda.add(workflow)
        return claims

    def _claim(self, due: Workflow, request: ClaimRequest) -> Claim:
        token = uuid4().hex
        claimed = machine.claim(due, token, request)
        self._records[due.workflow_id].take_back()
        self.put(claimed)
        return Claim(token=token, workflow=claimed, due_at=due.timeout_at)

    def next_due_after(self, instant: datetime) -> datetime | None:
        """When the next workflow is due."""
        return self._agenda.next_after(instant)

    def end(self, claim: Claim, change: Change) -> None:
        """End a claim, unless the same call has done so before. Raises `ClaimLost`."""
        workflow = self.find(claim.workflow_id)
        if workflow is not None and machine.in_force(workflow, claim):
            self.put(change.apply(workflow))
        elif not machine.has_ended_by(workflow, claim, change.event):
            raise machine.lost(workflow, claim)

    def restart(
        self, claim: Claim, input: Any, input_size: int, received: Collection[str], now: datetime
    ) -> None:
        """Let a workflow start over, unless the same call has done so. Raises `ClaimLost`."""
        record = self._records.get(claim.workflow_id)
        if record is not None and machine.in_force(record.workflow, claim):
            record.forget(input_size, received)
        self.end(claim, machine.change.restart(claim.workflow, input, now))

    def check_reachable(self, message: NewMessage) -> Record:
        """The workflow that a message is sent to.

        Raises `WorkflowNotFound`, and `WorkflowEnded` unless the message has come before the end.
        """
        record = self.existing(message.workflow_id)
        has_finished = record.workflow.status is Status.FINISHED
        if has_finished and not record.mailbox.has_had(message.message_id):
            raise WorkflowEnded(message.workflow_id)
        return record

    def send(self, message: NewMessage) -> bool:
        """Put a message into its mailbox, and wake the workflow if it waits for it."""
        record = self.check_reachable(message)
        is_new = record.mailbox.add(message)
        self._deliver(record, message.name, message.sent_at)
        return is_new

    def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        """See `SupportsChildren.nudge`."""
        record = self._records.get(workflow_id)
        if record is None or record.workflow.created_at != created_at:
            return
        if record.workflow.status is not Status.FINISHED:
            self._deliver(record, name, now)

    def _deliver(self, record: Record, name: str, now: datetime) -> None:
        before = record.workflow
        record.workflow = machine.deliver(before, [name], now)
        if record.workflow.timeout_at != before.timeout_at:
            self.put(record.workflow)
        self._hints.delivered(before.workflow_id)

    def live_children(self, workflow_id: str, created_at: datetime | None) -> Iterator[str]:
        """The ids of children that can be cancelled, and are to end with this parent."""
        ours = Parent(workflow_id=workflow_id, created_at=created_at)
        for child_id in self._children.get(workflow_id, ()):
            child = self._records[child_id].workflow
            if child.parent == ours and child.status in machine.sources(Transition.CANCEL):
                yield child_id

    def settle(self, seen: Standing) -> None:
        """See `SupportsChildren.settle`."""
        record = self._records.get(seen.workflow_id)
        if record is not None and machine.is_settled_by(record.workflow, seen):
            record.workflow = machine.settle(record.workflow)

    def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        """`send` for each, with the errors of those that are refused."""
        answers: list[bool | BluestreakError] = []
        for message in messages:
            try:
                answers.append(self.send(message))
            except BluestreakError as error:
                answers.append(error)
        return answers

    def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None
    ) -> None:
        """Move a workflow from outside, and wake the worker whose claim that takes."""
        record = self.existing(workflow_id)
        was_running = record.workflow.status is Status.RUNNING
        self.put(machine.control(record.workflow, event, now, reason))
        if event is Transition.RETRY:
            record.forget_failed_steps()
        if was_running:
            record.take_back()
            self._hints.controlled()

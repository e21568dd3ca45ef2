"""Transactions in memory: what they write is visible immediately, and undone if they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from bluestreak_core import machine
from bluestreak_core.argument import has_real_type
from bluestreak_core.concurrency import cancellations
from bluestreak_core.errors import InvalidArgument, StoreUnavailable, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, NewMessage, Status, Step, Workflow
from bluestreak_memory.record import Record
from bluestreak_memory.session import MemorySession
from bluestreak_memory.workflows import Workflows


class Transactions:
    """Steps that are committed with what they write, and transactions of a caller's own."""

    def __init__(self, workflows: Workflows, to_stored: Callable[[Any, str], Any]) -> None:
        self._workflows = workflows
        self._to_stored = to_stored

    @contextmanager
    def begin(self) -> Iterator[MemorySession]:
        """A session that is rolled back if the block raises."""
        session = MemorySession()
        try:
            yield session
        except BaseException:
            session.roll_back()
            raise

    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[MemorySession], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Step:
        """See `SupportsTransactions.transact`."""
        record = self._workflows.claimed(claim)
        if step_id in record.steps:
            return record.steps[step_id]
        record.check_in_force(claim)
        with self.begin() as session:
            output = await _call(fn, session, record, claim)
            if claim.workflow_id in session.workflows:
                reason = "its function has ended the claim of its own workflow"
                raise InvalidArgument("transaction", step_id, reason)
            what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
            value = self._to_stored(output, what)
            if step_id in record.steps:
                session.roll_back()
                return record.steps[step_id]
            record.check_in_force(claim)
            # What the session does on its commit may take the claim, too.
            session.before_commit(lambda: record.check_in_force(claim))
            session.commit()
            step = Step(
                workflow_id=claim.workflow_id, step_id=step_id, output=value, saved_at=now()
            )
            return record.save_step(claim, step)

    def create(self, session: MemorySession, record: Record) -> bool:
        """Add a workflow when the transaction commits, unless its id exists."""
        workflow_id = record.workflow.workflow_id
        if self.find(session, workflow_id) is not None:
            return False

        def check() -> None:
            if self._workflows.get(workflow_id) is not None:
                raise StoreUnavailable(f"workflow {workflow_id!r} was created meanwhile")

        session.workflows[workflow_id] = record.workflow
        session.before_commit(check)
        session.after_commit(lambda: self._workflows.add(record))
        return True

    def find(self, session: MemorySession, workflow_id: str) -> Workflow | None:
        """A workflow as it will be when the transaction has committed."""
        if not has_real_type(session, MemorySession):
            raise InvalidArgument("session", session, "expected a session of a MemoryStore")
        session.check_open()
        return session.workflows.get(workflow_id) or self._workflows.find(workflow_id)

    def send(self, session: MemorySession, message: NewMessage) -> bool:
        """Send a message when the transaction commits."""
        workflow_id, message_id = message.workflow_id, message.message_id
        if self.find(session, workflow_id) is None:
            raise WorkflowNotFound(workflow_id)
        is_started_here = self._workflows.get(workflow_id) is None
        is_known = (workflow_id, message_id) in session.sent or (
            not is_started_here
            and self._workflows.check_reachable(message).mailbox.has_had(message_id)
        )

        def check() -> None:
            if is_started_here:
                return
            mailbox = self._workflows.check_reachable(message).mailbox
            if not is_known and mailbox.has_had(message_id):
                raise StoreUnavailable(f"message {message_id!r} was sent meanwhile")

        session.sent.add((workflow_id, message_id))
        session.before_commit(check)
        session.after_commit(lambda: self._workflows.send(message))
        return not is_known

    def control(
        self,
        session: MemorySession,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None,
    ) -> None:
        """Move a workflow from outside when the transaction commits."""
        workflow = self.find(session, workflow_id)
        if workflow is None:
            raise WorkflowNotFound(workflow_id)
        seen = self._workflows.find(workflow_id)

        def check() -> None:
            found = self._workflows.find(workflow_id)
            if seen is not None and (found is None or _moves(found) != _moves(seen)):
                raise StoreUnavailable(f"workflow {workflow_id!r} was moved meanwhile")

        session.workflows[workflow_id] = machine.control(workflow, event, now, reason)
        session.before_commit(check)
        session.after_commit(lambda: self._workflows.control(workflow_id, event, now, reason))


async def _call(
    fn: Callable[[MemorySession], Awaitable[Any]],
    session: MemorySession,
    record: Record,
    claim: Claim,
) -> Any:
    """Call the function of a step. The next claim of the workflow takes back what it wrote."""
    before = cancellations()
    with record.holding(session):
        try:
            output = await fn(session)
        except Exception:
            record.check_in_force(claim)  # the next claim may have closed the session meanwhile
            raise
    if cancellations() > before:  # which the function has swallowed
        raise asyncio.CancelledError
    return output


def _moves(workflow: Workflow) -> tuple[Status, int, int]:
    """What differs after anything that a transition from outside may depend on."""
    return workflow.status, workflow.claims, workflow.controls

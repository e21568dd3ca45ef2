"""The pure machine over a few dictionaries: what a store is to be compared with."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from bluestreak_core import machine
from bluestreak_core.errors import WorkflowEnded, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    ErrorRecord,
    FailedStep,
    Failure,
    History,
    Nap,
    NewMessage,
    NewWorkflow,
    NoMessage,
    Published,
    Receipt,
    Status,
    Step,
    Workflow,
)
from tests.model.families import Families
from tests.model.state import stored


class Undecided(Enum):
    """What a caller gets is up to the store: its claim, or an outcome of its own."""

    UNDECIDED = "undecided"


UNDECIDED = Undecided.UNDECIDED


class Reference(Families):
    """The calls of the Store protocol, except that it is told what a store has claimed."""

    def create(self, new: NewWorkflow) -> bool:
        value = stored(new.input, f"input of workflow {new.workflow_id!r}")
        if new.workflow_id in self.workflows:
            return False
        self._put(machine.create(replace(new, input=value)))
        return True

    def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        for one in new:
            stored(one.input, f"input of workflow {one.workflow_id!r}")
        return [self.create(one) for one in new]

    def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None
    ) -> None:
        if workflow_id not in self.workflows:
            raise WorkflowNotFound(workflow_id)
        self._put(machine.control(self.workflows[workflow_id], event, now, reason))

    # Messages ----------------------------------------------------------------------------------

    def send(self, message: NewMessage) -> bool:
        what = f"payload of message {message.name!r} to workflow {message.workflow_id!r}"
        payload = stored(message.payload, what)
        workflow = self.workflows.get(message.workflow_id)
        key = (message.workflow_id, message.message_id)
        if workflow is None:
            raise WorkflowNotFound(message.workflow_id)
        is_new = key not in self.messages
        if workflow.status is Status.FINISHED and is_new:
            raise WorkflowEnded(message.workflow_id)
        if workflow.status is not Status.FINISHED:
            self.messages.setdefault(key, replace(message, payload=payload))
            self._put(machine.deliver(workflow, [message.name], message.sent_at))
        return is_new

    def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage | Undecided:
        if not self._is_of(claim):
            return UNDECIDED
        key = (claim.workflow_id, step_id)
        if key not in self.steps:
            first = next(self._unread(claim.workflow_id, names), None)
            if first is None and not give_up:
                return NoMessage(mail=self.workflows[claim.workflow_id].mail)
            self.steps[key] = Step(
                workflow_id=claim.workflow_id,
                step_id=step_id,
                output=None if first is None else first.payload,
                saved_at=now,
                receipt=Receipt.of(first),
            )
            self._count_progress(claim)
        self._note_receipt(claim, self.steps[key].receipt)
        return self.steps[key]

    def _unread(self, workflow_id: str, names: Collection[str]) -> Iterator[NewMessage]:
        taken = {step.receipt and step.receipt.message_id for step in self._steps(workflow_id)}
        for key, message in self.messages.items():
            is_unread = key not in self.forgotten and message.message_id not in taken
            if message.workflow_id == workflow_id and message.name in names and is_unread:
                yield message

    def _note_receipt(self, claim: Claim, receipt: Receipt | None) -> None:
        if receipt is not None and receipt.message_id is not None:
            known = self.receipts.setdefault(_generation(claim), {})
            before = known.get(receipt.message_id, False)
            known[receipt.message_id] = before or self._in_force(claim)

    def received(self, claim: Claim, *, all_: bool) -> list[str]:
        """The messages of which the holder of a claim may know that they were received.

        Those that an owner has received it knows; those that a stale run has, perhaps.
        """
        known = self.receipts.get(_generation(claim), {})
        return sorted(message_id for message_id, owned in known.items() if owned or all_)

    def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        for workflow in self._to_end(claim, Transition.PARK):
            self._put(machine.wait(workflow, wake_up_at, tuple(names), mail, now))

    def beat(self, workflow_id: str, step_id: str, now: datetime) -> None:
        if workflow_id not in self.workflows:
            raise WorkflowNotFound(workflow_id)
        self._put(machine.beat(self.workflows[workflow_id], step_id, now))

    # Claiming ----------------------------------------------------------------------------------

    def due(self, now: datetime, handlers: Collection[str] | None) -> list[Workflow]:
        """What may be claimed, the longest due first."""
        due = [
            workflow
            for workflow in self.workflows.values()
            if machine.is_due(workflow, now)
            and (handlers is None or workflow.handler_id in handlers)
        ]
        return sorted(due, key=lambda workflow: workflow.timeout_at)

    def grant(self, claims: Sequence[Claim], worker: str, now: datetime, lease: timedelta) -> None:
        """Claim what a store has claimed, all of which must have been due."""
        for claim in claims:
            before = self.workflows[claim.workflow_id]
            assert claim.token != before.claim_token, "a token was used again"
            after = machine.claim(
                before, claim.token, ClaimRequest(worker=worker, now=now, lease=lease, limit=1)
            )
            assert claim == Claim(token=claim.token, workflow=after)
            self._put(after)

    def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        """What is theirs; what others get, who have nothing to run any more, is up to the store."""
        ours = list(filter(self._is_of, claims))
        for claim in filter(self._in_force, ours):
            for step in self._steps(claim.workflow_id):
                self._note_receipt(claim, step.receipt)
        return {claim.workflow_id: self._history(claim.workflow_id) for claim in ours}

    def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        ours = [claim for claim in claims if self._in_force(claim)]
        for claim in ours:
            self._put(machine.renew(self.workflows[claim.workflow_id], now, lease))
        return [claim for claim in claims if claim not in ours]

    # Recording ---------------------------------------------------------------------------------

    def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        value = stored(output, what)
        if not self._is_of(claim):
            return UNDECIDED
        key = (claim.workflow_id, step_id)
        if key not in self.steps:
            self.steps[key] = Step(
                workflow_id=claim.workflow_id, step_id=step_id, output=value, saved_at=now
            )
            self._count_progress(claim)
        return self.steps[key].output

    def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime | Undecided:
        if not self._is_of(claim):
            return UNDECIDED
        key = (claim.workflow_id, nap_id)
        if key not in self.naps:
            self.naps[key] = Nap(
                workflow_id=claim.workflow_id, nap_id=nap_id, wake_up_at=wake_up_at, saved_at=now
            )
            self._count_progress(claim)
        return self.naps[key].wake_up_at

    def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt | Undecided:
        if not self._is_of(claim):
            return UNDECIDED
        key = (claim.workflow_id, attempt.step_id, attempt.round, attempt.number)
        if key not in self.attempts:
            self.attempts[key] = attempt
            self._count_progress(claim)
        return self.attempts[key]

    def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        workflow = self._held(claim)
        if failed.step_id not in {other.step_id for other in workflow.failed_steps}:
            self._put(machine.fail_step(workflow, failed))

    # Ending a claim ----------------------------------------------------------------------------

    def park(self, claim: Claim, wake_up_at: datetime) -> None:
        for workflow in self._to_end(claim, Transition.PARK):
            self._put(machine.park(workflow, wake_up_at))

    def release(self, claim: Claim, now: datetime) -> None:
        for workflow in self._to_end(claim, Transition.RELEASE):
            self._put(machine.release(workflow, now))

    def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        value = stored(result, f"result of workflow {claim.workflow_id!r}")
        for workflow in self._to_end(claim, Transition.FINISH):
            self._put(machine.finish(workflow, value, now))

    def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        for workflow in self._to_end(claim, machine.failure_transition(failure)):
            self._put(machine.fail(workflow, failure, now))

    def restart(self, claim: Claim, input: Any, received: Collection[str], now: datetime) -> None:
        value = stored(input, f"input of workflow {claim.workflow_id!r}")
        for workflow in self._to_end(claim, Transition.RESTART):
            self._put(machine.restart(workflow, value, now))
            self.forgotten |= {(claim.workflow_id, message_id) for message_id in received}
            self._forget(claim.workflow_id)

    # Compensating ------------------------------------------------------------------------------

    def promise(self, claim: Claim) -> None:
        self._put(machine.promise(self._held(claim)))

    def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        for workflow in self._to_end(claim, Transition.GIVE_UP):
            self._put(machine.give_up(workflow, error, now))

    def hand_over(self, claim: Claim, now: datetime) -> None:
        workflow = self.workflows.get(claim.workflow_id)
        if workflow is not None and machine.was_taken(workflow, claim):
            self._put(machine.hand_over(workflow, now))

    def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        for workflow in self._to_end(claim, Transition.POSTPONE):
            self._put(machine.postpone(workflow, wake_up_at))

    def end_compensated(self, claim: Claim, now: datetime) -> None:
        for workflow in self._to_end(claim, machine.end_transition(claim.workflow.outcome)):
            self._put(machine.end_compensated(workflow, now))

    # Publishing --------------------------------------------------------------------------------

    def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        self._put(machine.publish(self._held(claim), tuple(published)))


def _generation(claim: Claim) -> tuple[str, datetime | None, int]:
    return claim.workflow_id, claim.workflow.created_at, claim.workflow.generation

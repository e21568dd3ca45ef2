"""The pure machine over a few dictionaries: what a store is to be compared with."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import machine
from bluestreak_core.errors import WorkflowEnded, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    FailedStep,
    Failure,
    History,
    Nap,
    NewMessage,
    NewWorkflow,
    NoMessage,
    Receipt,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.store import PlainRules

_RULES = PlainRules()


class Reference:
    """The calls of the Store protocol, except that it is told what a store has claimed."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow] = {}
        self.steps: dict[tuple[str, str], Step] = {}
        self.naps: dict[tuple[str, str], Nap] = {}
        self.attempts: dict[tuple[str, str, int, int], Attempt] = {}
        self.messages: dict[tuple[str, str], NewMessage] = {}
        """In the order in which they were sent."""

    def create(self, new: NewWorkflow) -> bool:
        value = _stored(new.input, f"input of workflow {new.workflow_id!r}")
        if new.workflow_id in self.workflows:
            return False
        self._put(machine.create(replace(new, input=value)))
        return True

    def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        for one in new:
            _stored(one.input, f"input of workflow {one.workflow_id!r}")
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
        payload = _stored(message.payload, what)
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
    ) -> Step | NoMessage:
        key = (claim.workflow_id, step_id)
        if key in self.steps:
            return self.steps[key]
        taken = {step.receipt and step.receipt.message_id for step in self._steps(key[0])}
        unread = (
            message
            for message in self.messages.values()
            if message.workflow_id == claim.workflow_id
            and message.name in names
            and message.message_id not in taken
        )
        first = next(unread, None)
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
        return self.steps[key]

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

    def adopt(self, claims: Sequence[Claim], worker: str, now: datetime, lease: timedelta) -> None:
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
        return {claim.workflow_id: self._history(claim.workflow_id) for claim in claims}

    def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        ours = [claim for claim in claims if self._in_force(claim)]
        for claim in ours:
            self._put(machine.renew(self.workflows[claim.workflow_id], now, lease))
        return [claim for claim in claims if claim not in ours]

    # Recording ---------------------------------------------------------------------------------

    def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        value = _stored(output, what)
        key = (claim.workflow_id, step_id)
        if key not in self.steps:
            self.steps[key] = Step(
                workflow_id=claim.workflow_id, step_id=step_id, output=value, saved_at=now
            )
            self._count_progress(claim)
        return self.steps[key].output

    def save_nap(self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime) -> datetime:
        key = (claim.workflow_id, nap_id)
        if key not in self.naps:
            self.naps[key] = Nap(
                workflow_id=claim.workflow_id, nap_id=nap_id, wake_up_at=wake_up_at, saved_at=now
            )
            self._count_progress(claim)
        return self.naps[key].wake_up_at

    def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        key = (claim.workflow_id, attempt.step_id, attempt.round, attempt.number)
        if key not in self.attempts:
            self.attempts[key] = attempt
            self._count_progress(claim)
        return self.attempts[key]

    def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        workflow = self.workflows[claim.workflow_id]
        if not self._in_force(claim):
            raise machine.lost(workflow, claim)
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
        value = _stored(result, f"result of workflow {claim.workflow_id!r}")
        for workflow in self._to_end(claim, Transition.FINISH):
            self._put(machine.finish(workflow, value, now))

    def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        for workflow in self._to_end(claim, machine.failure_transition(failure)):
            self._put(machine.fail(workflow, failure, now))

    # What the calls above share ----------------------------------------------------------------

    def _put(self, workflow: Workflow) -> None:
        self.workflows[workflow.workflow_id] = workflow

    def _in_force(self, claim: Claim) -> bool:
        return machine.in_force(self.workflows[claim.workflow_id], claim)

    def _count_progress(self, claim: Claim) -> None:
        if self._in_force(claim):
            self._put(machine.progress(self.workflows[claim.workflow_id]))

    def _to_end(self, claim: Claim, event: Transition) -> Iterator[Workflow]:
        """The workflow, if it is to be moved; nothing for a repeat."""
        workflow = self.workflows[claim.workflow_id]
        if self._in_force(claim):
            yield workflow
        elif not machine.has_ended_by(workflow, claim, event):
            raise machine.lost(workflow, claim)

    def _steps(self, workflow_id: str) -> list[Step]:
        return [step for step in self.steps.values() if step.workflow_id == workflow_id]

    def _history(self, workflow_id: str) -> History:
        steps = self._steps(workflow_id)
        return History(
            steps={step.step_id: step.output for step in steps},
            receipts={step.step_id: step.receipt for step in steps if step.receipt is not None},
            naps={
                n.nap_id: n.wake_up_at for n in self.naps.values() if n.workflow_id == workflow_id
            },
            attempts=machine.latest_attempts(
                [one for one in self.attempts.values() if one.workflow_id == workflow_id],
                self.workflows[workflow_id].retries,
            ),
        )


def _stored(value: object, what: str) -> Any:
    return _RULES.round_trip(value, what)[0]

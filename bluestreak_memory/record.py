"""A workflow with all that it has recorded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bluestreak_core import machine
from bluestreak_core.errors import StepNotRecorded
from bluestreak_core.model import (
    Attempt,
    Claim,
    FailedStep,
    History,
    Nap,
    NewMessage,
    NoMessage,
    Receipt,
    Step,
    Workflow,
)
from bluestreak_core.store import Pruned, Records
from bluestreak_memory.mailbox import Mailbox
from bluestreak_memory.session import MemorySession

Entry = tuple[type[Step] | type[Nap] | type[FailedStep], str]


@dataclass(slots=True)
class Record:
    """One workflow: its state, its records, and the transactions that are under way for it."""

    workflow: Workflow
    input_size: int
    steps: dict[str, Step] = field(default_factory=dict)
    naps: dict[str, Nap] = field(default_factory=dict)
    attempts: dict[tuple[str, int, int], Attempt] = field(default_factory=dict)
    recorded: dict[Entry, None] = field(default_factory=dict)
    """The steps, naps and given-up steps, in the order in which they were recorded."""
    mailbox: Mailbox = field(default_factory=Mailbox)
    _sessions: list[MemorySession] = field(init=False, default_factory=list)

    def save_step(self, claim: Claim, step: Step) -> Step:
        """The recorded step of this id, which is the given one if there was none."""
        if step.step_id not in self.steps:
            self.steps[step.step_id] = step
            self.recorded[Step, step.step_id] = None
            self._count_progress(claim)
        return self.steps[step.step_id]

    def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        """Record the first message of these names as a step; without one, that none came in time.

        Without `give_up`, record nothing for none.
        """
        if step_id in self.steps:
            return self.steps[step_id]
        message = self.mailbox.take(names)
        if message is None and not give_up:
            return NoMessage(mail=self.workflow.mail)
        return self.save_step(claim, received(claim, step_id, message, now))

    def save_nap(self, claim: Claim, nap: Nap) -> Nap:
        """The recorded nap of this id, which is the given one if there was none."""
        if nap.nap_id not in self.naps:
            self.naps[nap.nap_id] = nap
            self.recorded[Nap, nap.nap_id] = None
            self._count_progress(claim)
        return self.naps[nap.nap_id]

    def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        """The recorded attempt of this number, which is the given one if there was none."""
        key = (attempt.step_id, attempt.round, attempt.number)
        if key not in self.attempts:
            self.attempts[key] = attempt
            self._count_progress(claim)
        return self.attempts[key]

    def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        """Give a step up, unless it has been given up before."""
        self.check_in_force(claim)
        if all(failed.step_id != known.step_id for known in self.workflow.failed_steps):
            self.workflow = machine.fail_step(self.workflow, failed)
            self.recorded[FailedStep, failed.step_id] = None

    def check_in_force(self, claim: Claim) -> None:
        """Raise `ClaimLost` unless the claim may move the workflow."""
        if not machine.in_force(self.workflow, claim):
            raise machine.lost(self.workflow, claim)

    def forget_failed_steps(self) -> None:
        """Nothing is given up any more, since the workflow is retried."""
        self.recorded = {entry: None for entry in self.recorded if entry[0] is not FailedStep}

    def forget(self, input_size: int, received: Collection[str]) -> None:
        """Drop all records, since the workflow starts over with an input of this size.

        Messages that a step has received, and that are not among these, are unread again.
        """
        self.input_size = input_size
        for step in self.steps.values():
            taken = None if step.receipt is None else step.receipt.message_id
            if taken is not None and taken not in received:
                self.mailbox.put_back(taken)
        self.steps.clear()
        self.naps.clear()
        self.attempts.clear()
        self.recorded.clear()

    def history(self, copy: Callable[[Any], Any]) -> History:
        """What the workflow replays, with copies of its outputs."""
        return History(
            steps={step.step_id: copy(step.output) for step in self.steps.values()},
            naps={nap.nap_id: nap.wake_up_at for nap in self.naps.values()},
            attempts=machine.latest_attempts(self.attempts.values(), self.workflow.retries),
            receipts={
                step.step_id: step.receipt
                for step in self.steps.values()
                if step.receipt is not None
            },
        )

    def copy_records(self, copy: Callable[[Any], Any]) -> Records:
        """Everything that the workflow has recorded, with copies of its outputs."""
        return Records(
            steps=tuple(replace(step, output=copy(step.output)) for step in self.steps.values()),
            naps=tuple(self.naps.values()),
            attempts=tuple(self.attempts.values()),
        )

    def size(self) -> Pruned:
        """What is deleted with the workflow."""
        naps = len(self.naps) + len(self.attempts)
        messages = len(self.mailbox)
        return Pruned(workflows=1, steps=len(self.steps), naps=naps, messages=messages)

    def fork(self, new_id: str, before: str | None, now: datetime) -> Record:
        """A new workflow that has recorded what this one had before that step; all for None.

        Attempts are not copied: the fork has its own.
        """
        machine.check_fork(self.workflow, before)
        kept = self._recorded_before(before)
        failed = self.workflow.failed_steps
        given_up = tuple(step for step in failed if (FailedStep, step.step_id) in kept)
        return Record(
            workflow=machine.fork(self.workflow, new_id, now, given_up),
            input_size=self.input_size,
            steps={
                step_id: replace(step, workflow_id=new_id)
                for step_id, step in self.steps.items()
                if (Step, step_id) in kept
            },
            naps={
                nap_id: replace(nap, workflow_id=new_id)
                for nap_id, nap in self.naps.items()
                if (Nap, nap_id) in kept
            },
            recorded=kept,
        )

    def _recorded_before(self, step_id: str | None) -> dict[Entry, None]:
        """What was there when a step was recorded or given up; all of it for None."""
        until: Entry | None = None
        if step_id is not None:
            given_up, recorded = (FailedStep, step_id), (Step, step_id)
            until = given_up if given_up in self.recorded else recorded
            if until not in self.recorded:
                raise StepNotRecorded(self.workflow.workflow_id, step_id)
        return dict.fromkeys(itertools.takewhile(lambda entry: entry != until, self.recorded))

    def _count_progress(self, claim: Claim) -> None:
        if machine.in_force(self.workflow, claim):
            self.workflow = machine.progress(self.workflow)

    @contextmanager
    def holding(self, session: MemorySession) -> Iterator[None]:
        """While the block lasts, `take_back` rolls the session back."""
        self._sessions.append(session)
        try:
            yield
        finally:
            if session in self._sessions:
                self._sessions.remove(session)

    def take_back(self) -> None:
        """Roll back what the last claim has not committed, since its process may be dead."""
        for session in self._sessions:
            session.roll_back()
        self._sessions.clear()


def received(claim: Claim, step_id: str, message: NewMessage | None, now: datetime) -> Step:
    """The step that has received a message, or none in time."""
    return Step(
        workflow_id=claim.workflow_id,
        step_id=step_id,
        output=None if message is None else message.payload,
        saved_at=now,
        receipt=Receipt.of(message),
    )

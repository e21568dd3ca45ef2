"""What the reference holds, and what its calls share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bluestreak_core import machine
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    History,
    Nap,
    NewMessage,
    Step,
    Workflow,
)
from bluestreak_core.store import PlainRules

_RULES = PlainRules()


class State:
    """All workflows, with what they have recorded and received."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow] = {}
        self.steps: dict[tuple[str, str], Step] = {}
        self.naps: dict[tuple[str, str], Nap] = {}
        self.attempts: dict[tuple[str, str, int, int], Attempt] = {}
        self.messages: dict[tuple[str, str], NewMessage] = {}
        """In the order in which they were sent."""
        self.forgotten: set[tuple[str, str]] = set()
        """The messages that an earlier generation has received for good."""
        self.receipts: dict[tuple[str, datetime | None, int], dict[str, bool]] = {}
        """By generation, the messages that were received, and whether an owner knows of it."""

    def created_at(self, workflow_id: str) -> datetime | None:
        """When the present workflow of this id was created."""
        workflow = self.workflows.get(workflow_id)
        return None if workflow is None else workflow.created_at

    def _put(self, workflow: Workflow) -> None:
        self.workflows[workflow.workflow_id] = workflow

    def _in_force(self, claim: Claim) -> bool:
        return machine.in_force(self.workflows.get(claim.workflow_id), claim)

    def _is_of(self, claim: Claim) -> bool:
        return machine.is_of(claim, self.workflows.get(claim.workflow_id))

    def _held(self, claim: Claim) -> Workflow:
        """The workflow, if the claim is in force."""
        if not self._in_force(claim):
            raise machine.lost(self.workflows.get(claim.workflow_id), claim)
        return self.workflows[claim.workflow_id]

    def _forget(self, workflow_id: str) -> None:
        """Drop all that a workflow has recorded."""
        self.steps = {key: one for key, one in self.steps.items() if key[0] != workflow_id}
        self.naps = {key: one for key, one in self.naps.items() if key[0] != workflow_id}
        self.attempts = {key: one for key, one in self.attempts.items() if key[0] != workflow_id}

    def _count_progress(self, claim: Claim) -> None:
        if self._in_force(claim):
            self._put(machine.progress(self.workflows[claim.workflow_id]))

    def _to_end(self, claim: Claim, event: Transition) -> Iterator[Workflow]:
        """The workflow, if it is to be moved; nothing for a repeat."""
        workflow = self.workflows.get(claim.workflow_id)
        if workflow is not None and self._in_force(claim):
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


def stored(value: object, what: str) -> Any:
    return _RULES.round_trip(value, what)[0]

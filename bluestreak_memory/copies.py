"""Copying values in and out of a store in memory, so that nothing in it is shared with callers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bluestreak_core import machine
from bluestreak_core.machine import change
from bluestreak_core.model import NewMessage, NewWorkflow, Published, Standing, Workflow
from bluestreak_core.store import MAX_VALUE_BYTES, ValueRules
from bluestreak_memory.record import Record


class Copies:
    """Makes copies of values by the rules of the store, which refuse what it cannot hold."""

    def __init__(self, rules: ValueRules) -> None:
        self.rules = rules
        """The rules of the store."""

    def to_stored(self, value: Any, what: str, room: int = MAX_VALUE_BYTES) -> Any:
        """A value as it is stored; `what` names it in errors, and `room` is its largest size."""
        return self.rules.round_trip(value, what, room)[0]

    def copy(self, value: Any) -> Any:
        """A stored value for a caller."""
        return self.rules.round_trip(value, "stored value")[0]

    def workflow(self, workflow: Workflow) -> Workflow:
        """A stored workflow for a caller."""
        values, result = self.copy(workflow.input), self.copy(workflow.result)
        published = self.published(workflow.published)
        if values is workflow.input and result is workflow.result and not published:
            return workflow  # of immutable values only
        return change.replaced(workflow, input=values, result=result, published=published)

    def standing(self, workflow: Workflow) -> Standing:
        """The standing of a stored workflow for a caller."""
        result, published = self.copy(workflow.result), self.published(workflow.published)
        return replace(workflow.standing, result=result, published=published)

    def published(self, published: tuple[Published, ...]) -> tuple[Published, ...]:
        """What a stored workflow has published, for a caller."""
        return tuple(replace(latest, value=self.copy(latest.value)) for latest in published)

    def record(self, new: NewWorkflow) -> Record:
        """A new workflow as it is stored."""
        value, size = self.rules.round_trip(new.input, f"input of workflow {new.workflow_id!r}")
        return Record(machine.create(replace(new, input=value)), input_size=size)

    def message(self, message: NewMessage) -> NewMessage:
        """A new message as it is stored."""
        what = f"payload of message {message.name!r} to workflow {message.workflow_id!r}"
        return replace(message, payload=self.to_stored(message.payload, what))

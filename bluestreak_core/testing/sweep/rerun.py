"""A run of a workflow in a crash sweep: where its worker dies, and what the sweep sees."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bluestreak_core.codec import PLAIN, Conversion
from bluestreak_core.errors import UnstorableValue, ValueTooLarge
from bluestreak_core.machine import Transition
from bluestreak_core.store import PlainRules
from bluestreak_core.testing.virtual import Outcome

Generation = tuple[str, int]
"""The id of a workflow, and how often it has restarted."""

WORKFLOW_ID = "workflow"
"""The id of the workflow that a sweep starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPoint:
    """Where a worker was killed: before or after the n-th store call, of this name."""

    number: int
    call: str
    after: bool

    def __str__(self) -> str:
        return f"just {'after' if self.after else 'before'} store call {self.number}, {self.call}"


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the sweep has seen of one workflow in one run."""

    called: Counter[str] = field(default_factory=Counter)
    recorded: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)
    """The steps that were called although they were recorded."""
    unsettled: set[str] = field(default_factory=set)
    """The steps that the run of this claim has called, and that have no record."""
    interrupted: Counter[str] = field(default_factory=Counter)
    """How often a step was unsettled when its worker died, or when the claim was taken."""
    arguments: dict[tuple[int, str], Any] = field(default_factory=dict)
    """By generation and step."""
    odd_arguments: list[str] = field(default_factory=list)
    is_held: bool = False
    """Whether a live worker has the claim."""
    asked_for: list[str] = field(default_factory=list)
    """The clean-ups that the newest run has registered."""
    due: list[str] = field(default_factory=list)
    """The clean-ups that a worker must call: the workflow was cancelled while it had the claim."""

    generation: int = 0
    """How often the workflow has restarted."""

    def note_restart(self, generation: int) -> None:
        """The workflow starts over; its steps are others, of the same ids."""
        self.note_end()
        if generation > self.generation:
            self.generation = generation
            self.recorded.clear()

    def note_call(self, step_id: str, args: tuple[Any, ...]) -> None:
        """A step's function is called."""
        self.called[step_id] += 1
        self.unsettled.add(step_id)
        if step_id in self.recorded:
            self.repeated.append(step_id)
        arguments, place = _plain(args), (self.generation, step_id)
        if self.arguments.setdefault(place, arguments) != arguments:
            self.odd_arguments.append(
                f"step {step_id!r} was called with {arguments!r} after {self.arguments[place]!r}"
            )

    def note_record(self, step_id: str) -> None:
        """A step is recorded."""
        self.recorded.add(step_id)
        self.unsettled.discard(step_id)

    def note_claim(self) -> None:
        """A worker has claimed the workflow. It may call the unsettled steps again."""
        self.interrupted.update(self.unsettled)
        self.unsettled.clear()
        self.asked_for.clear()
        self.is_held = True

    def note_end(self) -> None:
        """The holder of the claim has ended it, so it interrupted no step."""
        self.unsettled.clear()
        self.is_held = False

    def note_control(self, event: Transition) -> None:
        """A control from outside takes the claim."""
        self.due = list(self.asked_for) if self.is_held and event is Transition.CANCEL else []
        self.is_held = False

    def note_crash(self) -> None:
        """The worker dies now, and calls no clean-ups."""
        self.is_held = False
        self.due = []

    def uninterrupted(self, step_id: str) -> int:
        """How many calls of a step were not interrupted."""
        return self.called[step_id] - self.interrupted[step_id]


class Rerun:
    """A run of the workflow, with at most one crash."""

    def __init__(
        self,
        point: CrashPoint | None,
        outputs: Mapping[Generation, Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> None:
        self.point = point
        self.outputs = outputs
        """What steps return, by generation and step, so that runs are comparable."""
        self.past: dict[Generation, Mapping[str, Any]] = {}
        """The recorded steps of each generation that has restarted."""
        self.settings = settings
        """The settings of its environment."""
        self.store_calls: list[str] = []
        self.has_crashed = False
        self.seen: defaultdict[str, Seen] = defaultdict(Seen)
        """What was seen, by workflow id."""
        self.outcomes: Mapping[str, Outcome] = {}
        """The outcomes of all workflows that existed in the end, by id."""
        self.turns = 0
        self.conversion = Conversion(settings.get("codec", PLAIN))

    def note_crash(self) -> None:
        """The worker dies now."""
        self.has_crashed = True
        for seen in self.seen.values():
            seen.note_crash()


def _plain(args: tuple[Any, ...]) -> Any:
    """Arguments as plain values, which can be compared."""
    try:
        return PlainRules().round_trip(args, "arguments")[0]
    except (UnstorableValue, ValueTooLarge):
        return "arguments that are not plain values"

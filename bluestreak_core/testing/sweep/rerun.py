"""A run of a workflow in a crash sweep: where its worker is to die, and what is seen in it."""

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

WORKFLOW_ID = "workflow"
"""That of the workflow that a sweep starts."""


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
    """What has been seen of one workflow in one run of the sweep."""

    called: Counter[str] = field(default_factory=Counter)
    recorded: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)
    """The steps that were called though they were recorded."""
    unsettled: set[str] = field(default_factory=set)
    """The steps that this claim's run has called, and of which nothing is recorded."""
    interrupted: Counter[str] = field(default_factory=Counter)
    """How often a step was unsettled when its worker died, or when the claim was taken."""
    arguments: dict[str, Any] = field(default_factory=dict)
    odd_arguments: list[str] = field(default_factory=list)
    is_held: bool = False
    """Whether a worker that lives has the claim."""
    asked_for: list[str] = field(default_factory=list)
    """The clean-ups that the newest run has asked for."""
    due: list[str] = field(default_factory=list)
    """Those that a worker has to call, since the workflow was cancelled in its hands."""

    def note_call(self, step_id: str, args: tuple[Any, ...]) -> None:
        """A step's function is called."""
        self.called[step_id] += 1
        self.unsettled.add(step_id)
        if step_id in self.recorded:
            self.repeated.append(step_id)
        arguments = _plain(args)
        if self.arguments.setdefault(step_id, arguments) != arguments:
            self.odd_arguments.append(
                f"step {step_id!r} was called with {arguments!r} after {self.arguments[step_id]!r}"
            )

    def note_record(self, step_id: str) -> None:
        """A step is recorded."""
        self.recorded.add(step_id)
        self.unsettled.discard(step_id)

    def note_claim(self) -> None:
        """A worker has the workflow. What the one before left unsettled, it may call again."""
        self.interrupted.update(self.unsettled)
        self.unsettled.clear()
        self.asked_for.clear()
        self.is_held = True

    def note_end(self) -> None:
        """The claim was ended by who had it, who knows what to call again as well as at first."""
        self.unsettled.clear()
        self.is_held = False

    def note_control(self, event: Transition) -> None:
        """Somebody has done something from outside, which takes the claim."""
        self.due = list(self.asked_for) if self.is_held and event is Transition.CANCEL else []
        self.is_held = False

    def note_crash(self) -> None:
        """The worker dies now, and with it what it still had to do."""
        self.is_held = False
        self.due = []

    def uninterrupted(self, step_id: str) -> int:
        """How many calls of a step came to their own end."""
        return self.called[step_id] - self.interrupted[step_id]


class Rerun:
    """A run of the workflow with at most one crash in it."""

    def __init__(
        self,
        point: CrashPoint | None,
        outputs: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> None:
        self.point = point
        self.outputs = outputs
        """What steps are to return, by workflow and step, so that it is comparable."""
        self.settings = settings
        """Those of its environment."""
        self.store_calls: list[str] = []
        self.has_crashed = False
        self.seen: defaultdict[str, Seen] = defaultdict(Seen)
        """By workflow."""
        self.outcomes: Mapping[str, Outcome] = {}
        """Those of all workflows that there were in the end, by their ids."""
        self.turns = 0
        self.conversion = Conversion(settings.get("codec", PLAIN))

    def note_crash(self) -> None:
        """The worker dies now."""
        self.has_crashed = True
        for seen in self.seen.values():
            seen.note_crash()


def _plain(args: tuple[Any, ...]) -> Any:
    """Arguments that can be compared, which those of a step need not be."""
    try:
        return PlainRules().round_trip(args, "arguments")[0]
    except (UnstorableValue, ValueTooLarge):
        return "arguments that are no plain values"

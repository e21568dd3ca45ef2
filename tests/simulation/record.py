"""What has happened in a simulation, and what of it must not have."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import Attempt, Backoff, Claim, Workflow, machine
from bluestreak_core.clock import Clock
from bluestreak_core.machine import Transition
from bluestreak_core.run import Lease
from bluestreak_memory import MemorySession
from tests.simulation.scenario import DEADLINES, Operation, Scenario, handler_id

_GROWTH = 3.0


@dataclass(slots=True)
class Record:
    """All that invariants are judged by: the store's side of it, and that of handlers and clients.

    A run is known by the key of its claim.
    """

    scenario: Scenario
    clock: Clock
    began_at: datetime
    timeline: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    # What the store has carried out.
    created: set[str] = field(default_factory=set)
    begins: dict[str, datetime] = field(default_factory=dict)
    """When each workflow was to begin."""
    written: defaultdict[MemorySession, dict[str, str]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """What was done in each session, by workflow."""
    newest: dict[str, Claim] = field(default_factory=dict)
    """The newest claim of each workflow."""
    taken: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """When each claim was taken from outside, if it was."""
    cancelled: dict[tuple[str, int], datetime] = field(default_factory=dict)
    """When each workflow was cancelled, by the number of its newest claim then."""
    orders: defaultdict[str, list[tuple[datetime, Transition]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """What was done to each workflow from outside."""
    lateness: list[tuple[datetime, timedelta, str]] = field(default_factory=list)
    """When a waiting workflow was claimed, by how much too late, and which."""
    outputs: dict[tuple[str, str], Any] = field(default_factory=dict)
    """The first recorded output of each step, and the first instant of each nap."""
    attempts: dict[tuple[str, str], Attempt] = field(default_factory=dict)
    """The latest failed attempt of each step."""
    known: dict[tuple[str, str], dict[str, Attempt]] = field(default_factory=dict)
    """Those of each run by step, as it has read or recorded them."""
    given_up: set[tuple[str, str]] = field(default_factory=set)
    """The steps that were given up since the last retry of their workflows."""
    copied: set[tuple[str, str]] = field(default_factory=set)
    """What forks have got of the workflows that they come from."""
    expired: set[str] = field(default_factory=set)
    """The workflows that were deleted, each after its end."""
    kept_for: timedelta = timedelta(0)
    """How long after its end a workflow is kept at least."""

    # What handlers and clients have seen and done.
    plans: dict[str, tuple[Operation, ...]] = field(default_factory=dict)
    """What the handler of each workflow does."""
    accepted: set[str] = field(default_factory=set)
    """The workflows that a client knows to be started."""
    placed: dict[str, bool] = field(default_factory=dict)
    """What was written beside each start in a transaction."""
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    ledger: dict[tuple[str, str], int] = field(default_factory=dict)
    """How often what each transaction does has been done, and has not been taken back."""
    leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    asked_for: defaultdict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """The clean-ups that each run has asked for."""
    cleaned: defaultdict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Those that were called in each run."""

    def note(self, text: str) -> None:
        """Add a line to the timeline."""
        self.timeline.append(f"{self.clock.monotonic():9.3f} {text}")

    def violated(self, text: str) -> None:
        """Note that an invariant does not hold."""
        self.note(f"VIOLATED {text}")
        self.violations.append(text)

    def is_newest(self, claim: Claim) -> bool:
        """Whether no other claim of its workflow has come after this one."""
        newest = self.newest.get(claim.workflow_id)
        return newest is not None and newest.token == claim.token

    def deadline_at(self, workflow: Workflow) -> datetime | None:
        """When a workflow is given up, if it ever is."""
        deadlines = {handler_id(seconds): timedelta(seconds=seconds) for seconds in DEADLINES}
        return machine.deadline_at(workflow, deadlines.get(workflow.handler_id))

    @property
    def backoff(self) -> Backoff | None:
        """How the pauses after failures grow; None if they do not."""
        initial = self.scenario.backoff
        if initial is None:
            return None
        return Backoff(initial=initial, factor=_GROWTH, max_delay=10 * initial, jitter=0)

    @property
    def has_slot_for_all(self) -> bool:
        """Whether no workflow has to wait for a slot."""
        return self.scenario.slots >= len(self.plans)

    @property
    def has_one_time(self) -> bool:
        """Whether the clocks of all workers are right."""
        return not any(self.scenario.skews)

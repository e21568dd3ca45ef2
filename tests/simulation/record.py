"""What has happened in a simulation, and what of it must not have."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import Attempt, Backoff, Claim, Status, Workflow, machine
from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import WakeUp
from bluestreak_core.machine import Transition
from bluestreak_core.model import Receipt
from bluestreak_core.run import Lease
from bluestreak_core.testing import Process
from bluestreak_memory import MemorySession
from tests.simulation.scenario import (
    CALM_AFTER,
    DEADLINES,
    Operation,
    Scenario,
    handler_id,
    payload_of,
)

_GROWTH = 3.0
_ROUNDING = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A receive that has found no message of these names, asked for under this claim."""

    at: datetime
    names: frozenset[str]
    claim: Claim

    def goes_on_in(self, claim: Claim) -> bool:
        """Whether its workflow has neither failed nor been retried before another claim."""
        then, now = self.claim.workflow, claim.workflow
        return (then.failures, then.retries) == (now.failures, now.retries)


@dataclass(frozen=True, slots=True, eq=False)
class UnderWay:
    """A function of a step that has begun, and has not ended."""

    claim: Claim
    step_id: str
    process: Process | None


@dataclass(frozen=True, slots=True)
class Handed:
    """A token that a callback has handed over."""

    workflow_id: str
    operation: Operation
    token: str


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
    handed_over: dict[str, datetime] = field(default_factory=dict)
    """When each workflow that stops was last handed over."""
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

    # The mail that the store has carried out.
    mailed: set[tuple[str, str]] = field(default_factory=set)
    """The messages that were put into mailboxes, each by the ids of its workflow and its own."""
    counted: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """When they were counted in their workflows, too."""
    asked: dict[tuple[str, str], Asked] = field(default_factory=dict)
    """How each receive last found no message, by the ids of its workflow and its step."""
    received: dict[tuple[str, str], str] = field(default_factory=dict)
    """The step that has received each message."""
    receipts: dict[tuple[str, str], Receipt] = field(default_factory=dict)
    """What each receive has got first, by the ids of its workflow and its step."""
    waits: dict[tuple[str, str, int], datetime | None] = field(default_factory=dict)
    """When the timeout of each receive ends, in each round of its workflow."""
    woken: dict[str, datetime] = field(default_factory=dict)
    """When each workflow was last woken by a message."""

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
    acknowledged: dict[tuple[str, str], None] = field(default_factory=dict)
    """The messages that their senders know to be sent, in that order."""
    sent_before: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """The messages of the same name that the sender of each one knew to be sent before."""
    leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    registered: defaultdict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """The compensations that each run has registered."""
    due: set[tuple[str, str]] = field(default_factory=set)
    """Those that were registered under a claim in force, by workflow and step."""
    compensated: defaultdict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Those that were called in each run."""

    undone: set[str] = field(default_factory=set)
    """The workflows of which a compensation was called."""
    decided: dict[str, Status] = field(default_factory=dict)
    """As what each workflow that was stopped is to end."""
    under_way: list[UnderWay] = field(default_factory=list)

    # Children, restarts, branches and callbacks.
    ends: defaultdict[str, list[tuple[Status, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """How each child has ended: in which states, and with which results."""
    generations: Counter[str] = field(default_factory=Counter)
    """How often each workflow has restarted."""
    born: dict[str, int] = field(default_factory=dict)
    """The generation in which each output was made."""
    begun: Counter[tuple[str, str, int, int]] = field(default_factory=Counter)
    """The calls of each step that is called at most once, by generation and round."""
    decisions: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What each map, parallel and race has ended with first."""
    handed: list[Handed] = field(default_factory=list)
    """All tokens of callbacks that were handed over."""
    handed_over_a_token: WakeUp = field(default_factory=WakeUp)
    answers: dict[tuple[str, str], str] = field(default_factory=dict)
    """The answer of each callback, as the first one who was told has it."""

    def hand_over(self, handed: Handed) -> None:
        """A callback has handed over a token."""
        self.handed.append(handed)
        self.handed_over_a_token.notify()

    def note_restart(self, workflow_id: str) -> None:
        """A workflow has restarted: what it had recorded is forgotten."""
        self.generations[workflow_id] += 1
        self.outputs = {key: v for key, v in self.outputs.items() if key[0] != workflow_id}
        self.attempts = {key: v for key, v in self.attempts.items() if key[0] != workflow_id}
        self.given_up = {key for key in self.given_up if key[0] != workflow_id}

    def is_present(self, claim: Claim) -> bool:
        """Whether a claim is of the present generation of its workflow."""
        return claim.workflow.generation == self.generations[claim.workflow_id]

    def note(self, text: str) -> None:
        """Add a line to the timeline."""
        self.timeline.append(f"{self.clock.monotonic():9.3f} {text}")

    def violated(self, text: str) -> None:
        """Note that an invariant does not hold."""
        self.note(f"VIOLATED {text}")
        self.violations.append(text)

    def note_registered(self, claim: Claim, step_id: str) -> None:
        """A run has registered a compensation."""
        self.registered[claim.key].append(step_id)
        if self.is_newest(claim) and claim.key not in self.taken:
            self.due.add((claim.workflow_id, step_id))

    def is_newest(self, claim: Claim) -> bool:
        """Whether no other claim of its workflow has come after this one."""
        newest = self.newest.get(claim.workflow_id)
        return newest is not None and newest.token == claim.token

    def is_well_since(self, instant: datetime) -> bool:
        """Whether from then on nothing goes wrong any more, and there is a slot for everything."""
        calm_at = self.began_at + timedelta(seconds=0 if self.scenario.is_healthy else CALM_AFTER)
        return instant >= calm_at and self.has_one_time and self.has_slot_for_all

    def is_still_to_come(self, instant: datetime) -> bool:
        """Whether an instant has not come yet, by the clock of any worker."""
        skews = self.scenario.skews
        slack = max(skews) - min(skews) + max(map(abs, skews)) + _ROUNDING
        return self.clock.now() + timedelta(seconds=slack) < instant

    def received_by(self, workflow_id: str, operation: Operation) -> str:
        """What a receive gives to its handler, by what is recorded."""
        receipt = self.receipts.get((workflow_id, operation.id))
        if receipt is None:
            return "nothing, since nothing is recorded"
        if receipt.message_id is None or receipt.name not in operation.names:
            return operation.timed_out
        return payload_of(receipt.message_id)

    def names_asked_for(self, workflow_id: str) -> frozenset[str]:
        """The names of all messages that the newest run of a workflow waits for."""
        waits = (
            asked.names
            for (of, step_id), asked in self.asked.items()
            if of == workflow_id
            and self.is_newest(asked.claim)
            and (of, step_id) not in self.receipts
        )
        return frozenset().union(*waits)

    def moved_at(self, workflow_id: str) -> Iterator[datetime]:
        """When something from outside may have made a workflow due."""
        yield from (at for at, _ in self.orders[workflow_id])
        for moved in (self.woken, self.handed_over):
            if (moved_at := moved.get(workflow_id)) is not None:
                yield moved_at

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

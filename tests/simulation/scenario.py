"""What happens to a fleet, all of it drawn from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bluestreak_core.machine import Transition

CHAOS = 90.0
"""Seconds for which things go wrong; then all is healed, and everything has to come to its end."""

AMID_WITHIN = 30.0
"""Seconds for which what is to be done amid a call waits for one."""

LEASE = 10.0

DEADLINES = (20.0, 120.0)


class Kind(StrEnum):
    """What a handler does next."""

    STEP = "step"
    THREAD = "step in a thread"
    SLOW = "slow step"
    STUCK = "step stuck at first"
    FLAKY = "step failing at first"
    STUBBORN = "step that swallows its cancellation"
    NAP = "nap"
    GATHER = "gather"
    CLEAN_UP = "clean-up"
    RETRIED = "step tried again by policy"
    GIVEN_UP = "step given up by policy"
    TRANSACTION = "transaction"
    TIMED = "step cut at first by its time limit"
    REFUSED = "step given up by policy for what it raises"
    UNEXPECTED = "step that raises what its policy does not expect"
    ABORT = "step that aborts"


class Way(StrEnum):
    """How a client starts a workflow."""

    DELAY = "start after a delay"
    AT = "start at an instant"
    MANY = "start_many"
    SESSION = "start in a transaction"
    ROLLED_BACK = "start in a transaction, the first of which is rolled back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that a handler does: `seconds` is how long it takes, or after how long it is cut.

    A clean-up is asked for, and is done if the workflow is cancelled.

    A flaky step fails `failures` times in all, caught by nobody. So does one that is tried again by
    a policy, which catches that, and pauses for `seconds` at first. One that is given up fails each
    time, and has one attempt more than `failures`. One with a time limit of `seconds` never returns
    in its first `failures` calls. One that is refused, or raises what is not expected, does so
    after as many, and would be tried again for ever. `branches` is what a gather waits for.
    """

    id: str
    kind: Kind
    seconds: float = 0.0
    failures: int = 0
    branches: tuple[Operation, ...] = ()

    def given_up(self, attempts: int) -> str:
        """What a handler has of it when its policy has given it up."""
        return f"{self.id} given up after {attempts} attempts"

    def __str__(self) -> str:
        if self.kind is Kind.GATHER:
            return f"gather({', '.join(map(str, self.branches))})"
        return f"{self.id}: {self.kind} {self.seconds:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A workflow that clients start, `copies` of them at the same time, to begin after `delay`.

    It is given up if it has not ended in time, `deadline` after it was to begin. `way` is how they
    start it; where it is strict, they also try to start another one of its id, in vain.
    """

    workflow_id: str
    at: float
    copies: int
    operations: tuple[Operation, ...]
    delay: float = 0.0
    deadline: float | None = None
    way: Way = Way.DELAY
    is_strict: bool = False

    @property
    def workflow_ids(self) -> tuple[str, ...]:
        """What is started, the second one only beside the first."""
        companions = (f"{self.workflow_id}+",) if self.way is Way.MANY else ()
        return (self.workflow_id, *companions)

    @property
    def handler_id(self) -> str:
        """The handler that does what is planned, in time."""
        return handler_id(self.deadline)

    def __str__(self) -> str:
        operations = "; ".join(map(str, self.operations))
        way = f"{self.way}{', strictly' if self.is_strict else ''}"
        what = (
            f"start {self.workflow_id} x{self.copies} in {self.delay:g} s, {self.handler_id}, {way}"
        )
        return f"{self.at:7.3f} {what}: {operations}"


def handler_id(deadline: float | None) -> str:
    """That of the handler for all workflows of this deadline."""
    return "plan" if deadline is None else f"plan within {deadline:g} s"


class Deed(StrEnum):
    """What is done to a worker."""

    KILL = "kill"
    HALT = "halt"
    STOP = "stop"
    STOP_TWICE = "stop twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something done to a worker, which is back after `seconds`.

    It is done while a call of that name is on its way to the store, if there is one soon.
    """

    at: float
    deed: Deed
    worker: int
    seconds: float
    amid: str | None

    def __str__(self) -> str:
        amid = f" amid {self.amid}" if self.amid else ""
        return (
            f"{self.at:7.3f} {self.deed} worker {self.worker}{amid}, back after {self.seconds:g} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client has done to a workflow from outside, once, whether it is accepted or not.

    A cancellation may be part of a transaction, which is committed or not.
    """

    at: float
    event: Transition
    workflow_id: str
    commits: bool | None = None

    def __str__(self) -> str:
        how = {None: "", True: " in a transaction", False: " in a transaction, rolled back"}
        return f"{self.at:7.3f} {self.event} {self.workflow_id}{how[self.commits]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A workflow that a client begins with the records of another one, if it can be done."""

    at: float
    workflow_id: str
    new_id: str
    before: str | None

    def __str__(self) -> str:
        return f"{self.at:7.3f} fork {self.workflow_id} to {self.new_id}, before {self.before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that is decided before a simulation begins.

    At the end, what is paused is resumed, and what is cancelled is retried if `retries` says so.

    `chance` is the seed of what is not: which calls fail, and how long each takes. `skews` has an
    entry for each worker: seconds by which its clock is ahead. `expire_after` is when the workers
    delete what has ended, in seconds. `backoff` is the first pause after a failure; those that
    follow are longer. Without it all are the same.
    """

    seed: int
    chance: int
    skews: tuple[float, ...]
    starts: tuple[Start, ...]
    actions: tuple[Action, ...]
    orders: tuple[Order, ...]
    forks: tuple[Fork, ...]
    retries: bool
    expire_after: float | None
    backoff: float | None
    fault_rate: float
    latency: float
    slots: int
    poll_interval: float
    park_after: float

    @property
    def is_healthy(self) -> bool:
        """Whether nothing goes wrong in it."""
        return not (self.actions or self.fault_rate or any(self.skews))

    @property
    def is_calm(self) -> bool:
        """Whether its workflows are left alone, too."""
        return self.is_healthy and not self.orders

    def __str__(self) -> str:
        happenings: list[Start | Action | Order | Fork] = [
            *self.starts,
            *self.actions,
            *self.orders,
            *self.forks,
        ]
        happenings.sort(key=lambda happening: happening.at)
        fleet = (
            f"seed {self.seed}: {len(self.skews)} workers of {self.slots} slots, "
            f"clocks ahead by {[round(skew, 3) for skew in self.skews]} s, "
            f"faults {self.fault_rate:g}, latency {self.latency:g} s, "
            f"poll_interval {self.poll_interval:g} s, park_after {self.park_after:g} s, "
            f"retries {self.retries}, expire_after {self.expire_after}, backoff {self.backoff}"
        )
        return "\n".join([fleet, *map(str, happenings)])

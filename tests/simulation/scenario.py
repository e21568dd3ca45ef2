"""What happens to a fleet, all of it drawn from one seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from bluestreak_core.machine import Transition

CHAOS = 90.0
"""Seconds for which things go wrong; then all is healed, and everything has to come to its end."""

AMID_WITHIN = 30.0
"""Seconds for which what is to be done amid a call waits for one."""

LEASE = 10.0

TIME_TO_STOP = 40.0
"""The time to drain, twice that of a step that swallows its cancellation, and some."""

CALM_AFTER = CHAOS + AMID_WITHIN + TIME_TO_STOP + LEASE
"""Seconds after which nothing goes wrong any more."""

DEADLINES = (20.0, 120.0)

NAMES = ("a", "b", "c")
"""Those of the messages."""


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
    COMPENSATION = "compensation"
    RETRIED = "step tried again by policy"
    GIVEN_UP = "step given up by policy"
    TRANSACTION = "transaction"
    TIMED = "step cut at first by its time limit"
    REFUSED = "step given up by policy for what it raises"
    UNEXPECTED = "step that raises what its policy does not expect"
    ABORT = "step that aborts"
    RECEIVE = "receive"
    RECEIVE_ANY = "receive any"
    CHILD = "child"
    STARTED_CHILD = "started child"
    RESTART = "restart"
    ONCE = "step called at most once"
    MAP = "map"
    PARALLEL = "parallel"
    RACE = "race"
    PUBLISH = "publish"
    CALLBACK = "callback"


class Post(StrEnum):
    """How a client sends a message."""

    ONCE = "send"
    AGAIN = "send three times"
    MANY = "send_many"
    SESSION = "send in a transaction"
    ROLLED_BACK = "send in a transaction, the first of which is rolled back"


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

    A compensation is registered, and is called if the workflow is aborted or cancelled.

    A flaky step fails `failures` times in all, caught by nobody. So does one that is tried again by
    a policy, which catches that, and pauses for `seconds` at first. One that is given up fails each
    time, and has one attempt more than `failures`. One with a time limit of `seconds` never returns
    in its first `failures` calls. One that is refused, or raises what is not expected, does so
    after as many, and would be tried again for ever. `branches` is what a gather waits for.

    A receive asks for the messages of these `names`, for `timeout` seconds, or until so many have
    passed in all, or without a limit.

    A child has a plan of its own, and is abandoned by its parent's end or cancelled. The result of
    a started one is awaited after `seconds`, or never. A workflow restarts `failures` times. A step
    that is called at most once is tried again if it has `failures`. A map and a parallel run their
    `branches`, of which they tolerate some failures, or want only enough; a race has the first of
    them. A callback is answered by as many as `answers` say, each so many seconds later.
    """

    id: str
    kind: Kind
    seconds: float = 0.0
    failures: int = 0
    branches: tuple[Operation, ...] = ()
    names: tuple[str, ...] = ()
    timeout: float | None = None
    until: float | None = None
    plan: tuple[Operation, ...] = ()
    is_abandoned: bool = False
    is_awaited: bool = True
    tolerate: int | None = None
    enough: int | None = None
    answers: tuple[float, ...] = ()

    @property
    def result_id(self) -> str:
        """The step that records the end of its child."""
        return self.id if self.kind is Kind.CHILD else f"{self.id}/result"

    @property
    def child_failed(self) -> str:
        """What a handler has of a child that has failed."""
        return f"{self.id}: its child has failed"

    @property
    def timed_out(self) -> str:
        """What a handler has of a receive that has got nothing in time."""
        return f"{self.id} timed out"

    def given_up(self, attempts: int) -> str:
        """What a handler has of it when its policy has given it up."""
        return f"{self.id} given up after {attempts} attempts"

    def __str__(self) -> str:
        if self.kind is Kind.GATHER:
            return f"gather({', '.join(map(str, self.branches))})"
        if self.plan:
            end = ", abandoned" if self.is_abandoned else ""
            return f"{self.id}: {self.kind}{end} ({'; '.join(map(str, self.plan))})"
        if self.branches:
            rule = f"tolerate {self.tolerate}, enough {self.enough}"
            return f"{self.id}: {self.kind} of {', '.join(map(str, self.branches))}, {rule}"
        if self.answers:
            limit = "for ever" if self.timeout is None else f"for {self.timeout:g} s"
            return f"{self.id}: {self.kind} {limit}, answered after {self.answers} s"
        if self.names:
            limit = f"for {self.timeout:g} s" if self.timeout is not None else "for ever"
            limit = limit if self.until is None else f"until {self.until:g}"
            return f"{self.id}: {self.kind} of {', '.join(self.names)} {limit}"
        return f"{self.id}: {self.kind} {self.seconds:g} s"


def flat(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Operations with all their branches."""
    for operation in operations:
        yield operation
        yield from flat(operation.branches)


CHILDREN = (Kind.CHILD, Kind.STARTED_CHILD)


def families(workflow_id: str, plan: Iterable[Operation]) -> Iterator[tuple[str, str, Operation]]:
    """All children below a workflow: the parent's id, the child's id, and how it is started."""
    for operation in flat(plan):
        if operation.kind in CHILDREN:
            child_id = f"{workflow_id}/{operation.id}"
            yield workflow_id, child_id, operation
            yield from families(child_id, operation.plan)


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
class Letter:
    """A message, sent so many seconds after the last one, or amid a call of a worker."""

    name: str
    pause: float
    post: Post
    amid: str | None

    def __str__(self) -> str:
        amid = f" amid {self.amid}" if self.amid else ""
        return f"{self.name} ({self.post}, after {self.pause:g} s{amid})"


def payload_of(message_id: str) -> str:
    """What is sent with a message of this id."""
    return f"payload of {message_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """A client that sends messages to a workflow one after the other, in `copies` processes.

    One that is patient repeats a call until the store has answered. It dies with its call of this
    number, if it gets there.
    """

    id: str
    at: float
    workflow_id: str
    letters: tuple[Letter, ...]
    copies: int
    is_patient: bool
    dies_at: int | None

    def message_id(self, place: int) -> str:
        """That of a letter, the same in each process."""
        return f"{self.id}.{place}"

    def __str__(self) -> str:
        how = f"x{self.copies}, {'patiently' if self.is_patient else 'in passing'}"
        dies = "" if self.dies_at is None else f", dies at call {self.dies_at}"
        letters = ", ".join(map(str, self.letters))
        return f"{self.at:7.3f} {self.id} to {self.workflow_id} {how}{dies}: {letters}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that is decided before a simulation begins.

    At the end, what is paused is resumed, what is cancelled is retried if `retries` says so, and
    everybody is sent what they may wait for.

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
    senders: tuple[Sender, ...]
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
        happenings: list[Start | Action | Order | Fork | Sender] = [
            *self.starts,
            *self.actions,
            *self.orders,
            *self.forks,
            *self.senders,
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

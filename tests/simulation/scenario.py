"""What happens to a fleet, all of it drawn from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Any, Self

from bluestreak_core import machine
from bluestreak_core.machine import Event

CHAOS = 90.0
"""Seconds for which things go wrong; then all is healed, and everything has to come to its end."""

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
    event: Event
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

    @classmethod
    def drawn(cls, seed: int) -> Self:
        """The scenario of a seed."""
        draw = Random(seed)
        count = draw.randint(1, 6)
        workers = draw.randint(1, 3)
        skewed = draw.random() < 0.3
        from_outside = Random(f"from outside {seed}")
        policies = Random(f"policies {seed}")
        times = Random(f"times {seed}")
        clients = Random(f"clients {seed}")
        planned = [
            _with_policies(policies, _with_clean_ups(from_outside, _start(draw, number)))
            for number in range(count)
        ]
        starts = tuple(_with_ways(clients, _with_times(times, start)) for start in planned)
        return cls(
            seed=seed,
            chance=seed,
            skews=tuple(draw.uniform(-3, 3) if skewed else 0.0 for _ in range(workers)),
            starts=starts,
            actions=tuple(_action(draw, workers) for _ in range(draw.choice((0, 1, 2, 4, 8)))),
            orders=tuple(_with_session(clients, one) for one in _orders(from_outside, count)),
            forks=_forks(policies, starts),
            retries=from_outside.random() < 0.5,
            expire_after=times.choice((None, None, 120.0)),
            backoff=clients.choice((None, 0.5, 2.0)),
            fault_rate=draw.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
            latency=draw.choice((0.0, 0.02, 0.5)),
            slots=draw.choice((1, 2, 10)),
            poll_interval=draw.choice((5.0, 120.0)),
            park_after=draw.choice((0.0, 5.0)),
        )

    @property
    def is_healthy(self) -> bool:
        """Whether nothing goes wrong in it."""
        return not (self.actions or self.fault_rate or any(self.skews))

    @property
    def is_calm(self) -> bool:
        """Whether its workflows are left alone, too."""
        return self.is_healthy and not self.orders

    def simpler(self) -> Iterator[Scenario]:
        """This scenario with one thing less."""
        yield from self._with_less_happening()
        for place, start in enumerate(self.starts):
            for simpler in _simpler_starts(start):
                starts = (*self.starts[:place], simpler, *self.starts[place + 1 :])
                yield replace(self, starts=starts)
        if len(self.skews) > 1:
            last = len(self.skews) - 1
            kept = tuple(action for action in self.actions if action.worker < last)
            yield replace(self, skews=self.skews[:-1], actions=kept)
        if any(self.skews):
            yield replace(self, skews=(0.0,) * len(self.skews))
        if self.fault_rate:
            yield replace(self, fault_rate=0.0)
        if self.latency:
            yield replace(self, latency=0.0)
        if self.expire_after is not None:
            yield replace(self, expire_after=None)
        if self.backoff is not None:
            yield replace(self, backoff=None)

    def _with_less_happening(self) -> Iterator[Scenario]:
        for place in range(len(self.actions)):
            yield replace(self, actions=_without(self.actions, place))
        for place in range(len(self.orders)):
            yield replace(self, orders=_without(self.orders, place))
            if self.orders[place].commits is not None:
                simpler = replace(self.orders[place], commits=None)
                orders = (*self.orders[:place], simpler, *self.orders[place + 1 :])
                yield replace(self, orders=orders)
        for place in range(len(self.forks)):
            yield replace(self, forks=_without(self.forks, place))
        if len(self.starts) > 1:
            for place in range(len(self.starts)):
                yield replace(self, starts=_without(self.starts, place))

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


def _start(draw: Random, number: int) -> Start:
    ids = (str(place) for place in range(1000))
    return Start(
        workflow_id=f"w{number}",
        at=round(draw.uniform(0, CHAOS / 2), 3) if draw.random() < 0.7 else 0.0,
        copies=draw.choice((1, 1, 2)),
        operations=tuple(_operation(draw, ids) for _ in range(draw.randint(0, 5))),
    )


def _operation(draw: Random, ids: Iterator[str], depth: int = 0) -> Operation:
    kinds = [Kind.STEP, Kind.STEP, Kind.SLOW, Kind.STUCK, Kind.FLAKY, Kind.STUBBORN, Kind.NAP]
    kinds += [Kind.NAP, Kind.GATHER] if depth == 0 else []
    kind = Kind.THREAD if draw.random() < 0.02 else draw.choice(kinds)
    spans: dict[Kind, tuple[float, ...]] = {
        Kind.SLOW: (0.1, 3, 25),
        Kind.STUCK: (60,),
        Kind.STUBBORN: (1, 20),
        Kind.NAP: (0, 0.5, 4, 30, 200),
    }
    branches = range(draw.randint(2, 3)) if kind is Kind.GATHER else ()
    return Operation(
        id=next(ids),
        kind=kind,
        seconds=draw.choice(spans.get(kind, (0.0,))),
        failures=draw.randint(1, 2) if kind is Kind.FLAKY else 0,
        branches=tuple(_operation(draw, ids, depth + 1) for _ in branches),
    )


def _action(draw: Random, workers: int) -> Action:
    return Action(
        at=round(draw.uniform(0, CHAOS), 3),
        deed=draw.choice(tuple(Deed)),
        worker=draw.randrange(workers),
        seconds=draw.choice((0.5, LEASE * 0.9, LEASE * 1.5, LEASE * 3)),
        amid=draw.choice((None, "claim", "save_step", "save_step", "save_nap", "finish", "park")),
    )


def _with_clean_ups(draw: Random, start: Start) -> Start:
    operations = list(start.operations)
    for number in range(draw.choice((0, 1, 3))):
        clean_up = Operation(
            id=f"clean-up {number}", kind=Kind.CLEAN_UP, seconds=draw.choice((0, 0.1, 25))
        )
        operations.insert(draw.randint(0, len(operations)), clean_up)
    return replace(start, operations=tuple(operations))


def _with_policies(draw: Random, start: Start) -> Start:
    operations = list(start.operations)
    for number in range(draw.choice((0, 1, 2))):
        kind = draw.choice((Kind.RETRIED, Kind.GIVEN_UP, Kind.TRANSACTION, Kind.TRANSACTION))
        is_transaction = kind is Kind.TRANSACTION
        operation = Operation(
            id=f"policy {number}",
            kind=kind,
            seconds=draw.choice((0, 0.1, 3) if is_transaction else (0, 0.5, 4, 30)),
            failures=0 if is_transaction else draw.randint(1, 3),
        )
        gathers = [place for place, one in enumerate(operations) if one.kind is Kind.GATHER]
        if gathers and draw.random() < 0.3:
            gather = operations[gathers[0]]
            operations[gathers[0]] = replace(gather, branches=(*gather.branches, operation))
        else:
            operations.insert(draw.randint(0, len(operations)), operation)
    delay = draw.choice((0.0, 0.0, 0.0, 3.0, 45.0))
    return replace(start, operations=tuple(operations), delay=delay)


def _with_times(draw: Random, start: Start) -> Start:
    operations = list(start.operations)
    if draw.random() < 0.2:
        operation = Operation(
            id="timed", kind=Kind.TIMED, seconds=draw.choice((0.5, 4)), failures=draw.randint(1, 2)
        )
        operations.insert(draw.randint(0, len(operations)), operation)
    deadline = draw.choice((None, None, None, *DEADLINES))
    return replace(start, operations=tuple(operations), deadline=deadline)


def _with_ways(draw: Random, start: Start) -> Start:
    operations = list(start.operations)
    for number in range(draw.choice((0, 0, 1))):
        kind = draw.choice((Kind.REFUSED, Kind.UNEXPECTED, Kind.ABORT))
        operation = Operation(
            id=f"raises {number}",
            kind=kind,
            seconds=draw.choice((0, 0.5, 30)),
            failures=0 if kind is Kind.ABORT else draw.randint(0, 2),
        )
        operations.insert(draw.randint(0, len(operations)), operation)
    way = draw.choice((Way.DELAY, Way.DELAY, *Way))
    return replace(start, operations=tuple(operations), way=way, is_strict=draw.random() < 0.3)


def _with_session(draw: Random, order: Order) -> Order:
    if order.event is not Event.CANCEL:
        return order
    return replace(order, commits=draw.choice((None, True, False)))


def _forks(draw: Random, starts: tuple[Start, ...]) -> tuple[Fork, ...]:
    forks = []
    for number in range(draw.choice((0, 0, 1, 2))):
        start = draw.choice(starts)
        forks.append(
            Fork(
                at=round(draw.uniform(0, CHAOS), 3),
                workflow_id=start.workflow_id,
                new_id=f"f{number}",
                before=draw.choice((None, *(operation.id for operation in start.operations))),
            )
        )
    return tuple(forks)


def _orders(draw: Random, count: int) -> tuple[Order, ...]:
    events = (*machine.CONTROL, Event.CANCEL, Event.RETRY)
    victims = draw.choice((count, count, 1))
    return tuple(
        Order(
            at=round(draw.uniform(0, CHAOS), 3),
            event=draw.choice(events),
            workflow_id=f"w{draw.randrange(victims)}",
        )
        for _ in range(draw.choice((0, 0, 2, 20)))
    )


def _simpler_starts(start: Start) -> Iterator[Start]:
    for place in range(len(start.operations)):
        yield replace(start, operations=_without(start.operations, place))
    if start.copies > 1:
        yield replace(start, copies=1)
    if start.at:
        yield replace(start, at=0.0)
    if start.delay:
        yield replace(start, delay=0.0)
    if start.deadline is not None:
        yield replace(start, deadline=None)
    if start.way is not Way.DELAY:
        yield replace(start, way=Way.DELAY)
    if start.is_strict:
        yield replace(start, is_strict=False)


def _without(things: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    return (*things[:place], *things[place + 1 :])

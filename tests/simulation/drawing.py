"""How a scenario is drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random

from bluestreak_core import machine
from bluestreak_core.machine import Transition
from tests.simulation.drawing_structure import orders_to_children, restarts, with_structure
from tests.simulation.scenario import (
    CHAOS,
    DEADLINES,
    LEASE,
    NAMES,
    Action,
    Deed,
    Fork,
    Kind,
    Letter,
    Operation,
    Order,
    Post,
    Scenario,
    Sender,
    Start,
    Way,
    families,
    flat,
)


def drawn(seed: int) -> Scenario:
    """The scenario of a seed."""
    draw = Random(seed)
    count = draw.randint(1, 6)
    workers = draw.randint(1, 3)
    skewed = draw.random() < 0.3
    from_outside = Random(f"from outside {seed}")
    policies = Random(f"policies {seed}")
    times = Random(f"times {seed}")
    clients = Random(f"clients {seed}")
    mail = Random(f"mail {seed}")
    planned = [
        _with_policies(policies, _with_compensations(from_outside, _start(draw, number)))
        for number in range(count)
    ]
    timed = [_with_ways(clients, _with_times(times, start)) for start in planned]
    receiving = [_with_receives(mail, start) for start in timed]
    ends = Random(f"ends {seed}")
    ended = [_with_early_end(ends, start) for start in receiving]
    starts = tuple(start for start, _ in ended)
    early = [order for _, orders in ended for order in orders]
    skews = tuple(draw.uniform(-3, 3) if skewed else 0.0 for _ in range(workers))
    actions = tuple(_action(draw, workers) for _ in range(draw.choice((0, 1, 2, 4, 8))))
    forks = _forks(policies, starts)
    senders = _senders(mail, starts, forks)
    structure = Random(f"structure {seed}")
    starts = tuple(with_structure(structure, start) for start in starts)
    restarting = {start.workflow_id for start in starts if restarts(start)}
    return Scenario(
        seed=seed,
        chance=seed,
        skews=skews,
        starts=starts,
        actions=tuple(_amid_mail(mail, action) for action in actions),
        orders=(
            *(_with_session(clients, order) for order in _orders(from_outside, count)),
            *early,
            *orders_to_children(structure, starts),
        ),
        forks=tuple(fork for fork in forks if fork.workflow_id not in restarting),
        senders=senders,
        retries=from_outside.random() < 0.5,
        expire_after=_expiry(times, starts),
        backoff=clients.choice((None, 0.5, 2.0)),
        fault_rate=draw.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
        latency=draw.choice((0.0, 0.02, 0.5)),
        slots=draw.choice((1, 2, 10)),
        poll_interval=draw.choice((5.0, 120.0)),
        park_after=draw.choice((0.0, 5.0)),
    )


def _expiry(draw: Random, starts: tuple[Start, ...]) -> float | None:
    """When ended workflows are deleted: not before a parent has seen the end of its child."""
    drawn = draw.choice((None, None, 120.0))
    has_children = any(True for start in starts for _ in families("", start.operations))
    return None if has_children else drawn


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


def _with_compensations(draw: Random, start: Start) -> Start:
    operations = list(start.operations)
    for number in range(draw.choice((0, 1, 3))):
        compensation = Operation(
            id=f"compensation {number}", kind=Kind.COMPENSATION, seconds=draw.choice((0, 0.1, 25))
        )
        operations.insert(draw.randint(0, len(operations)), compensation)
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
        gathers = [
            place for place, operation in enumerate(operations) if operation.kind is Kind.GATHER
        ]
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
    if order.event is not Transition.CANCEL:
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
    events = (*machine.CONTROL, Transition.CANCEL, Transition.RETRY)
    victims = draw.choice((count, count, 1))
    return tuple(
        Order(
            at=round(draw.uniform(0, CHAOS), 3),
            event=draw.choice(events),
            workflow_id=f"w{draw.randrange(victims)}",
        )
        for _ in range(draw.choice((0, 0, 2, 20)))
    )


def _with_early_end(draw: Random, start: Start) -> tuple[Start, list[Order]]:
    """A start whose workflow may be cancelled soon, while there is something to undo."""
    seconds, at = draw.choice((0, 0.1, 25)), start.at + start.delay + draw.uniform(0, 10)
    if draw.random() < 0.9:
        return start, []
    compensation = Operation(id="first compensation", kind=Kind.COMPENSATION, seconds=seconds)
    cancel = Order(at=round(at, 3), event=Transition.CANCEL, workflow_id=start.workflow_id)
    return replace(start, operations=(compensation, *start.operations)), [cancel]


def _with_receives(draw: Random, start: Start) -> Start:
    operations = list(start.operations)
    for number in range(draw.choice((0, 0, 1, 2, 3))):
        receive = _receive(draw, f"receive {number}", NAMES)
        operations.insert(draw.randint(0, len(operations)), receive)
    if draw.random() < 0.3:
        gathers = [place for place, op in enumerate(operations) if op.kind is Kind.GATHER]
        branches = operations[gathers[0]].branches if gathers else ()
        gather = Operation(
            id="mail", kind=Kind.GATHER, branches=(*branches, *_receiving_branches(draw))
        )
        if gathers:
            operations[gathers[0]] = gather
        else:
            operations.insert(draw.randint(0, len(operations)), gather)
    return replace(start, operations=tuple(operations))


def _receiving_branches(draw: Random) -> Iterator[Operation]:
    """Each of another message, since two may not wait for the same one."""
    names = draw.sample(NAMES, 2)
    yield _receive(draw, "receive in a branch", (names[0],))
    if draw.random() < 0.7:
        yield _receive(draw, "receive in another", (names[1],))


def _receive(draw: Random, id: str, names: tuple[str, ...]) -> Operation:
    kind = draw.choice((Kind.RECEIVE, Kind.RECEIVE_ANY))
    count = 1 if kind is Kind.RECEIVE else min(len(names), 2)
    is_until = draw.random() < 0.1
    return Operation(
        id=id,
        kind=kind,
        names=tuple(draw.sample(names, count)),
        timeout=None if is_until else draw.choice((None, None, 0.0, 3.0, 20.0, 60.0)),
        until=round(draw.uniform(0, 2 * CHAOS), 3) if is_until else None,
    )


def _amid_mail(draw: Random, action: Action) -> Action:
    if draw.random() < 0.8:
        return action
    return replace(action, amid=draw.choice(("receive", "park_until_message")))


def _senders(
    draw: Random, starts: tuple[Start, ...], forks: tuple[Fork, ...]
) -> tuple[Sender, ...]:
    plans = {
        workflow_id: start.operations for start in starts for workflow_id in start.workflow_ids
    }
    plans |= {fork.new_id: plans[fork.workflow_id] for fork in forks}
    names = {
        workflow_id: [name for operation in flat(plan) for name in operation.names]
        for workflow_id, plan in plans.items()
    }
    receivers = [workflow_id for workflow_id in plans if names[workflow_id]]
    count = draw.choice((0, 2, 4, 8))
    return tuple(_sender(draw, number, names, receivers) for number in range(count))


def _sender(
    draw: Random, number: int, names: Mapping[str, list[str]], receivers: list[str]
) -> Sender:
    is_wanted = bool(receivers) and draw.random() < 0.8
    workflow_id = draw.choice(receivers if is_wanted else list(names))
    return Sender(
        id=f"s{number}",
        at=round(draw.uniform(0, 1.2 * CHAOS), 3),
        workflow_id=workflow_id,
        letters=tuple(_letter(draw, names[workflow_id] * 3) for _ in range(draw.randint(1, 5))),
        copies=draw.choice((1, 1, 2)),
        is_patient=draw.random() < 0.8,
        dies_at=draw.choice((None, None, None, 1, 2, 3, 4)),
    )


def _letter(draw: Random, wanted: list[str]) -> Letter:
    return Letter(
        name=draw.choice([*NAMES, *wanted]),
        pause=draw.choice((0.0, 0.0, 0.1, 3.0, 20.0)),
        post=draw.choice((Post.ONCE, Post.ONCE, *Post)),
        amid=draw.choice((None, None, None, "receive", "park_until_message", "claim")),
    )

"""What is drawn beside the steps of a scenario: children, branches, restarts, callbacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from bluestreak_core.machine import Transition
from tests.simulation.scenario import CHAOS, Kind, Operation, Order, Start, families


def with_structure(draw: Random, start: Start) -> Start:
    """A start whose workflow does some of this, too."""
    operations = [_undone_at_last(draw, operation) for operation in start.operations]
    added = [
        *_children(draw, depth=0),
        *_branches(draw),
        *_at_most_once(draw),
        *_callbacks(draw),
        *_published(draw),
    ]
    if draw.random() < 0.1:
        operations, added = _restarting(draw), []
    for operation in added:
        operations.insert(draw.randint(0, len(operations)), operation)
    return replace(start, operations=tuple(operations))


def orders_to_children(draw: Random, starts: Iterable[Start]) -> list[Order]:
    """What clients do to children, and soon to their parents."""
    orders: list[Order] = []
    for start in starts:
        children = [child_id for _, child_id, _ in families(start.workflow_id, start.operations)]
        if not children or draw.random() < 0.5:
            continue
        began_at = start.at + start.delay
        for workflow_id in (draw.choice(children), start.workflow_id):
            for _ in range(draw.choice((0, 1, 1, 2))):
                events = (Transition.CANCEL, Transition.CANCEL, Transition.RETRY, Transition.PAUSE)
                at = min(began_at + draw.uniform(0, 40), CHAOS)
                event = draw.choice(events)
                orders.append(Order(at=round(at, 3), event=event, workflow_id=workflow_id))
    return orders


def restarts(start: Start) -> bool:
    """Whether a workflow starts over."""
    return any(operation.kind is Kind.RESTART for operation in start.operations)


def _undone_at_last(draw: Random, operation: Operation) -> Operation:
    """A compensation that may fail at first, or always."""
    if operation.kind is not Kind.COMPENSATION or draw.random() < 0.7:
        return operation
    return replace(operation, failures=draw.choice((1, 2, 99)))


def _children(draw: Random, *, depth: int) -> list[Operation]:
    count = draw.choice((0, 0, 0, 1, 2)) if depth == 0 else draw.choice((0, 0, 1))
    return [
        Operation(
            id=f"child {number}",
            kind=draw.choice((Kind.CHILD, Kind.CHILD, Kind.STARTED_CHILD)),
            seconds=draw.choice((0.0, 4.0)),
            plan=_plan_of_a_child(draw, depth + 1),
            is_abandoned=draw.random() < 0.3,
            is_awaited=draw.random() < 0.6,
        )
        for number in range(count)
    ]


def _plan_of_a_child(draw: Random, depth: int) -> tuple[Operation, ...]:
    kinds = (Kind.STEP, Kind.STEP, Kind.SLOW, Kind.NAP, Kind.NAP, Kind.FLAKY, Kind.COMPENSATION)
    spans = {Kind.SLOW: (0.1, 3.0, 12.0), Kind.NAP: (0.5, 4.0, 30.0), Kind.COMPENSATION: (0.0, 3.0)}
    plan: list[Operation] = []
    for place in range(draw.randint(1, 3)):
        kind = draw.choice(kinds)
        seconds = draw.choice(spans.get(kind, (0.0,)))
        failures = 1 if kind is Kind.FLAKY else 0
        plan.append(Operation(id=str(place), kind=kind, seconds=seconds, failures=failures))
    if depth == 1:
        for child in _children(draw, depth=depth):
            plan.insert(draw.randint(0, len(plan)), child)
    if draw.random() < 0.2:
        plan.append(Operation(id="aborts", kind=Kind.ABORT))
    return tuple(plan)


def _branches(draw: Random) -> list[Operation]:
    if draw.random() < 0.7:
        return []
    kind = draw.choice((Kind.MAP, Kind.PARALLEL, Kind.RACE))
    if kind is Kind.RACE:
        racers = tuple(
            Operation(
                id=f"b{place}",
                kind=draw.choice((Kind.SLOW, Kind.NAP)),
                seconds=draw.choice((0.0, 0.5, 3.0, 12.0)),
            )
            for place in range(draw.randint(2, 3))
        )
        return [Operation(id="race", kind=kind, branches=racers)]
    is_tolerant = draw.random() < 0.7
    branches = tuple(
        Operation(
            id=f"b{place}",
            kind=Kind.GIVEN_UP if is_tolerant and draw.random() < 0.3 else Kind.SLOW,
            seconds=draw.choice((0.0, 0.5, 3.0, 12.0)),
        )
        for place in range(draw.randint(1, 5))
    )
    tolerate = draw.choice((None, 0, 1, 2)) if is_tolerant else None
    enough = draw.randint(1, len(branches)) if is_tolerant and draw.random() < 0.6 else None
    if is_tolerant and tolerate is None and enough is None:
        tolerate = 1
    return [
        Operation(id="branches", kind=kind, branches=branches, tolerate=tolerate, enough=enough)
    ]


def _at_most_once(draw: Random) -> list[Operation]:
    if draw.random() < 0.75:
        return []
    seconds = draw.choice((0.1, 3.0, 12.0))
    failures = draw.choice((0, 0, 1, 2))
    return [Operation(id="once", kind=Kind.ONCE, seconds=seconds, failures=failures)]


def _callbacks(draw: Random) -> list[Operation]:
    if draw.random() < 0.8:
        return []
    answers = tuple(draw.choice((0.0, 0.0, 0.5, 5.0, 30.0)) for _ in range(draw.choice((1, 2, 3))))
    timeout = draw.choice((None, None, 5.0, 30.0))
    return [Operation(id="callback", kind=Kind.CALLBACK, timeout=timeout, answers=answers)]


def _published(draw: Random) -> list[Operation]:
    if draw.random() < 0.75:
        return []
    return [
        Operation(id=f"publish {number}", kind=Kind.PUBLISH) for number in range(draw.randint(1, 4))
    ]


def _restarting(draw: Random) -> list[Operation]:
    kinds = (Kind.STEP, Kind.SLOW, Kind.NAP, Kind.FLAKY, Kind.ONCE, Kind.PUBLISH)
    spans = {Kind.SLOW: (0.1, 3.0, 12.0), Kind.NAP: (0.0, 0.5, 4.0, 20.0), Kind.ONCE: (0.1, 3.0)}
    operations = []
    for place in range(draw.randint(1, 4)):
        kind = draw.choice(kinds)
        seconds = draw.choice(spans.get(kind, (0.0,)))
        failures = 1 if kind is Kind.FLAKY else 0
        operations.append(Operation(id=str(place), kind=kind, seconds=seconds, failures=failures))
    operations.append(Operation(id="restart", kind=Kind.RESTART, failures=draw.randint(1, 3)))
    return operations

"""From a scenario in which something is violated to the smallest one in which it still is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.simulation.drawing import drawn
from tests.simulation.scenario import Post, Scenario, Sender, Start, Way
from tests.simulation.world import Verdict, simulate

_TRIES = 600
_CHANCES = 4


def shrunk(verdict: Verdict) -> Verdict:
    """The verdict on the simplest scenario that was found to be violated as well.

    A scenario with one thing less meets with other faults, so it is tried with several chances.
    """
    tries = 0
    candidates = _candidates(verdict.scenario)
    while tries < _TRIES and (candidate := next(candidates, None)) is not None:
        tries += 1
        found = simulate(candidate)
        if found.violations:
            verdict = found
            candidates = _candidates(verdict.scenario)
    return verdict


def _candidates(scenario: Scenario) -> Iterator[Scenario]:
    for less in simpler(scenario):
        for chance in range(scenario.chance, scenario.chance + _CHANCES):
            yield replace(less, chance=chance)


def simpler(scenario: Scenario) -> Iterator[Scenario]:
    """A scenario with one thing less."""
    yield from _with_less_happening(scenario)
    for place, start in enumerate(scenario.starts):
        for less in _simpler_starts(start):
            starts = (*scenario.starts[:place], less, *scenario.starts[place + 1 :])
            yield replace(scenario, starts=starts)
    if len(scenario.skews) > 1:
        last = len(scenario.skews) - 1
        kept = tuple(action for action in scenario.actions if action.worker < last)
        yield replace(scenario, skews=scenario.skews[:-1], actions=kept)
    if any(scenario.skews):
        yield replace(scenario, skews=(0.0,) * len(scenario.skews))
    if scenario.fault_rate:
        yield replace(scenario, fault_rate=0.0)
    if scenario.latency:
        yield replace(scenario, latency=0.0)
    if scenario.expire_after is not None:
        yield replace(scenario, expire_after=None)
    if scenario.backoff is not None:
        yield replace(scenario, backoff=None)


def _with_less_happening(scenario: Scenario) -> Iterator[Scenario]:
    for place in range(len(scenario.actions)):
        yield replace(scenario, actions=_without(scenario.actions, place))
    for place in range(len(scenario.orders)):
        yield replace(scenario, orders=_without(scenario.orders, place))
        if scenario.orders[place].commits is not None:
            simpler = replace(scenario.orders[place], commits=None)
            orders = (*scenario.orders[:place], simpler, *scenario.orders[place + 1 :])
            yield replace(scenario, orders=orders)
    for place in range(len(scenario.forks)):
        yield replace(scenario, forks=_without(scenario.forks, place))
    for place, sender in enumerate(scenario.senders):
        yield replace(scenario, senders=_without(scenario.senders, place))
        for less in _simpler_senders(sender):
            senders = (*scenario.senders[:place], less, *scenario.senders[place + 1 :])
            yield replace(scenario, senders=senders)
    if len(scenario.starts) > 1:
        for place in range(len(scenario.starts)):
            yield replace(scenario, starts=_without(scenario.starts, place))


def _simpler_starts(start: Start) -> Iterator[Start]:
    for place, operation in enumerate(start.operations):
        yield replace(start, operations=_without(start.operations, place))
        for branch in range(len(operation.branches)):
            less = replace(operation, branches=_without(operation.branches, branch))
            operations = (*start.operations[:place], less, *start.operations[place + 1 :])
            yield replace(start, operations=operations)
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


def _simpler_senders(sender: Sender) -> Iterator[Sender]:
    for place, letter in enumerate(sender.letters):
        if len(sender.letters) > 1:
            yield replace(sender, letters=_without(sender.letters, place))
        if letter.post is not Post.ONCE:
            simpler = replace(letter, post=Post.ONCE)
            letters = (*sender.letters[:place], simpler, *sender.letters[place + 1 :])
            yield replace(sender, letters=letters)
    if sender.copies > 1:
        yield replace(sender, copies=1)
    if sender.dies_at is not None:
        yield replace(sender, dies_at=None)


def _without(things: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    return (*things[:place], *things[place + 1 :])


def account(seed: int) -> str | None:
    """What is violated with a seed, as a person wants to read it, or None if nothing is."""
    verdict = simulate(drawn(seed))
    return describe(verdict, shrunk(verdict)) if verdict.violations else None


def describe(verdict: Verdict, smallest: Verdict) -> str:
    """A verdict, and the smallest scenario that it was shrunk to."""
    seed = verdict.scenario.seed
    return "\n".join(
        [
            f"seed {seed}: {verdict.violations[0]}",
            f"run it again: python -m tests.simulation --first {seed} --seeds 1",
            "",
            "the smallest scenario that shows a violation:",
            str(smallest.scenario),
            "",
            "what happened in it:",
            *smallest.timeline,
        ]
    )

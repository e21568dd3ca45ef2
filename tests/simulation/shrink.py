"""From a scenario in which something is violated to the smallest one in which it still is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.simulation.scenario import Scenario
from tests.simulation.world import Verdict, simulate

_TRIES = 600
_CHANCES = 4


def shrunk(verdict: Verdict) -> Verdict:
    """The verdict on the simplest scenario that was found to be violated as well.

    A scenario with one thing less meets with other faults, so it is tried with several chances.
    """
    tries = 0
    candidates = _simpler(verdict.scenario)
    while tries < _TRIES and (candidate := next(candidates, None)) is not None:
        tries += 1
        found = simulate(candidate)
        if found.violations:
            verdict = found
            candidates = _simpler(verdict.scenario)
    return verdict


def _simpler(scenario: Scenario) -> Iterator[Scenario]:
    for simpler in scenario.simpler():
        for chance in range(scenario.chance, scenario.chance + _CHANCES):
            yield replace(simpler, chance=chance)


def account(seed: int) -> str | None:
    """What is violated with a seed, as a person wants to read it, or None if nothing is."""
    verdict = simulate(Scenario.drawn(seed))
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

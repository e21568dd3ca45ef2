"""Fleets in virtual time, by the hundred; `python -m tests.simulation` runs more of them."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from bluestreak_core import machine
from bluestreak_core.machine import Transition
from tests.simulation import (
    branch_invariant,
    child_invariant,
    compensation_invariant,
    fleet_invariant,
    lasting_invariant,
    mail_invariant,
    store_invariant,
)
from tests.simulation.drawing import drawn
from tests.simulation.mutation import MUTATIONS, is_noticed, mutated, seeds_needed
from tests.simulation.scenario import CHILDREN, Deed, Kind, Post, Way, flat
from tests.simulation.shrink import account, describe, shrunk
from tests.simulation.world import simulate

ROOT = Path(__file__).parents[2]
SEEDS = 500
"""How many seeds a mutation may need."""

TRIED = 50
"""How many seeds are tried each time; `make soak` tries more."""

PART = 50

FEW = 12
"""How many seeds are tried for one that is violated."""

INVARIANTS = (
    store_invariant,
    fleet_invariant,
    mail_invariant,
    child_invariant,
    compensation_invariant,
    lasting_invariant,
    branch_invariant,
)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, TRIED, PART))
@pytest.mark.usefixtures("unmeasured")
def test_nothing_is_violated(first: int) -> None:
    for seed in range(first, first + PART):
        assert (found := account(seed)) is None, found


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.usefixtures("unmeasured")
def test_the_simulation_notices_each_guard_that_is_taken_away(name: str) -> None:
    """By the seed that did so when they were counted, or by another if much has changed since."""
    assert is_noticed(name, MUTATIONS[name].seeds - 1) or seeds_needed(name, SEEDS) is not None


def test_the_documentation_names_each_invariant() -> None:
    functions = [
        name
        for module in INVARIANTS
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    ]
    text = (ROOT / "docs" / "reliability.md").read_text()
    invariants = text.partition("\n**Starting**\n")[2].partition("\nEach is a function")[0]
    named = re.findall(r"`([a-z]+(?:_[a-z]+)+)`", invariants)
    assert sorted(named) == sorted(functions)


def test_the_seeds_differ_in_all_that_can_happen() -> None:
    scenarios = [drawn(seed) for seed in range(SEEDS)]
    assert {action.deed for scenario in scenarios for action in scenario.actions} == set(Deed)
    kinds = {
        op.kind for scenario in scenarios for start in scenario.starts for op in start.operations
    }
    assert kinds == set(Kind)
    assert {order.event for scenario in scenarios for order in scenario.orders} == set(
        machine.CONTROL
    )
    cancellations = [
        order
        for scenario in scenarios
        for order in scenario.orders
        if order.event is Transition.CANCEL
    ]
    assert {order.commits for order in cancellations} == {None, True, False}
    starts = [start for scenario in scenarios for start in scenario.starts]
    assert {(start.way, start.is_strict) for start in starts} == set(product(Way, (True, False)))
    senders = [sender for scenario in scenarios for sender in scenario.senders]
    assert {letter.post for sender in senders for letter in sender.letters} == set(Post)
    assert {(sender.is_patient, sender.dies_at is None) for sender in senders} == set(
        product((True, False), (True, False))
    )
    children = [op for start in starts for op in flat(start.operations) if op.plan]
    assert {(op.kind, op.is_abandoned) for op in children} == set(product(CHILDREN, (True, False)))
    assert any(op.kind is Kind.ABORT for child in children for op in child.plan)
    receives = [op for start in starts for op in flat(start.operations) if op.names]
    assert {(op.timeout is None, op.until is None) for op in receives} == {
        *((True, True), (True, False), (False, True))
    }
    assert {scenario.backoff is None for scenario in scenarios} == {True, False}
    assert {bool(scenario.fault_rate) for scenario in scenarios} == {True, False}
    assert {any(scenario.skews) for scenario in scenarios} == {True, False}


PROGRAM = """\
import hashlib, json
from tests.simulation.drawing import drawn
from tests.simulation.world import simulate
for seed in range(10):
    timeline = simulate(drawn(seed)).timeline
    print(hashlib.sha256(json.dumps(timeline).encode()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_a_seed_has_the_same_timeline_in_every_process() -> None:
    other = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "17"},
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [
        hashlib.sha256(json.dumps(simulate(drawn(seed)).timeline).encode()).hexdigest()
        for seed in range(10)
    ]
    assert other.stdout.split() == ours


@pytest.mark.slow
@pytest.mark.usefixtures("unmeasured")
def test_a_violated_scenario_shrinks_to_a_timeline_that_can_be_read() -> None:
    with mutated("any claim moves a workflow"):
        verdicts = [simulate(drawn(seed)) for seed in range(FEW)]
        # The shortest, as each try to shrink it is as long.
        violated = min(
            (verdict for verdict in verdicts if verdict.violations),
            key=lambda verdict: len(verdict.timeline),
        )
        smallest = shrunk(violated)
    assert smallest.violations
    assert len(smallest.timeline) < len(violated.timeline) / 2
    told = describe(violated, smallest)
    assert f"--first {violated.scenario.seed} --seeds 1" in told
    assert "VIOLATED" in told

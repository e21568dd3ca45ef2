"""Guards of the library taken away, one at a time, to show that the simulation notices.

Each is a change of one function for as long as a block lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from tests.simulation.guard import Mutation
from tests.simulation.mutation_fleet import FLEET
from tests.simulation.mutation_mail import MAIL
from tests.simulation.mutation_structure import STRUCTURE

MUTATIONS: dict[str, Mutation] = FLEET | MAIL | STRUCTURE


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The library without one of its guards."""
    with ExitStack() as undo:
        for place, attribute, replacement in MUTATIONS[name].changes:
            undo.enter_context(patch.object(place, attribute, replacement))
        yield


def seeds_needed(name: str, limit: int) -> int | None:
    """How many seeds it takes to notice that a guard is missing, from 0 on; None if too many."""
    return next((seed + 1 for seed in range(limit) if is_noticed(name, seed)), None)


def is_noticed(name: str, seed: int) -> bool:
    """Whether it is noticed with a seed that a guard is missing."""
    from tests.simulation.drawing import drawn  # noqa: PLC0415
    from tests.simulation.world import simulate  # noqa: PLC0415

    with mutated(name):
        return bool(simulate(drawn(seed)).violations)

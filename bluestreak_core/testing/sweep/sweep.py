"""The crash sweep: a workflow is run with a crash at each of its store calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluestreak_core.argument import check_callable
from bluestreak_core.run import Handler, HandlerPolicy
from bluestreak_core.testing.sweep.difference import find_differences
from bluestreak_core.testing.sweep.environment import SweptEnvironment
from bluestreak_core.testing.sweep.rerun import WORKFLOW_ID, CrashPoint, Rerun
from bluestreak_core.testing.virtual.environment import Environment, Outcome
from bluestreak_core.testing.virtual.stuck import Stuck

Meanwhile = Callable[[Environment], object]

_ADVICE = (
    "After a crash the handler runs again from the top, over its recorded steps. What stands "
    "outside of them may be different then: chance, the clock, a variable that outlives a run. "
    "It belongs into a step."
)
_SHOWN = 3
_GRACE = 100
"""How many times as long as the first run the others may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep has seen: the outcome without a crash, and the crashes that changed nothing.

    `outcomes` are those of all workflows that there were in the end, by their ids.
    """

    outcome: Outcome
    outcomes: Mapping[str, Outcome]
    crashes: list[CrashPoint]


class CrashUnsafe(AssertionError):
    """A workflow came to another end, or repeated what it may not, because of a crash.

    `differences` tells for each crash what was different; for None, in a second run without one.
    """

    def __init__(
        self, differences: Mapping[CrashPoint | None, Sequence[str]], crashes: int
    ) -> None:
        super().__init__(differences, crashes)
        self.differences = differences
        self.crashes = crashes

    def __str__(self) -> str:
        by_crash = len([point for point in self.differences if point is not None])
        lines = [f"{by_crash} of {self.crashes} crashes changed what came of it"]
        for point, differences in list(self.differences.items())[:_SHOWN]:
            lines.append(f"with a crash {point}:" if point else "run again, without a crash:")
            lines += [f"  {difference}" for difference in differences]
        if len(self.differences) > _SHOWN:
            lines.append(f"and {len(self.differences) - _SHOWN} more")
        return "\n".join([*lines, _ADVICE])


def crash_everywhere(
    handler: Handler,
    input: Any = None,
    *,
    policy: HandlerPolicy | None = None,
    before_each: Callable[[], object] | None = None,
    meanwhile: Meanwhile | None = None,
    **settings: Any,
) -> Sweep:
    """Check that a workflow comes to the same end wherever its worker dies.

    The workflow is run once to count the store calls of its worker, once more to see whether it is
    repeatable at all, and then, for each of the calls, once with a crash just before it and once
    with a crash just after it; a second worker takes over. Each time the workflow has to end as it
    did at first: the same status, result and reason, the same steps, given-up steps and naps, the
    same arguments for each step. No step may be called again once it is recorded, and otherwise
    only as often as at first, and once more for each time that its call was interrupted.

    A step is free to return something else each time, such as a random number: what it returned in
    the first run counts in the others. `before_each` is called before each run, to reset what the
    steps talk to. `policy` has the rules of the handler, as `register_handler` takes them;
    `settings` are those of `Environment`.

    `meanwhile` is what is done from outside. It is called in each run, with its environment, when
    the workflow, whose id is `"workflow"`, has been started; it may let time pass, cancel, pause,
    retry, fork, or start others. All workflows that there are then have to end, and to end as they
    did at first. A crash costs time, up to a lease. So one that is cancelled, or aborted at its
    deadline, may have got less far than at first, but not elsewhere; and its clean-ups are due only
    where it was cancelled in a run whose worker did not die.

    Raises `CrashUnsafe` with an account, and `Stuck` if even the first run does not end.
    """
    if meanwhile is not None:
        check_callable("meanwhile", meanwhile)
    prepare = before_each or (lambda: None)

    prepare()
    first = Rerun(None, {}, settings)
    _execute(first, handler, input, policy, meanwhile)
    outputs = {wid: outcome.steps for wid, outcome in first.outcomes.items()}
    differences = {}
    points = list(_points(first.store_calls))
    for point in (None, *points):
        prepare()
        rerun = Rerun(point, outputs, settings | {"turns": _GRACE * first.turns})
        try:
            _execute(rerun, handler, input, policy, meanwhile and _telling(meanwhile))
            found = list(find_differences(rerun, first))
        except Stuck as stuck:
            found = [str(stuck)]
        except _MeanwhileRaised as raised:
            found = [f"meanwhile raised {raised.__cause__!r}"]
        if found:
            differences[point] = found
    if differences:
        raise CrashUnsafe(differences, len(points))
    return Sweep(outcome=first.outcomes[WORKFLOW_ID], outcomes=first.outcomes, crashes=points)


def _execute(
    rerun: Rerun,
    handler: Handler,
    input: Any,
    policy: HandlerPolicy | None,
    meanwhile: Meanwhile | None,
) -> None:
    """Run the workflow, and all that there are beside it, to their ends. Raises `Stuck`."""
    with SweptEnvironment(rerun) as environment:
        environment.begin(handler, input, policy)
        if meanwhile is not None:
            meanwhile(environment)
        rerun.outcomes = environment.ended()
        rerun.turns = environment.turns


def _points(calls: Sequence[str]) -> Iterator[CrashPoint]:
    for number, name in enumerate(calls, start=1):
        for after in (False, True):
            yield CrashPoint(number=number, call=name, after=after)


class _MeanwhileRaised(Exception):
    """What was done from outside raised; what that was is the cause."""


def _telling(meanwhile: Meanwhile) -> Meanwhile:
    """Lets what it raises after a crash be told from what the sweep itself raises."""

    def told(environment: Environment) -> None:
        try:
            meanwhile(environment)
        except Stuck:
            raise
        except Exception as error:  # a refusal that was none at first, or an assertion
            raise _MeanwhileRaised from error

    return told

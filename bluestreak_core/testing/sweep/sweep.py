"""The crash sweep: a workflow is run with a crash at each of its store calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bluestreak_core.argument import check_callable
from bluestreak_core.run import Handler, HandlerPolicy
from bluestreak_core.testing.sweep.difference import find_differences
from bluestreak_core.testing.sweep.environment import begin, final_outcomes, swept_environment
from bluestreak_core.testing.sweep.rerun import WORKFLOW_ID, CrashPoint, Rerun
from bluestreak_core.testing.virtual import Environment, Outcome, Stuck

Meanwhile = Callable[[Environment], object]

_ADVICE = (
    "After a crash the handler runs again from the top, over its recorded steps. Code outside of "
    "steps may see other values then: chance, the clock, a variable that outlives a run. "
    "Move it into a step."
)
_SHOWN = 3
_GRACE = 100
"""The other runs may take this many times as long as the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The result of a sweep: the outcome without a crash, and the crashes that changed nothing.

    `outcomes` has the outcomes of all workflows that existed in the end, by id.
    """

    outcome: Outcome
    outcomes: Mapping[str, Outcome]
    crashes: list[CrashPoint]


class CrashUnsafe(AssertionError):
    """A crash changed the end of a workflow, or made it repeat what it must not.

    `differences` has what was different for each crash; for None, in a second run without a crash.
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
    """Check that a workflow ends the same way wherever its worker dies.

    The sweep runs the workflow once to count the store calls of its worker, once more to see
    whether it is repeatable at all, and then twice for each call: with a crash just before it, and
    with a crash just after it. A second worker takes over. Each time the workflow must end as in
    the first run: with the same status, result and reason, the same steps, given-up steps and naps,
    the same messages received and left unread, the same values published, and the same arguments
    for each step. A recorded
    step must not be called again. Any other step may be called as often as in the first run, and
    once more for each interrupted call.

    A step may return something else each time, such as a random number: later runs use what it
    returned in the first run. Of a workflow that restarts, the steps of each generation are
    compared. `before_each` is called before each run, to reset the services that the steps use.
    `policy` has the rules of the handler, as `register_handler` takes them; `settings` are those of
    `Environment`.

    `meanwhile` acts from outside. Each run calls it with its environment once the workflow, whose
    id is `"workflow"`, has been started; it may let time pass, send messages, cancel, pause, retry,
    fork, or start other workflows. All of them must end, and end as in the first run. A crash costs
    time, up to a lease: leave more than that between a message and the timeout that it is to meet.
    A workflow that is cancelled, or aborted at its deadline, may have recorded less than in the
    first run, but nothing else; and its clean-ups are due only if it was cancelled during a run
    whose worker did not die.

    Raises `CrashUnsafe` with all differences, and `Stuck` if even the first run does not end.
    """
    if meanwhile is not None:
        check_callable("meanwhile", meanwhile)
    prepare = before_each or (lambda: None)

    prepare()
    first = Rerun(None, {}, settings)
    _execute(first, handler, input, policy, meanwhile)
    latest = {
        (wid, outcome.workflow.generation): outcome.steps for wid, outcome in first.outcomes.items()
    }
    outputs = first.past | latest
    differences = {}
    points = list(_points(first.store_calls))
    for point in (None, *points):
        prepare()
        rerun = Rerun(point, outputs, settings | {"turns": _GRACE * first.turns})
        try:
            _execute(rerun, handler, input, policy, meanwhile and _marking_errors(meanwhile))
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
    """Run the workflow, and all others beside it, to their ends. Raises `Stuck`."""
    with swept_environment(rerun) as environment:
        begin(environment, handler, input, policy)
        if meanwhile is not None:
            meanwhile(environment)
        rerun.outcomes = final_outcomes(environment)
        rerun.turns = environment.turns


def _points(calls: Sequence[str]) -> Iterator[CrashPoint]:
    for number, name in enumerate(calls, start=1):
        for after in (False, True):
            yield CrashPoint(number=number, call=name, after=after)


class _MeanwhileRaised(Exception):
    """`meanwhile` raised the cause of this."""


def _marking_errors(meanwhile: Meanwhile) -> Meanwhile:
    """Mark its errors after a crash, to keep them apart from those of the sweep itself."""

    def marked(environment: Environment) -> None:
        try:
            meanwhile(environment)
        except Stuck:
            raise
        except Exception as error:  # a refusal after the crash, or an assertion
            raise _MeanwhileRaised from error

    return marked

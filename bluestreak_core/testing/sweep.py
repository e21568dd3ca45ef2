"""The crash sweep: a workflow is run with a crash at each of its store calls."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from typing_extensions import override

from bluestreak_core.call import call
from bluestreak_core.clock import Clock
from bluestreak_core.codec import PLAIN
from bluestreak_core.context import Handler
from bluestreak_core.conversion import Conversion
from bluestreak_core.errors import UnstorableValue, ValueTooLarge
from bluestreak_core.model import Claim, Status
from bluestreak_core.store import Store
from bluestreak_core.testing.around import UNCOUNTED, StoreAround
from bluestreak_core.testing.environment import Environment, Outcome
from bluestreak_core.testing.stuck import Stuck
from bluestreak_core.testing.watch import StepWatch
from bluestreak_core.values import PlainRules

T = TypeVar("T")

_ADVICE = (
    "After a crash the handler runs again from the top, over its recorded steps. What stands "
    "outside of them may be different then: chance, the clock, a variable that outlives a run. "
    "It belongs into a step."
)
_SHOWN = 3
_GRACE = 100
"""How many times as long as the first run the others may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPoint:
    """Where a worker was killed: before or after the n-th store call, of this name."""

    number: int
    call: str
    after: bool

    def __str__(self) -> str:
        return f"just {'after' if self.after else 'before'} store call {self.number}, {self.call}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep has seen: the outcome without a crash, and the crashes that changed nothing."""

    outcome: Outcome
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
    before_each: Callable[[], object] | None = None,
    **settings: Any,
) -> Sweep:
    """Check that a workflow comes to the same end wherever its worker dies.

    The workflow is run once to count the store calls of its worker, once more to see whether it is
    repeatable at all, and then, for each of the calls, once with a crash just before it and once
    with a crash just after it; a second worker takes over. Each time the workflow has to end as it
    did at first: the same status and result, the same steps and naps, the same arguments for each
    step. No step may be called again once it is recorded, and at most once more than at first, if
    the crash interrupted it.

    A step is free to return something else each time, such as a random number: what it returned in
    the first run counts in the others. `before_each` is called before each run, to reset what the
    steps talk to. `settings` are those of `Environment`.

    Raises `CrashUnsafe` with an account, and `Stuck` if even the first run does not end.
    """
    prepare = before_each or (lambda: None)
    prepare()
    first = _Rerun(None, {}, settings)
    reference = first.execute(handler, input)
    differences = {}
    points = list(_points(first.store_calls))
    for point in (None, *points):
        prepare()
        rerun = _Rerun(point, reference.steps, settings | {"turns": _GRACE * first.turns})
        try:
            found = list(rerun.differences(rerun.execute(handler, input), first, reference))
        except Stuck as stuck:
            found = [str(stuck)]
        if found:
            differences[point] = found
    if differences:
        raise CrashUnsafe(differences, len(points))
    return Sweep(outcome=reference, crashes=points)


def _points(calls: Sequence[str]) -> Iterator[CrashPoint]:
    for number, name in enumerate(calls, start=1):
        for after in (False, True):
            yield CrashPoint(number=number, call=name, after=after)


class _Rerun:
    """A run of the workflow with at most one crash in it."""

    def __init__(
        self, point: CrashPoint | None, outputs: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        self.point = point
        self.outputs = outputs
        """What its steps are to return, by their ids, so that it is comparable."""
        self.store_calls: list[str] = []
        self.has_crashed = False
        self.called: Counter[str] = Counter()
        self.recorded: set[str] = set()
        self.interrupted: set[str] = set()
        """The steps that had been called but not recorded when the worker died."""
        self.repeated: list[str] = []
        """The steps that were called though they were recorded."""
        self.arguments: dict[str, Any] = {}
        self.odd_arguments: list[str] = []
        self.turns = 0
        self.conversion = Conversion(settings.get("codec", PLAIN))
        self._settings = settings

    def execute(self, handler: Handler, input: Any) -> Outcome:
        """Run the workflow to its end. Raises `Stuck`."""
        with _SweptEnvironment(self, self._settings) as environment:
            outcome = environment.run(handler, input)
            self.turns = environment.turns
        return outcome

    def note_call(self, step_id: str, args: tuple[Any, ...]) -> None:
        """A step's function is called."""
        self.called[step_id] += 1
        if step_id in self.recorded:
            self.repeated.append(step_id)
        arguments = _plain(args)
        if self.arguments.setdefault(step_id, arguments) != arguments:
            self.odd_arguments.append(
                f"step {step_id!r} was called with {arguments!r} after {self.arguments[step_id]!r}"
            )

    def note_crash(self) -> None:
        """The worker dies now."""
        self.has_crashed = True
        self.interrupted = set(self.called) - self.recorded

    def differences(self, outcome: Outcome, first: _Rerun, reference: Outcome) -> Iterator[str]:
        """What is not as it was in the first run."""
        if self.point is not None and not self.has_crashed:
            yield (
                f"the run had only {len(self.store_calls)} store calls, "
                f"the first one {len(first.store_calls)}"
            )
        yield from _differences("status", outcome.status.value, reference.status.value)
        yield from _differences("result", _end(outcome), _end(reference))
        yield from _differences("recorded steps", outcome.steps, reference.steps)
        yield from _differences("naps", sorted(outcome.naps), sorted(reference.naps))
        yield from self.odd_arguments
        for step_id, arguments in first.arguments.items():
            ours = self.arguments.get(step_id, arguments)
            yield from _differences(f"arguments of step {step_id!r}", ours, arguments)
        for step_id in self.repeated:
            yield f"step {step_id!r} was called again though it was recorded"
        for step_id, count in self.called.items():
            allowed = first.called[step_id] + (step_id in self.interrupted)
            if count > allowed:
                yield f"step {step_id!r} was called {count} times, at most {allowed} are due"


def _differences(what: str, now: Any, without: Any) -> Iterator[str]:
    if now != without:
        yield f"{what}: {now!r}, at first {without!r}"


def _end(outcome: Outcome) -> Any:
    """The result, or the error that it was aborted with."""
    error = outcome.workflow.error
    if outcome.status is Status.FINISHED or error is None:
        return outcome.workflow.result
    return f"{error.type}: {error.message}"


def _plain(args: tuple[Any, ...]) -> Any:
    """Arguments that can be compared, which those of a step need not be."""
    try:
        return PlainRules().round_trip(args, "arguments")[0]
    except (UnstorableValue, ValueTooLarge):
        return "arguments that are no plain values"


class _SweptEnvironment(Environment):
    """An environment that crashes where a run is to, and tells it what happens."""

    def __init__(self, rerun: _Rerun, settings: Mapping[str, Any]) -> None:
        self._rerun = rerun
        super().__init__(
            worker_store=lambda store: _CrashingStore(store, rerun, self.crash), **settings
        )

    @override
    def _new_watch(self, clock: Clock) -> StepWatch:
        return _SweepWatch(clock, self._rerun)


class _CrashingStore(StoreAround):
    """What a worker sees of the store, until it dies of one of its calls."""

    def __init__(self, store: Store, rerun: _Rerun, crash: Callable[[], None]) -> None:
        super().__init__(store)
        self._rerun = rerun
        self._crash = crash
        self._about = ""

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name in UNCOUNTED:
            return await call()
        calls, about, self._about = self._rerun.store_calls, self._about, ""
        calls.append(f"{name}{about}")
        point = self._rerun.point
        if point is None or point.number != len(calls):
            return await call()
        if point.after:
            await call()
        self._rerun.note_crash()
        self._crash()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a dead worker went on")

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        self._about = f" {step_id!r}"
        return await super().save_step(claim, step_id, output, now)

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        self._about = f" {nap_id!r}"
        return await super().save_nap(claim, nap_id, wake_up_at, now)


class _SweepWatch(StepWatch):
    """Lets steps return what they returned in the first run."""

    def __init__(self, clock: Clock, rerun: _Rerun) -> None:
        super().__init__(clock)
        self._rerun = rerun

    @override
    def around(self, workflow_id: str, step_id: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        noted = super().around(workflow_id, step_id, fn)
        rerun = self._rerun

        @functools.wraps(fn, updated=())
        async def as_before(*args: Any) -> Any:
            rerun.note_call(step_id, args)
            output = await call(step_id, noted, *args)
            if step_id not in rerun.outputs:
                return output
            return rerun.conversion.output(workflow_id, step_id, fn, rerun.outputs[step_id])

        return as_before

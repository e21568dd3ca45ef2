"""The crash sweep: a workflow is run with a crash at each of its store calls."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from typing_extensions import override

from bluestreak_core.argument import check_callable
from bluestreak_core.call import call
from bluestreak_core.clock import Clock
from bluestreak_core.codec import PLAIN
from bluestreak_core.context import Context, Handler
from bluestreak_core.conversion import Conversion
from bluestreak_core.errors import (
    DeadlineExceeded,
    UnstorableValue,
    Unsupported,
    ValueTooLarge,
)
from bluestreak_core.machine import Event
from bluestreak_core.model import Attempt, Claim, Failure, Status
from bluestreak_core.store import Store
from bluestreak_core.testing.around import UNCOUNTED, StoreAround
from bluestreak_core.testing.environment import Environment, HandlerPolicy, Outcome
from bluestreak_core.testing.stuck import Stuck
from bluestreak_core.testing.watch import StepWatch, _WatchedContext
from bluestreak_core.values import PlainRules

T = TypeVar("T")

Meanwhile = Callable[[Environment], object]

WORKFLOW_ID = "workflow"
"""That of the workflow that a sweep starts."""

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
    first = _Rerun(None, {}, settings)
    reference = first.execute(handler, input, policy, meanwhile)
    outputs = {wid: outcome.steps for wid, outcome in reference.items()}
    differences = {}
    points = list(_points(first.store_calls))
    for point in (None, *points):
        prepare()
        rerun = _Rerun(point, outputs, settings | {"turns": _GRACE * first.turns})
        try:
            outcomes = rerun.execute(handler, input, policy, meanwhile and _telling(meanwhile))
            found = list(rerun.differences(outcomes, first, reference))
        except Stuck as stuck:
            found = [str(stuck)]
        except _MeanwhileRaised as raised:
            found = [f"meanwhile raised {raised.__cause__!r}"]
        if found:
            differences[point] = found
    if differences:
        raise CrashUnsafe(differences, len(points))
    return Sweep(outcome=reference[WORKFLOW_ID], outcomes=reference, crashes=points)


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


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What has been seen of one workflow in one run of the sweep."""

    called: Counter[str] = field(default_factory=Counter)
    recorded: set[str] = field(default_factory=set)
    repeated: list[str] = field(default_factory=list)
    """The steps that were called though they were recorded."""
    unsettled: set[str] = field(default_factory=set)
    """The steps that this claim's run has called, and of which nothing is recorded."""
    interrupted: Counter[str] = field(default_factory=Counter)
    """How often a step was unsettled when its worker died, or when the claim was taken."""
    arguments: dict[str, Any] = field(default_factory=dict)
    odd_arguments: list[str] = field(default_factory=list)
    is_held: bool = False
    """Whether a worker that lives has the claim."""
    asked_for: list[str] = field(default_factory=list)
    """The clean-ups that the newest run has asked for."""
    due: list[str] = field(default_factory=list)
    """Those that a worker has to call, since the workflow was cancelled in its hands."""

    def note_call(self, step_id: str, args: tuple[Any, ...]) -> None:
        """A step's function is called."""
        self.called[step_id] += 1
        self.unsettled.add(step_id)
        if step_id in self.recorded:
            self.repeated.append(step_id)
        arguments = _plain(args)
        if self.arguments.setdefault(step_id, arguments) != arguments:
            self.odd_arguments.append(
                f"step {step_id!r} was called with {arguments!r} after {self.arguments[step_id]!r}"
            )

    def note_record(self, step_id: str) -> None:
        """A step is recorded."""
        self.recorded.add(step_id)
        self.unsettled.discard(step_id)

    def note_claim(self) -> None:
        """A worker has the workflow. What the one before left unsettled, it may call again."""
        self.interrupted.update(self.unsettled)
        self.unsettled.clear()
        self.asked_for.clear()
        self.is_held = True

    def note_end(self) -> None:
        """The claim was ended by who had it, who knows what to call again as well as at first."""
        self.unsettled.clear()
        self.is_held = False

    def note_control(self, event: Event) -> None:
        """Somebody has done something from outside, which takes the claim."""
        self.due = list(self.asked_for) if self.is_held and event is Event.CANCEL else []
        self.is_held = False

    def note_crash(self) -> None:
        """The worker dies now, and with it what it still had to do."""
        self.is_held = False
        self.due = []

    def uninterrupted(self, step_id: str) -> int:
        """How many calls of a step came to their own end."""
        return self.called[step_id] - self.interrupted[step_id]


class _Rerun:
    """A run of the workflow with at most one crash in it."""

    def __init__(
        self,
        point: CrashPoint | None,
        outputs: Mapping[str, Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> None:
        self.point = point
        self.outputs = outputs
        """What steps are to return, by workflow and step, so that it is comparable."""
        self.store_calls: list[str] = []
        self.has_crashed = False
        self.seen: defaultdict[str, _Seen] = defaultdict(_Seen)
        """By workflow."""
        self.turns = 0
        self.conversion = Conversion(settings.get("codec", PLAIN))
        self._settings = settings

    def execute(
        self, handler: Handler, input: Any, policy: Any, meanwhile: Meanwhile | None
    ) -> dict[str, Outcome]:
        """Run the workflow to its end; what has become of all that there are. Raises `Stuck`."""
        with _SweptEnvironment(self, self._settings) as environment:
            environment.begin(handler, input, policy)
            if meanwhile is not None:
                meanwhile(environment)
            outcomes = environment.ended()
            self.turns = environment.turns
        return outcomes

    def note_crash(self) -> None:
        """The worker dies now."""
        self.has_crashed = True
        for seen in self.seen.values():
            seen.note_crash()

    def differences(
        self,
        outcomes: Mapping[str, Outcome],
        first: _Rerun,
        reference: Mapping[str, Outcome],
    ) -> Iterator[str]:
        """What is not as it was in the first run."""
        if self.point is not None and not self.has_crashed:
            yield (
                f"the run had only {len(self.store_calls)} store calls, "
                f"the first one {len(first.store_calls)}"
            )
        yield from _differences("workflows", sorted(outcomes), sorted(reference))
        for workflow_id in sorted(outcomes.keys() & reference.keys()):
            seen, then = self.seen[workflow_id], first.seen[workflow_id]
            outcome, at_first = outcomes[workflow_id], reference[workflow_id]
            where = "" if workflow_id == WORKFLOW_ID else f"workflow {workflow_id!r}: "
            for difference in (
                *_different_ends(outcome, at_first),
                *self._different_records(workflow_id, outcome, at_first, then),
                *_different_calls(seen, then),
            ):
                yield where + difference

    def _different_records(
        self, workflow_id: str, outcome: Outcome, at_first: Outcome, then: _Seen
    ) -> Iterator[str]:
        seen = self.seen[workflow_id]
        for what, now, before in _records(outcome, at_first):
            if self.point is None or not _is_cut_short(outcome):
                yield from _differences(what, now, before)
                continue
            # A crash has left it less time until then, and maybe other clean-ups to call.
            expected = before | {one: now.get(one) for one in seen.asked_for}
            beyond = {
                one: now[one] for one in now if one not in expected or now[one] != expected[one]
            }
            if beyond:
                yield f"{what}: {beyond!r} beyond those at first, {before!r}"
        for step_id in seen.due:
            is_failing = then.called[step_id] and step_id not in at_first.steps
            if step_id not in outcome.steps and not is_failing:
                yield f"clean-up {step_id!r} is due and not recorded"


def _records(outcome: Outcome, at_first: Outcome) -> Iterator[tuple[str, Any, Any]]:
    """What is recorded, now and at first, by ids. When a nap ends may depend on a crash."""
    yield "recorded steps", outcome.steps, at_first.steps
    yield "given-up steps", _given_up(outcome), _given_up(at_first)
    yield "naps", dict.fromkeys(outcome.naps), dict.fromkeys(at_first.naps)


def _given_up(outcome: Outcome) -> dict[str, str]:
    return {
        failed.step_id: f"{failed.attempts} x {failed.error.type}"
        for failed in outcome.workflow.failed_steps
    }


def _different_ends(outcome: Outcome, at_first: Outcome) -> Iterator[str]:
    yield from _differences("status", outcome.status.value, at_first.status.value)
    yield from _differences("result", _end(outcome), _end(at_first))
    yield from _differences("reason", outcome.workflow.reason, at_first.workflow.reason)


def _different_calls(seen: _Seen, then: _Seen) -> Iterator[str]:
    yield from seen.odd_arguments
    for step_id, arguments in then.arguments.items():
        ours = seen.arguments.get(step_id, arguments)
        yield from _differences(f"arguments of step {step_id!r}", ours, arguments)
    for step_id in seen.repeated:
        yield f"step {step_id!r} was called again though it was recorded"
    for step_id, count in seen.called.items():
        allowed = then.uninterrupted(step_id) + seen.interrupted[step_id]
        if count > allowed and step_id not in seen.asked_for:
            yield f"step {step_id!r} was called {count} times, at most {allowed} are due"


def _differences(what: str, now: Any, without: Any) -> Iterator[str]:
    if now != without:
        yield f"{what}: {now!r}, at first {without!r}"


def _end(outcome: Outcome) -> Any:
    """The result, or the error that it was aborted with."""
    error = outcome.workflow.error
    if outcome.status is Status.FINISHED or error is None:
        return outcome.workflow.result
    # Of a deadline the message has the instant, which counts from the last retry.
    return error.type if _is_late(outcome) else f"{error.type}: {error.message}"


def _is_late(outcome: Outcome) -> bool:
    error = outcome.workflow.error
    return error is not None and error.type.endswith(DeadlineExceeded.__name__)


def _is_cut_short(outcome: Outcome) -> bool:
    """Whether its end came from outside or at an instant, wherever its handler was then."""
    return outcome.status is Status.CANCELLED or _is_late(outcome)


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
    def _observed(self, store: Store) -> Store:
        return _NotingStore(store, self._rerun)

    @override
    def _new_watch(self, clock: Clock) -> StepWatch:
        return _SweepWatch(clock, self._rerun)

    def begin(self, handler: Handler, input: Any, policy: HandlerPolicy | None) -> None:
        """Start the workflow that is swept."""
        self.start(WORKFLOW_ID, self._registered(handler, policy), input)

    def ended(self) -> dict[str, Outcome]:
        """What has become of all workflows, once they have ended and are cleaned up."""
        self.wait(WORKFLOW_ID)
        while going_on := [one for one, status in self._all().items() if not status.ended]:
            self.wait(going_on[0])
        if Status.CANCELLED in self._all().values():
            self.call(self._at_rest())
        return {workflow_id: self.outcome(workflow_id) for workflow_id in self._all()}

    def _all(self) -> dict[str, Status]:
        try:
            return {one.workflow_id: one.status for one in self.call(self.bluestreak.list())}
        except Unsupported:
            return {WORKFLOW_ID: self.outcome(WORKFLOW_ID).status}

    async def _at_rest(self) -> None:
        """Until nothing runs any more: what was cancelled is cleaned up after that."""
        while self._worker is not None and self._worker.health().runs:  # noqa: ASYNC110
            await asyncio.sleep(1)  # of virtual time


class _NotingStore(StoreAround):
    """Tells a run of what is carried out, whoever asked for it."""

    def __init__(self, store: Store, rerun: _Rerun) -> None:
        super().__init__(store)
        self._seen = rerun.seen

    @override
    async def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        handlers: Collection[str] | None,
    ) -> Sequence[Claim]:
        claims = await super().claim(worker, now, lease, limit, handlers)
        for claim in claims:
            self._seen[claim.workflow_id].note_claim()
        return claims

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        stored = await super().save_step(claim, step_id, output, now)
        self._seen[claim.workflow_id].note_record(step_id)
        return stored

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        stored = await super().transact(claim, step_id, fn, now)
        self._seen[claim.workflow_id].note_record(step_id)
        return stored

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        stored = await super().save_attempt(claim, attempt)
        self._seen[claim.workflow_id].unsettled.discard(attempt.step_id)
        return stored

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await super().park(claim, wake_up_at)
        self._seen[claim.workflow_id].note_end()

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        await super().release(claim, now)
        self._seen[claim.workflow_id].note_end()

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        await super().finish(claim, result, now)
        self._seen[claim.workflow_id].note_end()

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await super().fail(claim, failure, now)
        self._seen[claim.workflow_id].note_end()

    @override
    async def control(
        self, workflow_id: str, event: Event, now: datetime, reason: str | None = None
    ) -> None:
        await super().control(workflow_id, event, now, reason)
        self._seen[workflow_id].note_control(event)

    @override
    async def control_in(
        self, session: Any, workflow_id: str, event: Event, now: datetime, reason: str | None = None
    ) -> None:
        await super().control_in(session, workflow_id, event, now, reason)
        self._seen[workflow_id].note_control(event)


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
            with suppress(Exception):  # whatever it raises, nobody hears of it
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
        self.rerun = rerun

    @override
    def watched(self, handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def watched(context: Context, input: Any) -> Any:
            return await handler(_SweptContext(context, self), input)

        return watched

    @override
    def around(self, workflow_id: str, step_id: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        noted = super().around(workflow_id, step_id, fn)
        rerun = self.rerun

        @functools.wraps(fn, updated=())
        async def as_before(*args: Any) -> Any:
            rerun.seen[workflow_id].note_call(step_id, args)
            output = await call(step_id, noted, *args)
            outputs = rerun.outputs.get(workflow_id, {})
            if step_id not in outputs:
                return output
            return rerun.conversion.output(workflow_id, step_id, fn, outputs[step_id])

        return as_before


class _SweptContext(_WatchedContext):
    """Notes which clean-ups are asked for."""

    def __init__(self, context: Context, watch: _SweepWatch) -> None:
        super().__init__(context, watch)
        self._rerun = watch.rerun

    @override
    def on_cancel(  # type: ignore[override]
        self, step_id: str, fn: Callable[..., Any], /, *args: Any
    ) -> None:
        super().on_cancel(step_id, fn, *args)
        self._rerun.seen[self.workflow_id].asked_for.append(step_id)

"""Every call of the Store protocol, on stores and on the pure machine, in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bluestreak_core import (
    Attempt,
    BluestreakError,
    Claim,
    ErrorRecord,
    FailedStep,
    Failure,
    NewMessage,
    NewWorkflow,
    Status,
    Store,
    UnstorableValue,
    Workflow,
    machine,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.store import SupportsMessages, require
from bluestreak_core.testing import ManualClock
from tests.model.reference import Reference

SECOND = timedelta(seconds=1)
ERROR = ErrorRecord(type="ValueError", message="no such card", traceback="Traceback: ...")

# Few instants and few ids, so that they meet: a lease ends when a nap does, and the same record is
# written more than once.
WORKFLOW_IDS = ("w0", "w1", "w2", "w3")
RECORD_IDS = ("r0", "r1")
MESSAGE_IDS = ("i0", "i1", "i2")
WORKERS = ("a", "b")
RIVALS = ("c", "d")

_WORKER = st.sampled_from(WORKERS)
_WORKFLOW_ID = st.sampled_from(WORKFLOW_IDS)
_RECORD_ID = st.sampled_from(RECORD_IDS)
_AGO = st.integers(min_value=0, max_value=15)
"""Which of the claims or the calls so far; 0 is the newest."""
_LIMIT = st.integers(min_value=1, max_value=4)
_HANDLERS = st.sampled_from([None, None, None, ("h",), ("g", "h"), ("g",), ()])
_LEASE = st.sampled_from([SECOND, 5 * SECOND, 10 * SECOND])
_SPAN = st.sampled_from([0 * SECOND, SECOND, 5 * SECOND, 10 * SECOND, 90 * SECOND])
_JUMP = st.sampled_from(
    [SECOND, timedelta(milliseconds=1), 5 * SECOND, 10 * SECOND, 3600 * SECOND, -3 * SECOND]
)
_NAMES = st.sampled_from([("m",), ("n",), ("m", "n")])
_CONTROL = st.sampled_from(machine.CONTROL)
_VALUE = st.sampled_from(
    [
        None,
        7,
        "text",
        b"\0\xff",
        (1, (2, [3])),
        {"a.b": {"$set": [None, True, 1.5]}},
        [datetime(2020, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)],
        {"deep": [object()]},
    ]
)

Move = tuple[Any, ...]
"""A call under some claim, at some instant: its name, and what else it is told."""

_RECORDING = st.one_of(
    st.tuples(st.just("save_step"), _RECORD_ID, _VALUE),
    st.tuples(st.just("save_nap"), _RECORD_ID, _SPAN),
    st.tuples(st.just("save_attempt"), _RECORD_ID, st.integers(1, 2), _SPAN | st.none()),
    st.tuples(st.just("fail_step"), _RECORD_ID),
    st.tuples(st.just("receive"), _RECORD_ID, _NAMES, st.booleans()),
)
_ENDING = st.one_of(
    st.tuples(st.just("park"), _SPAN),
    st.tuples(st.just("park_until_message"), _SPAN, _NAMES, st.integers(0, 3)),
    st.tuples(st.just("release")),
    st.tuples(st.just("fail"), _SPAN | st.none()),
    st.tuples(st.just("finish"), _VALUE),
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the protocol, with its arguments."""

    name: str
    args: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def on(self, target: object) -> Any:
        """Make it; a store's is still to be awaited."""
        return getattr(target, self.name)(*self.args, **self.options)


def _mailbox_call(move: Move, claim: Claim, now: datetime) -> Call:
    match move:
        case ("receive" as name, step_id, names, give_up):
            return Call(name, (claim, step_id, names, now), {"give_up": give_up})
        case (name, span, names, mail):
            return Call(name, (claim, now + span, names, mail, now))
    raise AssertionError(move)


def _call(move: Move, claim: Claim, now: datetime) -> Call:
    if move[0] in ("receive", "park_until_message"):
        return _mailbox_call(move, claim, now)
    match move:
        case ("save_step" as name, step_id, output):
            args: tuple[Any, ...] = (step_id, output, now)
        case ("save_nap" as name, nap_id, span):
            args = (nap_id, now + span, now)
        case ("save_attempt" as name, step_id, number, span):
            attempt = Attempt(
                workflow_id=claim.workflow_id,
                step_id=step_id,
                round=claim.workflow.retries,
                number=number,
                error=ERROR,
                retry_at=None if span is None else now + span,
                saved_at=now,
            )
            args = (attempt,)
        case ("fail_step" as name, step_id):
            args = (FailedStep(step_id=step_id, error=ERROR, attempts=2, failed_at=now),)
        case ("park" as name, span):
            args = (now + span,)
        case ("release" as name,):
            args = (now,)
        case ("fail" as name, span):
            retry_at = None if span is None else now + span
            args = (Failure(error=ERROR, retry_at=retry_at), now)
        case ("finish" as name, result):
            args = (result, now)
        case _:
            raise AssertionError(move)
    return Call(name, (claim, *args))


class Subject:
    """A store, as several workers hold it, and the reference that it has to agree with.

    A worker of a store that keeps something of its own for each worker has an object of its own.
    """

    def __init__(self, workers: Mapping[str, Store], *, leaves_leases: bool) -> None:
        self.claims: list[Claim] = []
        self.calls: list[Call] = []
        self._workers = workers
        self._messages = require(workers[WORKERS[0]], SupportsMessages, "find_message()")
        self._leaves_leases = leaves_leases
        """Whether a claim may leave the leases that have run out to the next one."""
        self._reference = Reference()

    async def perform(self, worker: str, *calls: Call) -> None:
        """Make calls at the same time, which must not be for the same workflow."""
        self.calls += calls
        expected = [self._expected(call) for call in calls]
        outcomes = await asyncio.gather(*[self._outcome(worker, call) for call in calls])
        _compare(outcomes, expected)
        claims = [call.args[0] for call in calls]
        await self.check({one.workflow_id for one in claims if isinstance(one, Claim)})

    def _expected(self, call: Call) -> object:
        try:
            return call.on(self._reference)
        except BluestreakError as error:
            return _facts(error)

    async def _outcome(self, worker: str, call: Call) -> object:
        try:
            return await call.on(self._workers[worker])
        except BluestreakError as error:
            return _facts(error)

    async def claim(self, request: ClaimRequest) -> None:
        """Claim without a rival: as many as there are, the longest due first."""
        due = self._reference.due(request.now, request.handlers)
        claims = await self._workers[request.worker].claim(request)
        due_at = {workflow.workflow_id: workflow.timeout_at for workflow in due}
        assert due_at.keys() >= {claim.workflow_id for claim in claims}
        claimed = [due_at[claim.workflow_id] for claim in claims]
        if claimed != _longest(due, request.limit):
            waiting = [workflow for workflow in due if workflow.status is not Status.RUNNING]
            assert self._leaves_leases
            assert claimed == _longest(waiting, 1)
        self._adopt(claims, request.worker, request.now, request.lease)
        await self.check()

    async def claim_together(self, now: datetime, lease: timedelta, limit: int) -> None:
        """Rivals may come away with little, but none gets what the other one has."""
        due = {workflow.workflow_id for workflow in self._reference.due(now, None)}
        attempts = [
            self._workers[one].claim(ClaimRequest(worker=one, now=now, lease=lease, limit=limit))
            for one in RIVALS
        ]
        claims = await asyncio.gather(*attempts)
        claimed = [claim.workflow_id for theirs in claims for claim in theirs]
        assert len(set(claimed)) == len(claimed)
        assert due >= set(claimed)
        for rival, theirs in zip(RIVALS, claims, strict=True):
            assert len(theirs) <= limit
            self._adopt(theirs, rival, now, lease)
        await self.check()

    def _adopt(self, claims: Sequence[Claim], worker: str, now: datetime, lease: timedelta) -> None:
        self._reference.adopt(claims, worker, now, lease)
        self.claims += claims

    async def check(self, recorded: Collection[str] = WORKFLOW_IDS) -> None:
        """Compare all workflows, and all that some of them have recorded."""
        store, reference = self._workers[WORKERS[0]], self._reference
        messages = [(one, MESSAGE_IDS[0]) for one in WORKFLOW_IDS]
        keys = [(one, record_id) for one in sorted(recorded) for record_id in RECORD_IDS]
        found = await asyncio.gather(
            *[store.find_workflow(workflow_id) for workflow_id in WORKFLOW_IDS],
            *[store.find_standing(workflow_id) for workflow_id in WORKFLOW_IDS],
            *[store.find_step(*key) for key in keys],
            *[store.find_nap(*key) for key in keys],
            *[self._messages.find_message(*key) for key in messages],
        )
        workflows = [reference.workflows.get(workflow_id) for workflow_id in WORKFLOW_IDS]
        expected = [
            *workflows,
            *[workflow and workflow.standing for workflow in workflows],
            *[reference.steps.get(key) for key in keys],
            *[reference.naps.get(key) for key in keys],
            *[reference.messages.get(key) for key in messages],
        ]
        _compare(found, expected)


def _compare(found: Sequence[object], expected: Sequence[object]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one == other, f"the store: {one}\nthe machine: {other}"


def _facts(error: BluestreakError) -> object:
    facts = error.args
    # Why a value cannot be stored, each store says in its own words.
    return type(error), facts[:-1] if isinstance(error, UnstorableValue) else facts


def _longest(due: Sequence[Workflow], limit: int) -> list[datetime]:
    return [workflow.timeout_at for workflow in due[:limit]]


class Comparison(RuleBasedStateMachine):
    """Makes the same calls on each subject.

    What is drawn never depends on what a store has done, so that an example can be repeated.
    """

    def __init__(
        self, runner: asyncio.Runner, clock: ManualClock, subjects: Sequence[Subject]
    ) -> None:
        super().__init__()
        self._runner = runner
        self._clock = clock
        self._subjects = subjects

    @initialize(lease=_LEASE)
    def begin(self, lease: timedelta) -> None:
        for workflow_id in WORKFLOW_IDS[:3]:
            self.create(WORKERS[0], workflow_id, "h", None)
        self.claim(WORKERS[0], lease, 2, None)

    @rule(
        worker=_WORKER,
        workflow_id=_WORKFLOW_ID,
        handler_id=st.sampled_from(["h", "g"]),
        input=_VALUE,
    )
    def create(self, worker: str, workflow_id: str, handler_id: str, input: Any) -> None:
        new = NewWorkflow(
            workflow_id=workflow_id,
            handler_id=handler_id,
            input=input,
            created_at=self._clock.now(),
        )
        for subject in self._subjects:
            self._runner.run(subject.perform(worker, Call("create", (new,))))

    @rule(worker=_WORKER, workflow_ids=st.lists(_WORKFLOW_ID, max_size=4), span=_SPAN | st.none())
    def create_many(self, worker: str, workflow_ids: list[str], span: timedelta | None) -> None:
        now = self._clock.now()
        new = [
            NewWorkflow(
                workflow_id=workflow_id,
                handler_id="h",
                input=place,
                created_at=now,
                start_at=None if span is None else now + span,
            )
            for place, workflow_id in enumerate(workflow_ids)
        ]
        for subject in self._subjects:
            self._runner.run(subject.perform(worker, Call("create_many", (new,))))

    @rule(
        workflow_id=_WORKFLOW_ID,
        message_id=st.sampled_from(MESSAGE_IDS),
        name=st.sampled_from(["m", "n"]),
        payload=_VALUE,
    )
    def send(self, workflow_id: str, message_id: str, name: str, payload: Any) -> None:
        """By one sender, since of several the time decides, and the clock may go back."""
        message = NewMessage(
            workflow_id=workflow_id,
            message_id=message_id,
            name=name,
            payload=payload,
            sent_at=self._clock.now(),
        )
        for subject in self._subjects:
            self._runner.run(subject.perform(WORKERS[0], Call("send", (message,))))

    @rule(worker=_WORKER, workflow_id=_WORKFLOW_ID, step_id=_RECORD_ID)
    def beat(self, worker: str, workflow_id: str, step_id: str) -> None:
        call = Call("beat", (workflow_id, step_id, self._clock.now()))
        for subject in self._subjects:
            self._runner.run(subject.perform(worker, call))

    @rule(worker=_WORKER, workflow_id=_WORKFLOW_ID, event=_CONTROL)
    def control(self, worker: str, workflow_id: str, event: Transition) -> None:
        call = Call("control", (workflow_id, event, self._clock.now(), "because"))
        for subject in self._subjects:
            self._runner.run(subject.perform(worker, call))

    @rule(worker=_WORKER, lease=_LEASE, limit=_LIMIT, handlers=_HANDLERS)
    def claim(
        self, worker: str, lease: timedelta, limit: int, handlers: Collection[str] | None
    ) -> None:
        now = self._clock.now()
        for subject in self._subjects:
            self._runner.run(
                subject.claim(
                    ClaimRequest(
                        worker=worker, now=now, lease=lease, limit=limit, handlers=handlers
                    )
                )
            )

    @rule(worker=_WORKER, lease=_LEASE)
    def take_over(self, worker: str, lease: timedelta) -> None:
        """Claim when all the leases of before have run out."""
        self.jump(10 * SECOND)
        self.claim(worker, lease, 4, None)

    @rule(worker=_WORKER, ago=st.lists(_AGO, min_size=1, max_size=4))
    def history(self, worker: str, ago: list[int]) -> None:
        self._under_claims(worker, "history", ago)

    @rule(worker=_WORKER, ago=st.lists(_AGO, min_size=1, max_size=4, unique=True), lease=_LEASE)
    def renew(self, worker: str, ago: list[int], lease: timedelta) -> None:
        self._under_claims(worker, "renew", ago, self._clock.now(), lease)

    @rule(worker=_WORKER, ago=_AGO, move=_RECORDING)
    def record(self, worker: str, ago: int, move: Move) -> None:
        self._move(worker, [(ago, move)])

    @rule(worker=_WORKER, ago=_AGO, move=_ENDING)
    def end(self, worker: str, ago: int, move: Move) -> None:
        self._move(worker, [(ago, move)])

    @rule(
        worker=_WORKER,
        moves=st.lists(st.tuples(_AGO, _RECORDING | _ENDING), min_size=2, max_size=4),
    )
    def together(self, worker: str, moves: list[tuple[int, Move]]) -> None:
        self._move(worker, moves)

    @rule(worker=_WORKER, ago=_AGO)
    def repeat(self, worker: str, ago: int) -> None:
        for subject in self._subjects:
            self._runner.run(subject.perform(worker, _back(subject.calls, ago)))

    @rule(span=_JUMP)
    def jump(self, span: timedelta) -> None:
        self._clock.advance(span)

    def _under_claims(self, worker: str, name: str, ago: list[int], *args: Any) -> None:
        for subject in self._subjects:
            claims = [_back(subject.claims, one) for one in ago]
            self._runner.run(subject.perform(worker, Call(name, (claims, *args))))

    def _move(self, worker: str, moves: list[tuple[int, Move]]) -> None:
        """Make calls under claims of different workflows, the later ones where two are alike."""
        now = self._clock.now()
        for subject in self._subjects:
            calls: dict[str, Call] = {}
            for ago, move in moves:
                claim = _back(subject.claims, ago)
                calls[claim.workflow_id] = _call(move, claim, now)
            self._runner.run(subject.perform(worker, *calls.values()))


class Rivalry(Comparison):
    """Workers that claim at the same moment besides, of whom nobody can tell who gets what."""

    @rule(lease=_LEASE, limit=_LIMIT)
    def claim_together(self, lease: timedelta, limit: int) -> None:
        for subject in self._subjects:
            self._runner.run(subject.claim_together(self._clock.now(), lease, limit))


def _back(list_: Sequence[Any], ago: int) -> Any:
    return list_[-1 - ago % len(list_)]

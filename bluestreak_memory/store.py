"""MemoryStore: the state machine applied to dictionaries.

No method waits for anything, so each is atomic on its event loop; but for the hints, which change
nothing, and `transact`, which waits for its function, and then commits at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from typing_extensions import override

from bluestreak_core import machine
from bluestreak_core.argument import check_implements, has_real_type
from bluestreak_core.clock import Clock, SystemClock
from bluestreak_core.concurrency import HomeLoop, cancellations
from bluestreak_core.errors import (
    InvalidArgument,
    StepNotRecorded,
    StoreUnavailable,
    WorkflowNotFound,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    FailedStep,
    Failure,
    History,
    Nap,
    NewWorkflow,
    Standing,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.store import (
    MAX_VALUE_BYTES,
    CountBy,
    Hints,
    ListPosition,
    PlainRules,
    Pruned,
    Query,
    Records,
    Store,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
    SupportsTransactions,
    ValueRules,
    WorkflowSummary,
)
from bluestreak_core.store.query import to_summary
from bluestreak_memory.agenda import Agenda
from bluestreak_memory.session import MemorySession

_Recorded = tuple[type[Step] | type[Nap] | type[FailedStep], str]


@dataclass(slots=True)
class _Record:
    """A workflow with all that belongs to it."""

    workflow: Workflow
    input_size: int
    steps: dict[str, Step] = field(default_factory=dict)
    naps: dict[str, Nap] = field(default_factory=dict)
    attempts: dict[tuple[str, int, int], Attempt] = field(default_factory=dict)
    sessions: list[MemorySession] = field(default_factory=list)
    recorded: dict[_Recorded, None] = field(default_factory=dict)
    """What there is of steps, naps and given-up steps, in the order in which it came."""

    def recorded_before(self, step_id: str | None) -> dict[_Recorded, None]:
        """What came before a step was recorded or given up; all of it for None."""
        until = None
        if step_id is not None:
            given_up, recorded = (FailedStep, step_id), (Step, step_id)
            until = given_up if given_up in self.recorded else recorded
            if until not in self.recorded:
                raise StepNotRecorded(self.workflow.workflow_id, step_id)
        return dict.fromkeys(itertools.takewhile(lambda one: one != until, self.recorded))

    @contextmanager
    def holding(self, session: MemorySession) -> Iterator[None]:
        """For as long as the block lasts, the session is one that the next claim takes back."""
        self.sessions.append(session)
        try:
            yield
        finally:
            if session in self.sessions:
                self.sessions.remove(session)


class MemoryStore(Store, SupportsForks, SupportsTransactions, SupportsSearch, SupportsPruning):
    """A store in the memory of one process, which forgets everything when the process ends.

    It holds what every store holds; `rules` widens that, for example to BSON's types with
    `bluestreak_mongo.BsonRules()`. `clock` is the time authority, a `ManualClock` in tests.
    """

    def __init__(self, *, clock: Clock | None = None, rules: ValueRules | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._rules = PlainRules() if rules is None else rules
        check_implements("clock", self._clock, Clock)
        check_implements("rules", self._rules, ValueRules)
        self._records: dict[str, _Record] = {}
        self._agenda = Agenda(self._at)
        self._hints = Hints(self._clock)
        self._home = HomeLoop()

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._records)} workflows>"

    @property
    @override
    def clock(self) -> Clock:
        return self._clock

    @override
    async def init(self) -> None:
        """Nothing to open. What waits here belongs to one event loop."""
        self._home.enter("init()")

    @override
    async def close(self) -> None:
        """Nothing to let go of: what is stored stays for as long as the object does."""
        self._home.check_unless_closed("close()")
        self._home.leave()

    @override
    async def create(self, new: NewWorkflow) -> bool:
        return self._create(self._new_record(new))

    @override
    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        return [self._create(record) for record in [self._new_record(one) for one in new]]

    @override
    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        record = self._records.get(workflow_id)
        return None if record is None else self._copy_out(record.workflow)

    @override
    async def find_standing(self, workflow_id: str) -> Standing | None:
        workflow = self._at(workflow_id)
        if workflow is None:
            return None
        return replace(workflow.standing, result=self._copy(workflow.result))

    @override
    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        record = self._records.get(workflow_id)
        step = None if record is None else record.steps.get(step_id)
        return None if step is None else replace(step, output=self._copy(step.output))

    @override
    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        record = self._records.get(workflow_id)
        return None if record is None else record.naps.get(nap_id)

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        self._hints.looking(request.now)
        claims: list[Claim] = []
        passed_over: list[Workflow] = []
        while len(claims) < request.limit and (due := self._agenda.pop_due(request.now)):
            if not request.accepts(due.handler_id):
                passed_over.append(due)
                continue
            token = uuid4().hex
            claimed = machine.claim(due, token, request)
            self._take_back(self._records[due.workflow_id])
            self._put(claimed)
            claims.append(Claim(token=token, workflow=self._copy_out(claimed)))
        for workflow in passed_over:
            self._agenda.add(workflow)
        return claims

    @override
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        return {claim.workflow_id: self._history(claim.workflow_id) for claim in claims}

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        lost = []
        for claim in claims:
            workflow = self._at(claim.workflow_id)
            if workflow is not None and machine.in_force(workflow, claim):
                self._put(machine.renew(workflow, now, lease))
            else:
                lost.append(claim)
        return lost

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(output, what)
        record = self._record(claim)
        if step_id not in record.steps:
            record.steps[step_id] = Step(
                workflow_id=claim.workflow_id, step_id=step_id, output=value, saved_at=now
            )
            record.recorded[Step, step_id] = None
            self._count_progress(record, claim)
        return self._copy(record.steps[step_id].output)

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        record = self._record(claim)
        if nap_id not in record.naps:
            record.naps[nap_id] = Nap(
                workflow_id=claim.workflow_id, nap_id=nap_id, wake_up_at=wake_up_at, saved_at=now
            )
            record.recorded[Nap, nap_id] = None
            self._count_progress(record, claim)
        return record.naps[nap_id].wake_up_at

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        record = self._record(claim)
        key = (attempt.step_id, attempt.round, attempt.number)
        if key not in record.attempts:
            record.attempts[key] = attempt
            self._count_progress(record, claim)
        return record.attempts[key]

    @override
    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        workflow = self._at(claim.workflow_id)
        if workflow is None or not machine.in_force(workflow, claim):
            raise machine.lost(workflow, claim)
        if all(failed.step_id != other.step_id for other in workflow.failed_steps):
            self._put(machine.fail_step(workflow, failed))
            self._record(claim).recorded[FailedStep, failed.step_id] = None

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        if workflow := self._to_end(claim, Transition.PARK):
            self._put(machine.park(workflow, wake_up_at))

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        if workflow := self._to_end(claim, Transition.RELEASE):
            self._put(machine.release(workflow, now))

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        record = self._records.get(claim.workflow_id)
        room = MAX_VALUE_BYTES - (record.input_size if record else 0)
        what = f"result of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(result, what, room)
        if workflow := self._to_end(claim, Transition.FINISH):
            self._put(machine.finish(workflow, value, now))

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        if workflow := self._to_end(claim, machine.failure_transition(failure)):
            self._put(machine.fail(workflow, failure, now))

    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        record = self._records.get(workflow_id)
        if record is None:
            raise WorkflowNotFound(workflow_id)
        self._control(record, event, now, reason)

    @override
    async def check_transactions(self, call: str) -> None:
        """There always are."""

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        record = self._record(claim)
        if step_id in record.steps:
            return self._copy(record.steps[step_id].output)

        def check_claim() -> None:
            if not machine.in_force(record.workflow, claim):
                raise machine.lost(record.workflow, claim)

        check_claim()
        before = cancellations()
        with self._transaction() as session:
            with record.holding(session):
                try:
                    output = await fn(session)
                except Exception:
                    check_claim()  # the next one may have ended the session under its hands
                    raise
            if cancellations() > before:  # which the function has swallowed
                raise asyncio.CancelledError
            if claim.workflow_id in session.workflows:
                reason = "its function has ended the claim of its own workflow"
                raise InvalidArgument("transaction", step_id, reason)
            what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
            value, _ = self._rules.round_trip(output, what)
            if step_id in record.steps:
                session.roll_back()
            else:
                check_claim()
                session.before_commit(check_claim)  # which the commit itself may have taken
                session.commit()
                record.steps[step_id] = Step(
                    workflow_id=claim.workflow_id, step_id=step_id, output=value, saved_at=now()
                )
                record.recorded[Step, step_id] = None
                self._count_progress(record, claim)
        return self._copy(record.steps[step_id].output)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemorySession]:
        """A transaction of the caller's own, as for `start(..., session=)`; see `MemorySession`."""
        with self._transaction() as session:
            yield session
            session.commit()

    @override
    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        record = self._new_record(new)
        if await self.find_in(session, new.workflow_id) is not None:
            return False

        def check() -> None:
            if new.workflow_id in self._records:
                raise StoreUnavailable(f"workflow {new.workflow_id!r} was created meanwhile")

        session.workflows[new.workflow_id] = record.workflow
        session.before_commit(check)
        session.after_commit(lambda: self._create(record))
        return True

    @override
    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        self._check_session(session)
        written: Workflow | None = session.workflows.get(workflow_id)
        return await self.find_workflow(workflow_id) if written is None else self._copy_out(written)

    @override
    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        workflow = await self.find_in(session, workflow_id)
        if workflow is None:
            raise WorkflowNotFound(workflow_id)
        moved = machine.control(workflow, event, now, reason)
        seen = self._at(workflow_id)

        def check() -> None:
            found = self._at(workflow_id)
            if seen is not None and (found is None or _moves(found) != _moves(seen)):
                raise StoreUnavailable(f"workflow {workflow_id!r} was moved meanwhile")

        session.workflows[workflow_id] = moved
        session.before_commit(check)
        session.after_commit(lambda: self._control(self._records[workflow_id], event, now, reason))

    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        source = self._records.get(workflow_id)
        if source is None:
            raise WorkflowNotFound(workflow_id)
        kept = source.recorded_before(before)
        if new_id in self._records:
            return False
        given_up = [
            one for one in source.workflow.failed_steps if (FailedStep, one.step_id) in kept
        ]
        forked = machine.fork(source.workflow, new_id, now, tuple(given_up))
        self._records[new_id] = _Record(
            forked,
            input_size=source.input_size,
            steps={
                step.step_id: replace(step, workflow_id=new_id)
                for step in source.steps.values()
                if (Step, step.step_id) in kept
            },
            naps={
                nap.nap_id: replace(nap, workflow_id=new_id)
                for nap in source.naps.values()
                if (Nap, nap.nap_id) in kept
            },
            recorded=kept,
        )
        self._put(forked)
        return True

    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        if (next_due := self._agenda.next_after(self._hints.looked_at)) is not None:
            self._hints.due(next_due)
        await self._hints.wait_for_work(timeout)

    @override
    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        return await self._hints.wait_for_end(workflow_id, since, timeout)

    @override
    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        return await self._hints.wait_for_control(since, timeout)

    @override
    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        workflows = (record.workflow for record in self._records.values())
        meant = [to_summary(workflow) for workflow in workflows if query.accepts(workflow)]
        return query.page_of(meant, after, limit)

    @override
    async def count(self, by: CountBy) -> Mapping[str, int]:
        return Counter(str(getattr(record.workflow, by)) for record in self._records.values())

    @override
    async def records(self, workflow_id: str) -> Records:
        record = self._records.get(workflow_id)
        if record is None:
            return Records()
        steps = [replace(step, output=self._copy(step.output)) for step in record.steps.values()]
        return Records(
            steps=tuple(steps),
            naps=tuple(record.naps.values()),
            attempts=tuple(record.attempts.values()),
        )

    @override
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        pruned = Pruned()
        for workflow_id, record in list(self._records.items()):
            if pruned.workflows >= limit:
                break
            workflow = record.workflow
            if workflow.status in statuses and workflow.timeout_at < ended_before:
                pruned += Pruned(
                    workflows=1,
                    steps=len(record.steps),
                    naps=len(record.naps) + len(record.attempts),
                )
                del self._records[workflow_id]
        return pruned

    # What the methods above share ----------------------------------------------------------------

    def _control(
        self, record: _Record, event: Transition, now: datetime, reason: str | None
    ) -> None:
        was_running = record.workflow.status is Status.RUNNING
        self._put(machine.control(record.workflow, event, now, reason))
        if event is Transition.RETRY:
            kept = (one for one in record.recorded if one[0] is not FailedStep)
            record.recorded = dict.fromkeys(kept)
        if was_running:
            self._take_back(record)
            self._hints.controlled()

    @contextmanager
    def _transaction(self) -> Iterator[MemorySession]:
        session = MemorySession()
        try:
            yield session
        except BaseException:
            session.roll_back()
            raise

    def _check_session(self, session: object) -> None:
        if not has_real_type(session, MemorySession):
            raise InvalidArgument("session", session, "expected a session of a MemoryStore")
        if not session.is_open:
            raise InvalidArgument("session", session, "its transaction is over")

    def _take_back(self, record: _Record) -> None:
        """What the claim before this one has not committed, since its process may be dead."""
        for session in record.sessions:
            session.roll_back()
        record.sessions.clear()

    def _new_record(self, new: NewWorkflow) -> _Record:
        value, size = self._rules.round_trip(new.input, f"input of workflow {new.workflow_id!r}")
        return _Record(machine.create(replace(new, input=value)), input_size=size)

    def _create(self, record: _Record) -> bool:
        workflow_id = record.workflow.workflow_id
        if workflow_id in self._records:
            return False
        self._records[workflow_id] = record
        self._put(record.workflow)
        return True

    def _put(self, workflow: Workflow) -> None:
        """Store a workflow's new state, and tell those who wait for it."""
        self._records[workflow.workflow_id].workflow = workflow
        if workflow.status.ended:
            self._hints.ended(workflow.workflow_id)
        elif workflow.status is not Status.PAUSED:
            self._agenda.add(workflow)
            if workflow.status is not Status.RUNNING:
                self._hints.due(workflow.timeout_at)

    def _at(self, workflow_id: str) -> Workflow | None:
        record = self._records.get(workflow_id)
        return None if record is None else record.workflow

    def _record(self, claim: Claim) -> _Record:
        record = self._records.get(claim.workflow_id)
        if record is None or not machine.is_of(claim, record.workflow):
            raise machine.lost(None, claim)
        return record

    def _count_progress(self, record: _Record, claim: Claim) -> None:
        if machine.in_force(record.workflow, claim):
            record.workflow = machine.progress(record.workflow)

    def _to_end(self, claim: Claim, event: Transition) -> Workflow | None:
        """The workflow that an event is to end the claim of; None if it has done so before."""
        workflow = self._at(claim.workflow_id)
        if workflow is not None and machine.in_force(workflow, claim):
            return workflow
        if machine.has_ended_by(workflow, claim, event):
            return None
        raise machine.lost(workflow, claim)

    def _history(self, workflow_id: str) -> History:
        record = self._records[workflow_id]
        return History(
            steps={step.step_id: self._copy(step.output) for step in record.steps.values()},
            naps={nap.nap_id: nap.wake_up_at for nap in record.naps.values()},
            attempts=machine.latest_attempts(record.attempts.values(), record.workflow.retries),
        )

    def _copy(self, value: Any) -> Any:
        return self._rules.round_trip(value, "stored value")[0]

    def _copy_out(self, workflow: Workflow) -> Workflow:
        return replace(
            workflow, input=self._copy(workflow.input), result=self._copy(workflow.result)
        )


def _moves(workflow: Workflow) -> tuple[Status, int, int]:
    """What is another after whatever an event from outside may depend on."""
    return workflow.status, workflow.claims, workflow.controls

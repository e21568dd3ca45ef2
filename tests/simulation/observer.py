"""The store as it really was: what was carried out, and whether it may have been."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from typing_extensions import override

from bluestreak_core import (
    Attempt,
    Backoff,
    Claim,
    ErrorRecord,
    FailedStep,
    Failure,
    History,
    NewWorkflow,
    Pruned,
    Status,
    Workflow,
    machine,
)
from bluestreak_core.machine import Event
from bluestreak_core.testing import StoreAround
from bluestreak_memory import MemorySession, MemoryStore
from tests.simulation.scenario import LEASE

T = TypeVar("T")

_ROUNDING = timedelta(milliseconds=2)
_KNOWN_WITHIN = timedelta(seconds=LEASE)
"""After which whoever had a claim that was taken knows it, whatever happens."""


class Violated(AssertionError):
    """An invariant does not hold."""


def _is_abort(error: ErrorRecord) -> bool:
    return error.type.rpartition(".")[2] == "Abort"


class Observer(StoreAround):
    """Stands right before the store, behind all faults.

    Each call is checked against the invariants as it is carried out, and noted in `timeline`.
    """

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._memory = store
        self.timeline: list[str] = []
        self.violations: list[str] = []
        self.created: set[str] = set()
        self.outputs: dict[tuple[str, str], Any] = {}
        """The first recorded output of each step, and the first instant of each nap."""
        self.lateness: list[tuple[datetime, timedelta, str]] = []
        """When a waiting workflow was claimed, by how much too late, and which."""
        self.taken: dict[tuple[str, str], datetime] = {}
        """When each claim was taken from outside, if it was."""
        self.cancelled: dict[tuple[str, int], datetime] = {}
        """When each workflow was cancelled, by the number of its newest claim then."""
        self.orders: dict[str, list[tuple[datetime, Event]]] = defaultdict(list)
        """What was done to each workflow from outside."""
        self.attempts: dict[tuple[str, str], Attempt] = {}
        """The latest failed attempt of each step."""
        self._known: dict[tuple[str, str], dict[str, Attempt]] = {}
        """Those of each claim by step, as its run has been told of them or recorded them."""
        self.given_up: set[tuple[str, str]] = set()
        """The steps that were given up since the last retry of their workflows."""
        self.copied: set[tuple[str, str]] = set()
        """What forks have got of the workflows that they come from."""
        self.expired: set[str] = set()
        """The workflows that were deleted, each after its end."""
        self.kept_for = timedelta(0)
        """How long after it at least."""
        self.backoff: Backoff | None = None
        """How the pauses after failures grow, as far as that can be told; None if it cannot."""
        self.deadline_at: Callable[[Workflow], datetime | None] = lambda _: None
        """When a workflow is given up."""
        self._written: defaultdict[MemorySession, dict[str, str]] = defaultdict(dict)
        """What was done in each session, by workflow."""
        self._begins: dict[str, datetime] = {}
        self._newest: dict[str, Claim] = {}

    def note(self, text: str) -> None:
        """Add a line to the timeline."""
        seconds = self.clock.monotonic()
        self.timeline.append(f"{seconds:9.3f} {text}")

    def violated(self, text: str) -> None:
        """Note that an invariant does not hold."""
        self.note(f"VIOLATED {text}")
        self.violations.append(text)

    @override
    async def create(self, new: NewWorkflow) -> bool:
        created = await super().create(new)
        self._note_start("create", new, is_new=created)
        return created

    @override
    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        created = await super().create_many(new)
        for one, is_new in zip(new, created, strict=True):
            self._note_start("create_many", one, is_new=is_new)
        return created

    @override
    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        created = await super().create_in(session, new)
        self.note(f"create_in {new.workflow_id} -> {created}")
        if created:
            self._written[session][new.workflow_id] = "created"
            await self._check_isolated(new.workflow_id, None)
            session.act(lambda: self._note_start("commit", new, is_new=True))
        return created

    @override
    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        found = await super().find_in(session, workflow_id)
        self.note(f"find_in {workflow_id} -> {found and found.status}")
        if found is None and workflow_id in self._written[session]:
            self.violated(f"{workflow_id} is not there for the transaction that has created it")
        return found

    def _note_start(self, call: str, new: NewWorkflow, *, is_new: bool) -> None:
        self.note(f"{call} {new.workflow_id} -> {is_new}")
        if is_new:
            if new.workflow_id in self.created:
                self.violated(f"{new.workflow_id} was created twice")
            self.created.add(new.workflow_id)
            self._begins[new.workflow_id] = new.start_at or new.created_at

    async def _check_isolated(self, workflow_id: str, before: Workflow | None) -> None:
        """Others do not see what a transaction does before it is through."""
        if await self._store.find_workflow(workflow_id) != before:
            self.violated(f"{workflow_id} was changed before its transaction was through")

    @override
    async def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        handlers: Collection[str] | None,
    ) -> Sequence[Claim]:
        before = {one: await self._found(one) for one in self.created - self.expired}
        claims = await super().claim(worker, now, lease, limit, handlers)
        for claim in claims:
            self.note(f"claim {claim.workflow_id} -> claim {claim.number}")
            self._check_claim(before[claim.workflow_id], claim, now)
            self._newest[claim.workflow_id] = claim
        return claims

    def check_owner(self, claim: Claim, what: str) -> None:
        """What only the owner of a workflow may do, its owner does.

        Or who was the owner until the claim was taken from outside, and need not know it yet.
        """
        taken_at = self.taken.get(claim.key)
        may_not_know = taken_at is not None and self.clock.now() < taken_at + _KNOWN_WITHIN
        if not self._is_newest(claim) and not may_not_know:
            self.violated(f"{claim.workflow_id}: claim {claim.number} {what} after another claim")

    def _check_claim(self, before: Workflow, claim: Claim, now: datetime) -> None:
        if Event.CLAIM not in machine.TRANSITIONS[before.status]:
            self.violated(f"{claim.workflow_id} was claimed though {before.status}")
        is_left_alone = not self.orders[claim.workflow_id]
        begins_later = self._begins.get(claim.workflow_id, now) > now
        if before.timeout_at > now or (begins_later and is_left_alone):
            self.violated(f"{claim.workflow_id} was claimed before it was due")
        if before.status is not Status.RUNNING:
            ordered_at = max((at for at, _ in self.orders[claim.workflow_id]), default=now)
            due_at = max(before.timeout_at, min(ordered_at, now))
            self.lateness.append((self.clock.now(), now - due_at, claim.workflow_id))

    @override
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        histories = await super().history(claims)
        for claim in claims:
            workflow_id = claim.workflow_id
            attempts = {step: one for (of, step), one in self.attempts.items() if of == workflow_id}
            self._known.setdefault(claim.key, attempts)
        return histories

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        lost = await super().renew(claims, now, lease)
        for claim in claims:
            if claim not in lost and not self._is_newest(claim):
                self.violated(
                    f"{claim.workflow_id}: claim {claim.number} was renewed after another"
                )
            if claim not in lost and claim.key in self.taken:
                self.violated(f"{claim.workflow_id}: claim {claim.number} was renewed though taken")
        return lost

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        stored = await super().save_step(claim, step_id, output, now)
        self._check_record(claim, f"step {step_id}", stored)
        return stored

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        stored = await super().save_nap(claim, nap_id, wake_up_at, now)
        self._check_record(claim, f"nap {nap_id}", stored)
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
        self._check_record(claim, f"step {step_id}", stored)
        return stored

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        stored = await super().save_attempt(claim, attempt)
        self._check_refused(attempt)
        what = f"attempt {stored.number} of step {stored.step_id}, round {stored.round}"
        self._check_record(claim, what, stored)
        self.attempts[claim.workflow_id, stored.step_id] = stored
        self._known.setdefault(claim.key, {})[stored.step_id] = stored
        return stored

    @override
    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        await super().fail_step(claim, failed)
        self.note(f"fail_step {claim.workflow_id} {failed.step_id} by claim {claim.number}")
        self.given_up.add((claim.workflow_id, failed.step_id))

    def _check_refused(self, attempt: Attempt) -> None:
        """What a policy gives up on is not tried again, and what aborts is no attempt."""
        if attempt.error.type == "PermissionError" and attempt.retry_at is not None:
            self.violated(f"{attempt.workflow_id} is to call step {attempt.step_id} again")
        if _is_abort(attempt.error):
            self.violated(
                f"{attempt.workflow_id}: {attempt.step_id} has aborted, and is tried again"
            )

    def check_attempt(self, claim: Claim, step_id: str) -> None:
        """The owner does not call a step before its pause is over, nor one that is given up."""
        key = (claim.workflow_id, step_id)
        if not self._is_newest(claim):
            return
        if key in self.given_up:
            self.violated(f"{claim.workflow_id} called step {step_id}, which was given up")
        # What a stale run records after the history was read, this one cannot know.
        latest = self._known.get(claim.key, {}).get(step_id)
        if latest is None or latest.round != claim.workflow.retries:
            return
        if latest.retry_at is not None and latest.retry_at > self.clock.now():
            self.violated(f"{claim.workflow_id} called step {step_id} before its pause was over")

    def _check_record(self, claim: Claim, what: str, stored: Any) -> None:
        first = self.outputs.setdefault((claim.workflow_id, what), stored)
        self.note(f"save {claim.workflow_id} {what} by claim {claim.number} -> {stored}")
        if stored != first:
            self.violated(f"{claim.workflow_id} {what} is {stored}, but was {first}")

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._end("park", claim, lambda: super(Observer, self).park(claim, wake_up_at))

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        await self._end("release", claim, lambda: super(Observer, self).release(claim, now))

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        await self._end("finish", claim, lambda: super(Observer, self).finish(claim, result, now))

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        self._check_pause(claim, failure, now)
        await self._end("fail", claim, lambda: super(Observer, self).fail(claim, failure, now))

    def _check_pause(self, claim: Claim, failure: Failure, now: datetime) -> None:
        """An abort is the end, and the pauses after failures grow."""
        if failure.retry_at is None:
            return
        if _is_abort(failure.error):
            self.violated(f"{claim.workflow_id} has aborted, and is to be tried again")
        if self.backoff is not None:
            due_at = now + self.backoff.delay(claim.workflow.failures + 1)
            due_at = min(due_at, self.deadline_at(claim.workflow) or due_at)
            if abs(failure.retry_at - due_at) > _ROUNDING:
                self.violated(f"{claim.workflow_id} is due at {failure.retry_at}, not at {due_at}")

    async def _end(self, event: str, claim: Claim, call: Callable[[], Awaitable[T]]) -> T:
        before = await self._store.find_workflow(claim.workflow_id)
        try:
            answer = await call()
        except Exception as refusal:
            self.note(f"{event} {claim.workflow_id} by claim {claim.number} -> {refusal}")
            await self._check_unchanged(event, claim, before, "though it was refused")
            raise
        if before is None:
            raise Violated(f"{claim.workflow_id} was moved by {event}, and is not there")
        self.note(f"{event} {claim.workflow_id} by claim {claim.number}")
        if before.status.ended:
            await self._check_unchanged(event, claim, before, f"though {before.status}")
        if not self._is_newest(claim):
            await self._check_unchanged(event, claim, before, "by an owner of before")
        if claim.key in self.taken:
            await self._check_unchanged(event, claim, before, "by an owner that was relieved")
        return answer

    @override
    async def control(
        self, workflow_id: str, event: Event, now: datetime, reason: str | None = None
    ) -> None:
        before = await self._store.find_workflow(workflow_id)
        try:
            await super().control(workflow_id, event, now, reason)
        except Exception as refusal:
            self.note(f"{event} {workflow_id} -> {refusal}")
            if await self._store.find_workflow(workflow_id) != before:
                self.violated(f"{workflow_id} was changed by {event} though it was refused")
            raise
        self.note(f"{event} {workflow_id}")
        after = await self._found(workflow_id)
        if before is None or machine.TRANSITIONS[before.status].get(event) is not after.status:
            self.violated(f"{workflow_id} was moved by {event} to {after.status} from {before}")
        self._note_order(
            after, event, was_running=before is not None and before.status is Status.RUNNING
        )

    @override
    async def control_in(
        self, session: Any, workflow_id: str, event: Event, now: datetime, reason: str | None = None
    ) -> None:
        stored = await self._store.find_workflow(workflow_id)
        before: list[Workflow] = []
        session.act(lambda: before.extend(self._stored(workflow_id)))
        try:
            await super().control_in(session, workflow_id, event, now, reason)
        except Exception as refusal:
            self.note(f"{event} {workflow_id} in a transaction -> {refusal}")
            raise
        finally:
            await self._check_isolated(workflow_id, stored)
        self.note(f"{event} {workflow_id} in a transaction")
        self._written[session][workflow_id] = event
        session.act(lambda: self._note_commit(before[0], event))

    def _note_commit(self, before: Workflow, event: Event) -> None:
        (after,) = self._stored(before.workflow_id)
        self.note(f"commit {event} {after.workflow_id}")
        if machine.TRANSITIONS[before.status].get(event) is not after.status:
            self.violated(f"{after.workflow_id} was moved by {event} to {after.status}: {before}")
        self._note_order(after, event, was_running=before.status is Status.RUNNING)

    def _stored(self, workflow_id: str) -> list[Workflow]:
        """The workflow, if it is there, for who cannot wait: the store in memory does not."""
        looking = self._memory.find_workflow(workflow_id)
        try:
            looking.send(None)
        except StopIteration as found:
            return [] if found.value is None else [found.value]
        raise AssertionError("the store in memory waits for something")

    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        forked = await super().fork(workflow_id, new_id, before, now)
        self.note(f"fork {workflow_id} to {new_id} before {before} -> {forked}")
        if forked:
            if new_id in self.created:
                self.violated(f"{new_id} was forked to, and existed")
            self.created.add(new_id)
            await self._note_copies(workflow_id, new_id, before)
        return forked

    @override
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        before = {one: await self._found(one) for one in sorted(self.created - self.expired)}
        pruned = await super().prune(ended_before, statuses, limit, now)
        for workflow_id, workflow in before.items():
            if await self._store.find_workflow(workflow_id) is not None:
                continue
            self.note(f"prune {workflow_id}")
            self.expired.add(workflow_id)
            ended_at = workflow.finished_at
            if ended_at is None or now - ended_at < self.kept_for:
                self.violated(f"{workflow_id} was deleted, and ended at {ended_at}")
        return pruned

    async def _note_copies(self, workflow_id: str, new_id: str, before: str | None) -> None:
        """What was copied is what was there, all of it, or without what came since a step."""
        records = await self._memory.records(new_id)
        copies: dict[str, Any] = {f"step {one.step_id}": one.output for one in records.steps}
        copies |= {f"nap {one.nap_id}": one.wake_up_at for one in records.naps}
        theirs = {what: v for (owner, what), v in self.outputs.items() if owner == workflow_id}
        expected = theirs if before is None else {what: theirs.get(what) for what in copies}
        if copies != {what: v for what, v in expected.items() if not what.startswith("attempt")}:
            self.violated(f"{new_id} was forked with {copies}, {workflow_id} had {theirs}")
        if f"step {before}" in copies:
            self.violated(f"{new_id} was forked before {before}, and has it")
        for what, stored in copies.items():
            self.outputs[new_id, what] = stored
            self.copied.add((new_id, what))
        for failed in (await self._found(new_id)).failed_steps:
            self.given_up.add((new_id, failed.step_id))

    def _note_order(self, workflow: Workflow, event: Event, *, was_running: bool) -> None:
        workflow_id, now = workflow.workflow_id, self.clock.now()
        self.orders[workflow_id].append((now, event))
        if was_running:
            self.taken[self._newest[workflow_id].key] = now
        if event is Event.RETRY:
            self.given_up = {key for key in self.given_up if key[0] != workflow_id}
        if event is Event.CANCEL:
            self.cancelled[workflow_id, workflow.claims] = now

    async def _check_unchanged(
        self, event: str, claim: Claim, before: Workflow | None, how: str
    ) -> None:
        if await self._store.find_workflow(claim.workflow_id) != before:
            self.violated(f"{claim.workflow_id} was changed by {event} {how}")

    async def _found(self, workflow_id: str) -> Workflow:
        workflow = await self._store.find_workflow(workflow_id)
        if workflow is None:
            raise Violated(f"{workflow_id} has disappeared")
        return workflow

    def _is_newest(self, claim: Claim) -> bool:
        newest = self._newest.get(claim.workflow_id)
        return newest is not None and newest.token == claim.token

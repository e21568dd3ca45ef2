"""The store as it really was: what was carried out, and whether it may have been."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from typing_extensions import override

from bluestreak_core import (
    Attempt,
    BluestreakError,
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
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    WAITING,
    ClaimRequest,
    NewMessage,
    NoMessage,
    Published,
    Standing,
    Step,
)
from bluestreak_core.testing import StoreWrapper
from bluestreak_memory import MemoryStore
from tests.simulation import (
    child_invariant,
    compensation_invariant,
    lasting_invariant,
    mail_invariant,
)
from tests.simulation import store_invariant as invariant
from tests.simulation.record import Asked, Record
from tests.simulation.scenario import families

T = TypeVar("T")

ALL = 10_000
"""More messages than a mailbox has."""


class Disappeared(AssertionError):
    """A workflow is not there that must be."""


class Observer(StoreWrapper):
    """Stands right before the store, behind all faults.

    Each call is checked against the invariants as it is carried out, and noted in `timeline`.
    """

    def __init__(self, store: MemoryStore, record: Record) -> None:
        super().__init__(store)
        self._memory = store
        self._record = record

    # Starting ------------------------------------------------------------------------------------

    @override
    async def create(self, new: NewWorkflow) -> bool:
        created = await super().create(new)
        self._note_start("create", new, is_new=created)
        return created

    @override
    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        created = await super().create_many(new)
        for workflow, is_new in zip(new, created, strict=True):
            self._note_start("create_many", workflow, is_new=is_new)
        return created

    @override
    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        created = await super().create_in(session, new)
        self._record.note(f"create_in {new.workflow_id} -> {created}")
        if created:
            self._record.written[session][new.workflow_id] = "created"
            await self._check_isolated(new.workflow_id, None)
            session.after_commit(lambda: self._note_start("commit", new, is_new=True))
        return created

    @override
    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        found = await super().find_in(session, workflow_id)
        self._record.note(f"find_in {workflow_id} -> {found and found.status}")
        invariant.transactions_see_their_own_writes(self._record, session, workflow_id, found)
        return found

    def _note_start(self, call: str, new: NewWorkflow, *, is_new: bool) -> None:
        self._record.note(f"{call} {new.workflow_id} -> {is_new}")
        if is_new:
            invariant.ids_are_new_once(self._record, new.workflow_id)
            self._record.created.add(new.workflow_id)
            self._record.begins[new.workflow_id] = new.start_at or new.created_at
            if new.parent is not None:
                self._record.accepted.add(new.workflow_id)

    async def _check_isolated(self, workflow_id: str, before: Workflow | None) -> None:
        after = await self._store.find_workflow(workflow_id)
        invariant.transactions_are_isolated(self._record, workflow_id, before, after)

    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        forked = await super().fork(workflow_id, new_id, before, now)
        self._record.note(f"fork {workflow_id} to {new_id} before {before} -> {forked}")
        if forked:
            invariant.ids_are_new_once(self._record, new_id)
            self._record.created.add(new_id)
            await self._note_copies(workflow_id, new_id, before)
        return forked

    async def _note_copies(self, workflow_id: str, new_id: str, before: str | None) -> None:
        records = await self._memory.records(new_id)
        copies: dict[str, Any] = {f"step {step.step_id}": step.output for step in records.steps}
        copies |= {f"nap {nap.nap_id}": nap.wake_up_at for nap in records.naps}
        invariant.forks_have_what_was_recorded(self._record, workflow_id, new_id, before, copies)
        for what, stored in copies.items():
            self._record.outputs[new_id, what] = stored
            self._record.copied.add((new_id, what))
        for step in records.steps:
            if step.receipt is not None:
                self._record.receipts[new_id, step.step_id] = step.receipt
        for failed in (await self._found(new_id)).failed_steps:
            self._record.given_up.add((new_id, failed.step_id))

    # Claiming ------------------------------------------------------------------------------------

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        record = self._record
        before = {
            workflow_id: await self._found(workflow_id)
            for workflow_id in record.created - record.expired
        }
        claims = await super().claim(request)
        for claim in claims:
            record.note(f"claim {claim.workflow_id} -> claim {claim.number}")
            self._note_claim(before[claim.workflow_id], claim, request.now)
        return claims

    def _note_claim(self, before: Workflow, claim: Claim, now: datetime) -> None:
        record, workflow_id = self._record, claim.workflow_id
        status, event = claim.workflow.status, machine.claiming(before.status)
        invariant.moves_follow_the_table(record, workflow_id, event, before, status)
        invariant.nothing_is_claimed_before_it_is_due(record, before, claim, now)
        if before.status not in machine.held():
            moved_at = [min(at, now) for at in record.moved_at(workflow_id)]
            due_at = max([before.timeout_at, *moved_at])
            record.lateness.append((self.clock.now(), now - due_at, workflow_id))
        record.newest[workflow_id] = claim

    @override
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        histories = await super().history(claims)
        for claim in claims:
            workflow_id = claim.workflow_id
            latest = self._record.attempts.items()
            attempts = {step: attempt for (of, step), attempt in latest if of == workflow_id}
            self._record.known.setdefault(claim.key, attempts)
            for step_id, output in histories[workflow_id].steps.items():
                lasting_invariant.generations_are_apart(self._record, claim, step_id, output)
        return histories

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        lost = await super().renew(claims, now, lease)
        for claim in claims:
            if claim not in lost:
                invariant.only_owners_renew_a_lease(self._record, claim)
        return lost

    # Recording -----------------------------------------------------------------------------------

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        stored = await super().save_step(claim, step_id, output, now)
        self._note_record(claim, f"step {step_id}", stored)
        self._check_child(claim, step_id, stored, None)
        return stored

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        stored = await super().save_nap(claim, nap_id, wake_up_at, now)
        self._note_record(claim, f"nap {nap_id}", stored)
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
        self._note_record(claim, f"step {step_id}", stored)
        return stored

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        stored = await super().save_attempt(claim, attempt)
        if stored.error == WAITING:
            what = f"attempt of {stored.step_id} to receive, round {stored.round}"
            self._note_record(claim, what, stored.retry_at)
            wait = (claim.workflow_id, stored.step_id, stored.round)
            self._record.waits[wait] = stored.retry_at
            return stored
        invariant.policies_give_up_at_once(self._record, attempt)
        invariant.aborts_are_no_attempts(self._record, attempt)
        what = f"attempt {stored.number} of step {stored.step_id}, round {stored.round}"
        self._note_record(claim, what, stored)
        self._record.attempts[claim.workflow_id, stored.step_id] = stored
        self._record.known.setdefault(claim.key, {})[stored.step_id] = stored
        return stored

    @override
    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        await super().fail_step(claim, failed)
        self._record.note(f"fail_step {claim.workflow_id} {failed.step_id} by claim {claim.number}")
        self._record.given_up.add((claim.workflow_id, failed.step_id))
        self._check_child(claim, failed.step_id, None, failed)

    def _check_child(
        self, claim: Claim, step_id: str, output: Any, failed: FailedStep | None
    ) -> None:
        record, workflow_id = self._record, claim.workflow_id
        for parent_id, child_id, operation in families(workflow_id, record.plans[workflow_id]):
            if parent_id == workflow_id and operation.result_id == step_id:
                child_invariant.children_end_as_recorded(
                    record, workflow_id, child_id, output, failed
                )

    def _note_record(self, claim: Claim, what: str, stored: Any) -> None:
        told = "begun" if isinstance(stored, Attempt) and stored.is_begin else stored
        self._record.note(f"save {claim.workflow_id} {what} by claim {claim.number} -> {told}")
        invariant.steps_have_one_output(self._record, claim.workflow_id, what, stored)

    # Messages ------------------------------------------------------------------------------------

    @override
    async def send(self, message: NewMessage) -> bool:
        workflow_id = message.workflow_id
        before = await self._store.find_workflow(workflow_id)
        try:
            is_new = await super().send(message)
        except Exception as refusal:
            self._record.note(f"send {workflow_id} {message.message_id} -> {refusal}")
            after = await self._store.find_workflow(workflow_id)
            invariant.refusals_change_nothing(self._record, workflow_id, "send", before, after)
            raise
        self._note_message("send", before, message, is_new=is_new, is_counted=not is_new)
        return is_new

    @override
    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        before = [await self._store.find_workflow(message.workflow_id) for message in messages]
        answers = await super().send_many(messages)
        for message, workflow, answer in zip(messages, before, answers, strict=True):
            if isinstance(answer, bool):
                self._note_message(
                    "send_many", workflow, message, is_new=answer, is_counted=not answer
                )
        return answers

    @override
    async def send_in(self, session: Any, message: NewMessage) -> bool:
        workflow_id, record = message.workflow_id, self._record
        mail = await self._mail(workflow_id)
        before: list[Workflow] = []
        session.after_commit(lambda: before.extend(self._stored(workflow_id)))
        try:
            is_new = await super().send_in(session, message)
        except Exception as refusal:
            record.note(f"send {workflow_id} {message.message_id} in a transaction -> {refusal}")
            raise
        finally:
            invariant.transactions_are_isolated(
                record, workflow_id, mail, await self._mail(workflow_id)
            )
        record.note(f"send {workflow_id} {message.message_id} in a transaction -> {is_new}")
        session.after_commit(
            lambda: self._note_message("commit", before[0], message, is_new=is_new, is_counted=True)
        )
        return is_new

    def _note_message(
        self,
        call: str,
        before: Workflow | None,
        message: NewMessage,
        *,
        is_new: bool,
        is_counted: bool,
    ) -> None:
        record, workflow_id = self._record, message.workflow_id
        key = (workflow_id, message.message_id)
        record.note(f"{call} {workflow_id} {message.message_id}: {message.name} -> {is_new}")
        if is_new:
            mail_invariant.messages_are_new_once(record, *key)
            record.mailed.add(key)
        if is_counted:
            record.counted.setdefault(key, self.clock.now())
        (after,) = self._stored(workflow_id)
        if before is not None and before.waiting_for and not after.waiting_for:
            record.woken[workflow_id] = self.clock.now()
            invariant.moves_follow_the_table(
                record, workflow_id, Transition.WAKE, before, after.status
            )
        self._check_awake(after)

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        workflow_id = claim.workflow_id
        unread = [message for message in self._unread(workflow_id) if message.name in names]
        found = await super().receive(claim, step_id, names, now, give_up=give_up)
        if isinstance(found, NoMessage):
            self._record.note(f"receive {workflow_id} {step_id} by claim {claim.number} -> {found}")
            asked = Asked(at=self.clock.now(), names=frozenset(names), claim=claim)
            self._record.asked[workflow_id, step_id] = asked
        else:
            self._note_receipt(claim, found, unread)
        return found

    def _note_receipt(self, claim: Claim, step: Step, unread: Collection[NewMessage]) -> None:
        record, key = self._record, (claim.workflow_id, step.step_id)
        is_first, receipt = key not in record.receipts, step.receipt
        self._note_record(claim, f"step {step.step_id}", step.output)
        mail_invariant.receives_have_one_outcome(record, *key, receipt)
        if receipt is None or not is_first:
            return
        record.receipts[key] = receipt
        mail_invariant.timeouts_come_in_time(record, claim, step.step_id)
        if receipt.message_id is None:
            mail_invariant.timeouts_do_not_come_early(record, claim, step.step_id)
            mail_invariant.timeouts_leave_no_mail(record, *key, unread)
        else:
            mail_invariant.messages_are_received_once(record, *key, receipt.message_id)
            mail_invariant.messages_keep_their_order(record, claim.workflow_id, receipt.message_id)
            mail_invariant.messages_are_received_at_once(
                record, claim, step.step_id, receipt.message_id
            )

    @override
    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        await self._end(
            "park_until_message",
            claim,
            lambda: super(Observer, self).park_until_message(claim, wake_up_at, names, mail, now),
        )
        for workflow in self._stored(claim.workflow_id):
            self._check_awake(workflow)

    def _check_awake(self, workflow: Workflow) -> None:
        unread = self._unread(workflow.workflow_id)
        mail_invariant.nobody_sleeps_over_mail(self._record, workflow, unread)
        child_invariant.nobody_sleeps_over_the_end_of_a_child(self._record, workflow, self._find)

    def _find(self, workflow_id: str) -> Workflow | None:
        return next(iter(self._stored(workflow_id)), None)

    # Children, restarts and published values -----------------------------------------------------

    @override
    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        before = await self._store.find_workflow(workflow_id)
        await super().nudge(workflow_id, created_at, name, now)
        after = await self._store.find_workflow(workflow_id)
        self._record.note(f"nudge {workflow_id}: {name}")
        if before is not None and after is not None and before.waiting_for != after.waiting_for:
            self._record.woken[workflow_id] = self.clock.now()
            invariant.moves_follow_the_table(
                self._record, workflow_id, Transition.WAKE, before, after.status
            )

    @override
    async def settle(self, seen: Standing) -> None:
        await super().settle(seen)
        self._record.note(f"settle {seen.workflow_id}")
        parent_id = None if seen.parent is None else seen.parent.workflow_id
        for parent in () if parent_id is None else self._stored(parent_id):
            self._check_awake(parent)

    @override
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        before = await self._found(claim.workflow_id)
        await super().publish(claim, published)
        self._record.note(f"publish {claim.workflow_id} {[value.value for value in published]}")
        after = await self._store.find_workflow(claim.workflow_id)
        lasting_invariant.published_values_do_not_go_back(self._record, before, after)

    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        before = await self._found(claim.workflow_id)
        await self._end(
            "restart", claim, lambda: super(Observer, self).restart(claim, input, received, now)
        )
        after = await self._found(claim.workflow_id)
        if after.generation != before.generation:
            self._record.note_restart(claim.workflow_id)

    # Ending --------------------------------------------------------------------------------------

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._end("park", claim, lambda: super(Observer, self).park(claim, wake_up_at))

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        await self._end("release", claim, lambda: super(Observer, self).release(claim, now))

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        await self._end("finish", claim, lambda: super(Observer, self).finish(claim, result, now))
        parent = claim.workflow.parent
        for found in () if parent is None else self._stored(parent.workflow_id):
            if not found.unsettled:
                child_invariant.children_do_not_outlive_their_parent(
                    self._record, claim.workflow, found
                )

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        invariant.aborts_are_not_retried(self._record, claim, failure)
        invariant.pauses_follow_their_backoff(self._record, claim, failure, now)
        await self._end("fail", claim, lambda: super(Observer, self).fail(claim, failure, now))

    @override
    async def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        await self._end("give_up", claim, lambda: super(Observer, self).give_up(claim, error, now))

    @override
    async def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._end(
            "postpone", claim, lambda: super(Observer, self).postpone(claim, wake_up_at)
        )

    @override
    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        before = await self._found(claim.workflow_id)
        await self._end(
            "end_compensated", claim, lambda: super(Observer, self).end_compensated(claim, now)
        )
        after = await self._store.find_workflow(claim.workflow_id)
        compensation_invariant.ends_are_as_decided(self._record, before, after)

    @override
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        await super().hand_over(claim, now)
        self._record.note(f"hand_over {claim.workflow_id} by claim {claim.number}")
        self._record.handed_over[claim.workflow_id] = self.clock.now()

    async def _end(self, event: str, claim: Claim, call: Callable[[], Awaitable[T]]) -> T:
        record, workflow_id = self._record, claim.workflow_id
        before = await self._store.find_workflow(workflow_id)
        try:
            answer = await call()
        except Exception as refusal:
            record.note(f"{event} {workflow_id} by claim {claim.number} -> {refusal}")
            after = await self._store.find_workflow(workflow_id)
            invariant.refusals_change_nothing(record, workflow_id, event, before, after)
            raise
        if before is None:
            raise Disappeared(f"{workflow_id} was moved by {event}, and is not there")
        record.note(f"{event} {workflow_id} by claim {claim.number}")
        after = await self._store.find_workflow(workflow_id)
        self._note_end(after)
        invariant.ends_are_final(record, event, before, after)
        invariant.only_owners_move_a_workflow(record, claim, event, before, after)
        invariant.taken_claims_write_nothing(record, claim, event, before, after)
        return answer

    def _note_end(self, workflow: Workflow | None) -> None:
        """Note how a workflow has ended, or is to end, if it does."""
        if workflow is None:
            return
        if workflow.status.ended:
            end = (workflow.status, workflow.result)
            if end not in self._record.ends[workflow.workflow_id]:
                self._record.ends[workflow.workflow_id].append(end)
        if workflow.status is Status.STOPPING and workflow.outcome is not None:
            self._record.decided.setdefault(workflow.workflow_id, workflow.outcome)

    # From outside --------------------------------------------------------------------------------

    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        record = self._record
        before = await self._store.find_workflow(workflow_id)
        try:
            await super().control(workflow_id, event, now, reason)
        except Exception as refusal:
            record.note(f"{event} {workflow_id} -> {refusal}")
            unchanged = await self._store.find_workflow(workflow_id)
            invariant.refusals_change_nothing(record, workflow_id, event, before, unchanged)
            raise
        record.note(f"{event} {workflow_id}")
        after = await self._found(workflow_id)
        child_invariant.abandoned_children_are_left_alone(record, after, reason)
        moved = _carried_out(event, after)
        invariant.moves_follow_the_table(record, workflow_id, moved, before, after.status)
        self._note_order(
            after, event, was_running=before is not None and before.status is Status.RUNNING
        )

    @override
    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        stored = await self._store.find_workflow(workflow_id)
        before: list[Workflow] = []
        session.after_commit(lambda: before.extend(self._stored(workflow_id)))
        try:
            await super().control_in(session, workflow_id, event, now, reason)
        except Exception as refusal:
            self._record.note(f"{event} {workflow_id} in a transaction -> {refusal}")
            raise
        finally:
            await self._check_isolated(workflow_id, stored)
        self._record.note(f"{event} {workflow_id} in a transaction")
        self._record.written[session][workflow_id] = event
        session.after_commit(lambda: self._note_commit(before[0], event))

    def _note_commit(self, before: Workflow, event: Transition) -> None:
        (after,) = self._stored(before.workflow_id)
        self._record.note(f"commit {event} {after.workflow_id}")
        moved = _carried_out(event, after)
        invariant.moves_follow_the_table(
            self._record, after.workflow_id, moved, before, after.status
        )
        self._note_order(after, event, was_running=before.status is Status.RUNNING)

    def _note_order(self, workflow: Workflow, event: Transition, *, was_running: bool) -> None:
        record, workflow_id, now = self._record, workflow.workflow_id, self.clock.now()
        self._note_end(workflow)
        record.orders[workflow_id].append((now, event))
        if was_running:
            record.taken[record.newest[workflow_id].key] = now
        if event is Transition.RETRY:
            record.given_up = {key for key in record.given_up if key[0] != workflow_id}

    @override
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        record = self._record
        before = {
            workflow_id: await self._found(workflow_id)
            for workflow_id in sorted(record.created - record.expired)
        }
        pruned = await super().prune(ended_before, statuses, limit, now)
        for workflow_id, workflow in before.items():
            if await self._store.find_workflow(workflow_id) is None:
                record.note(f"prune {workflow_id}")
                record.expired.add(workflow_id)
                invariant.expiry_waits_long_enough(record, workflow, now)
        return pruned

    # Looking -------------------------------------------------------------------------------------

    async def _found(self, workflow_id: str) -> Workflow:
        workflow = await self._store.find_workflow(workflow_id)
        if workflow is None:
            raise Disappeared(f"{workflow_id} has disappeared")
        return workflow

    async def _mail(self, workflow_id: str) -> object:
        """All that others see of a workflow and its mail."""
        return await self._store.find_workflow(workflow_id), self._unread(workflow_id)

    def _stored(self, workflow_id: str) -> list[Workflow]:
        """The workflow, if it is there, where nothing can be awaited."""
        found = _at_once(self._memory.find_workflow(workflow_id))
        return [] if found is None else [found]

    def _unread(self, workflow_id: str) -> Sequence[NewMessage]:
        """What is in its mailbox, where nothing can be awaited."""
        return _at_once(self._memory.find_unread(workflow_id, ALL))


def _carried_out(event: Transition, after: Workflow) -> Transition:
    """What was done where `event` was asked for."""
    is_stop = event is Transition.CANCEL and after.status is Status.STOPPING
    return Transition.STOP if is_stop else event


def _at_once(looking: Coroutine[Any, Any, T]) -> T:
    """The answer of the store, which is in memory and never waits."""
    try:
        looking.send(None)
    except StopIteration as found:
        answer: T = found.value
        return answer
    raise AssertionError("the store in memory waits for something")

"""Stores that break one rule each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from typing_extensions import override

from bluestreak_core import (
    Attempt,
    Claim,
    Clock,
    Failure,
    Hints,
    History,
    ListPosition,
    NewWorkflow,
    Order,
    PlainRules,
    Query,
    Renewer,
    StoreUnavailable,
    SupportsThreadRenewal,
    SystemClock,
    Workflow,
    WorkflowNotFound,
    WorkflowSummary,
    machine,
)
from bluestreak_core.machine import Change, Transition, change
from bluestreak_core.model import (
    ClaimRequest,
    NewMessage,
    NoMessage,
    Published,
    Status,
    Step,
    WorkerRecord,
)
from bluestreak_core.store import MAX_VALUE_BYTES
from bluestreak_core.testing import (
    ManualClock,
    StoreContract,
)
from bluestreak_memory import MemoryStore
from bluestreak_memory.mailbox import Mailbox
from bluestreak_memory.record import received
from tests.contract import wrong_parents

SOME_TURNS = 20
"""Turns of the loop that a call takes to a database that is far away."""
MANY = 1000
"""More messages than any mailbox has."""


async def _take_turns() -> None:
    for _ in range(SOME_TURNS):
        await asyncio.sleep(0)


# Hints -----------------------------------------------------------------------------------------


class SleepsTheWholeTimeout(MemoryStore):
    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        await self.clock.sleep(timeout)

    @override
    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        await self.clock.sleep(timeout)
        return False

    @override
    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        await self.clock.sleep(timeout)
        return False


class NeverReturns(MemoryStore):
    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        await asyncio.Event().wait()


class ForgetsWhatArrivesBeforeTheWait(MemoryStore):
    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        await Hints(self.clock).wait_for_work(timeout)


class WakesBeforeTheCommit(MemoryStore):
    """Reports what it is about to do."""

    def __init__(self, *, clock: Clock) -> None:
        clock = SystemClock()  # which goes on between a hint and its commit
        super().__init__(clock=clock)
        self._early = Hints(clock)

    async def _take_milliseconds(self) -> None:
        commits_at = self.clock.now() + timedelta(milliseconds=5)
        while self.clock.now() < commits_at:
            await _take_turns()

    @override
    async def create(self, new: NewWorkflow) -> bool:
        self._early.due(new.created_at)
        await self._take_milliseconds()
        return await super().create(new)

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        self._early.ended(claim.workflow_id)
        await self._take_milliseconds()
        await super().finish(claim, result, now)

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        self._early.looking(request.now)
        return await super().claim(request)

    @override
    async def wait_for_work(self, timeout: timedelta) -> None:
        await self._early.wait_for_work(timeout)

    @override
    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        return await self._early.wait_for_end(workflow_id, since, timeout)


# Time ------------------------------------------------------------------------------------------


def _in_seconds(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


class CutsInstantsToSeconds(MemoryStore):
    @override
    async def create(self, new: NewWorkflow) -> bool:
        start_at = None if new.start_at is None else _in_seconds(new.start_at)
        return await super().create(
            replace(new, created_at=_in_seconds(new.created_at), start_at=start_at)
        )

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        return await super().renew(claims, _in_seconds(now), lease)

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        return await super().save_step(claim, step_id, output, _in_seconds(now))

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await super().fail(claim, failure, _in_seconds(now))


class AnHourOff(SystemClock):
    @override
    def now(self) -> datetime:
        return super().now() + timedelta(hours=1)


class GoesBack(SystemClock):
    """What a machine shows whose time of day is set."""

    def __init__(self) -> None:
        self._last = 1e9

    @override
    def monotonic(self) -> float:
        self._last -= 1
        return self._last


# Atomic, stale and cancelled calls ---------------------------------------------------------------


class DecidesWithoutALock(MemoryStore):
    """Reads, decides, and writes a little later."""

    async def _end(self, claim: Claim, change: Change) -> None:
        workflow = await self.find_workflow(claim.workflow_id)
        await _take_turns()
        if workflow is not None and machine.in_force(workflow, claim):
            self._workflows.put(change.apply(workflow))
        elif not machine.has_ended_by(workflow, claim, change.event):
            raise machine.lost(workflow, claim)

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        await self._end(claim, machine.change.finish(result, now))

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        await self._end(claim, machine.change.release(now))


class ControlsWithoutALock(MemoryStore):
    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        workflow = await self.find_workflow(workflow_id)
        if workflow is None:
            raise WorkflowNotFound(workflow_id)
        await _take_turns()
        self._workflows.put(machine.control(workflow, event, now, reason))


class ClearsTheCrashesOfASuccessor(MemoryStore):
    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        output = await super().save_step(claim, step_id, output, now)
        workflow = await self.find_workflow(claim.workflow_id)
        if workflow is not None:
            self._workflows.put(machine.progress(workflow))
        return output


class ClearsTheCrashesByAnAttempt(MemoryStore):
    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        recorded = await super().save_attempt(claim, attempt)
        workflow = await self.find_workflow(claim.workflow_id)
        if workflow is not None:
            self._workflows.put(machine.progress(workflow))
        return recorded


class SortsAttemptsByNumber(MemoryStore):
    @override
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        histories = dict(await super().history(claims))
        for workflow_id, history in histories.items():
            attempts = (await self.records(workflow_id)).attempts
            ordered = sorted(attempts, key=lambda attempt: attempt.number)
            latest = {attempt.step_id: attempt for attempt in ordered}
            histories[workflow_id] = replace(history, attempts=latest)
        return histories


class GoesOnWhenCancelled(MemoryStore):
    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        async def save() -> Any:
            await _take_turns()
            return await super(GoesOnWhenCancelled, self).save_step(claim, step_id, output, now)

        return await asyncio.shield(save())


class TakesALateRecordForTheNextWorkflow(MemoryStore):
    """Knows a workflow by its id alone."""

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        there_is = await self.find_workflow(claim.workflow_id)
        if there_is is not None:
            own = replace(claim.workflow, created_at=there_is.created_at)
            claim = replace(claim, workflow=own)
        return await super().save_step(claim, step_id, output, now)


class _KeepingSubclasses(PlainRules):
    @override
    def round_trip(self, value: object, what: str, room: int = MAX_VALUE_BYTES) -> tuple[Any, int]:
        copy, size = super().round_trip(value, what, room)
        return (value if isinstance(value, datetime) else copy), size


class HandsOutWhatItWasGiven(MemoryStore):
    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock, rules=_KeepingSubclasses())


# Powers ----------------------------------------------------------------------------------------


class _Searching(MemoryStore):
    def accepts(self, workflow: Workflow, query: Query) -> bool:
        return query.accepts(workflow)

    def key(self, summary: WorkflowSummary) -> Any:
        return (summary.created_at, summary.workflow_id)

    @override
    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        everything = await super().find_page(Query(), None, 1000)
        found = []
        for summary in everything:
            workflow = await self.find_workflow(summary.workflow_id)
            assert workflow is not None
            if self.accepts(workflow, query):
                found.append(summary)
        return sorted(found, key=self.key, reverse=query.order is Order.NEWEST)[:limit]


class TakesAPrefixForAPattern(_Searching):
    """`LIKE` without an escape: `_` is any character."""

    @override
    def accepts(self, workflow: Workflow, query: Query) -> bool:
        prefix = query.id_prefix or ""
        start = workflow.workflow_id[: len(prefix)]
        return len(start) == len(prefix) and all(
            wanted in (found, "_") for wanted, found in zip(prefix, start, strict=True)
        )


class IgnoresTheCaseOfAPrefix(_Searching):
    """`LIKE`, as SQLite has it."""

    @override
    def accepts(self, workflow: Workflow, query: Query) -> bool:
        return workflow.workflow_id.lower().startswith((query.id_prefix or "").lower())


class SortsByACollation(_Searching):
    @override
    def key(self, summary: WorkflowSummary) -> Any:
        return (summary.created_at, summary.workflow_id.casefold(), summary.workflow_id)


class ForksRecordsInReverse(MemoryStore):
    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        forked = await super().fork(workflow_id, new_id, before, now)
        record = self._workflows.existing(new_id)
        record.steps = dict(reversed(record.steps.items()))
        record.recorded = dict(reversed(record.recorded.items()))
        return forked


class RenewsInVain(MemoryStore, SupportsThreadRenewal):
    @override
    def renewer(self) -> Renewer:
        class Refusing(Renewer):
            @override
            def renew(
                self, claims: Sequence[Claim], now: datetime, lease: timedelta
            ) -> list[Claim]:
                raise StoreUnavailable("always")

            @override
            def close(self) -> None: ...

        return Refusing()


# Compensation ----------------------------------------------------------------------------------


class CancelsInSpiteOfAPromise(MemoryStore):
    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        workflow = self._workflows.existing(workflow_id).workflow
        self._workflows.put(replace(workflow, compensates=False))
        await super().control(workflow_id, event, now, reason)


class PromisesUnderAnyClaim(MemoryStore):
    @override
    async def promise(self, claim: Claim) -> None:
        record = self._workflows.claimed(claim)
        record.workflow = machine.promise(record.workflow)


class HandsOverWhatAnotherClaimHolds(MemoryStore):
    @override
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        workflow = self._workflows.existing(claim.workflow_id).workflow
        self._workflows.put(replace(workflow, timeout_at=min(workflow.timeout_at, now)))


class StopsBesideAPausedRun(MemoryStore):
    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        await super().control(workflow_id, event, now, reason)
        workflow = self._workflows.existing(workflow_id).workflow
        if workflow.leased_until is not None:
            self._workflows.put(replace(workflow, timeout_at=now))


class ResumesAtTheEndOfTheLease(MemoryStore):
    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        await super().control(workflow_id, event, now, reason)
        workflow = self._workflows.existing(workflow_id).workflow
        self._workflows.put(replace(workflow, timeout_at=workflow.leased_until or now))


class WaitsForALeaseAgain(MemoryStore):
    """Long after it has run out."""

    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        await super().control(workflow_id, event, now, reason)
        workflow = self._workflows.existing(workflow_id).workflow
        self._workflows.put(replace(workflow, timeout_at=now + timedelta(seconds=10)))


class HandsOverOnlyWhatStops(MemoryStore):
    @override
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        workflow = self._workflows.existing(claim.workflow_id).workflow
        if workflow.status is Status.STOPPING:
            await super().hand_over(claim, now)


class HandsOverOnlyWhatIsPaused(MemoryStore):
    @override
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        workflow = self._workflows.existing(claim.workflow_id).workflow
        if workflow.status is Status.PAUSED:
            await super().hand_over(claim, now)


class HandsOverUnderAnyClaim(MemoryStore):
    @override
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        workflow = self._workflows.existing(claim.workflow_id).workflow
        self._workflows.put(replace(workflow, leased_until=None))


class ForgetsWhatAWorkflowIsToEndAs(MemoryStore):
    @override
    async def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        await super().postpone(claim, wake_up_at)
        workflow = self._workflows.existing(claim.workflow_id).workflow
        self._workflows.put(replace(workflow, outcome=None))


class AbortsWhatWasCancelled(MemoryStore):
    @override
    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        self._workflows.end(claim, change.end_compensated(Status.ABORTED, now))


# Messages --------------------------------------------------------------------------------------


def _filled(messages: Iterable[NewMessage]) -> Mailbox:
    mailbox = Mailbox()
    for message in messages:
        mailbox.add(message)
    return mailbox


class ReceivesAMessageTwice(MemoryStore):
    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        record = self._workflows.existing(claim.workflow_id)
        unchanged = deepcopy(record.mailbox)
        step = await super().receive(claim, step_id, names, now, give_up=give_up)
        record.mailbox = unchanged
        return step


class TakesAMessageWithoutALock(MemoryStore):
    """Looks, and records what it has found a little later."""

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        record = self._workflows.existing(claim.workflow_id)
        message = deepcopy(record.mailbox).take(names)
        await _take_turns()
        if message is None:
            return await super().receive(claim, step_id, names, now, give_up=give_up)
        unread = record.mailbox.unread(MANY)
        record.mailbox = _filled(left for left in unread if left != message)
        return record.save_step(claim, received(claim, step_id, message, now))


class ReceivesInTheOrderOfIds(MemoryStore):
    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        record = self._workflows.existing(claim.workflow_id)
        unread = record.mailbox.unread(MANY)
        record.mailbox = _filled(sorted(unread, key=lambda message: message.message_id))
        return await super().receive(claim, step_id, names, now, give_up=give_up)


class ReceivesInTheOrderOfNames(MemoryStore):
    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        for name in names:
            step = await super().receive(claim, step_id, [name], now, give_up=False)
            if isinstance(step, Step):
                return step
        return await super().receive(claim, step_id, names, now, give_up=give_up)


class CountsTheMailAfterTheLook(MemoryStore):
    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        step = await super().receive(claim, step_id, names, now, give_up=give_up)
        await asyncio.sleep(0)
        if isinstance(step, Step):
            return step
        return NoMessage(mail=self._workflows.existing(claim.workflow_id).workflow.mail)


class ForgetsToWake(MemoryStore):
    @override
    async def send(self, message: NewMessage) -> bool:
        record = self._workflows.existing(message.workflow_id)
        asleep = machine.change.deliver(1).apply(record.workflow)
        is_new = await super().send(message)
        record.workflow = asleep
        return is_new


class WakesForAnyName(MemoryStore):
    @override
    async def send(self, message: NewMessage) -> bool:
        is_new = await super().send(message)
        workflow = self._workflows.existing(message.workflow_id).workflow
        if workflow.waiting_for:
            self._workflows.put(machine.change.wake(message.sent_at, 0).apply(workflow))
        return is_new


class TakesARepeatForANewMessage(MemoryStore):
    @override
    async def send(self, message: NewMessage) -> bool:
        await super().send(message)
        return True


class DoesNothingAtARepeat(MemoryStore):
    """Puts a message into its mailbox, and wakes its workflow a little later."""

    @override
    async def send(self, message: NewMessage) -> bool:
        record = self._workflows.existing(message.workflow_id)
        if not record.mailbox.add(message):
            return False
        await asyncio.sleep(0)
        await super().send(message)
        return True


class DeliversWithoutALock(MemoryStore):
    @override
    async def send(self, message: NewMessage) -> bool:
        record = self._workflows.check_reachable(message)
        workflow, is_new = record.workflow, record.mailbox.add(message)
        await _take_turns()
        self._workflows.put(machine.deliver(workflow, [message.name], message.sent_at))
        return is_new


class WakesBeforeTheMessageIsThere(MemoryStore):
    @override
    async def send(self, message: NewMessage) -> bool:
        self._hints.delivered(message.workflow_id)
        await _take_turns()
        record = self._workflows.existing(message.workflow_id)
        record.workflow = machine.deliver(record.workflow, [message.name], message.sent_at)
        return record.mailbox.add(message)


class ParksInSpiteOfNewMail(MemoryStore):
    @override
    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        self._workflows.end(claim, machine.change.wait(wake_up_at, tuple(names)))


class DropsTheMailAtARetry(MemoryStore):
    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        await super().control(workflow_id, event, now, reason)
        if event is Transition.RETRY:
            self._workflows.existing(workflow_id).mailbox = Mailbox()


class SharesTheMailboxOfAFork(MemoryStore):
    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        forked = await super().fork(workflow_id, new_id, before, now)
        mailbox = self._workflows.existing(workflow_id).mailbox
        self._workflows.existing(new_id).mailbox = mailbox
        return forked


class KeepsMailboxesById(MemoryStore):
    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._mailboxes: dict[str, Mailbox] = {}

    @override
    async def create(self, new: NewWorkflow) -> bool:
        is_new = await super().create(new)
        mailbox = self._mailboxes.setdefault(new.workflow_id, Mailbox())
        self._workflows.existing(new.workflow_id).mailbox = mailbox
        return is_new


class FindsOnlyUnreadMessages(MemoryStore):
    @override
    async def find_message(self, workflow_id: str, message_id: str) -> NewMessage | None:
        unread = self._workflows.existing(workflow_id).mailbox.unread(MANY)
        return next((each for each in unread if each.message_id == message_id), None)


class KeepsTheLastOfRepeatedMessages(MemoryStore):
    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._last: dict[tuple[str, str], NewMessage] = {}

    @override
    async def send(self, message: NewMessage) -> bool:
        is_new = await super().send(message)
        self._last[message.workflow_id, message.message_id] = message
        return is_new

    @override
    async def find_message(self, workflow_id: str, message_id: str) -> NewMessage | None:
        return self._last.get((workflow_id, message_id))


class _Beating(MemoryStore):
    """Changes only how it keeps signs of life."""

    def _beaten(self, workflow: Workflow, step_id: str, now: datetime) -> Workflow:
        return machine.beat(workflow, step_id, now)

    @override
    async def beat(self, workflow_id: str, step_id: str, now: datetime) -> None:
        record = self._workflows.existing(workflow_id)
        record.workflow = self._beaten(record.workflow, step_id, now)


class KeepsOneBeatForAllSteps(_Beating):
    @override
    def _beaten(self, workflow: Workflow, step_id: str, now: datetime) -> Workflow:
        return replace(workflow, beats=super()._beaten(workflow, step_id, now).beats[-1:])


class BeatsBackwards(_Beating):
    @override
    def _beaten(self, workflow: Workflow, step_id: str, now: datetime) -> Workflow:
        others = tuple(beat for beat in workflow.beats if beat.step_id != step_id)
        return machine.beat(replace(workflow, beats=others), step_id, now)


class WakesByABeat(_Beating):
    @override
    def _beaten(self, workflow: Workflow, step_id: str, now: datetime) -> Workflow:
        return replace(super()._beaten(workflow, step_id, now), waiting_for=(), timeout_at=now)


class BeatsAfterTheEnd(_Beating):
    @override
    def _beaten(self, workflow: Workflow, step_id: str, now: datetime) -> Workflow:
        going_on = replace(workflow, status=Status.IDLE)
        return replace(super()._beaten(going_on, step_id, now), status=workflow.status)


class BeatsWithoutALock(MemoryStore):
    @override
    async def beat(self, workflow_id: str, step_id: str, now: datetime) -> None:
        record = self._workflows.existing(workflow_id)
        beaten = machine.beat(record.workflow, step_id, now)
        await _take_turns()
        record.workflow = beaten


class TakesTheBeatsAlong(MemoryStore):
    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        forked = await super().fork(workflow_id, new_id, before, now)
        record = self._workflows.existing(new_id)
        beats = self._workflows.existing(workflow_id).workflow.beats
        record.workflow = replace(record.workflow, beats=beats)
        return forked


# Workers ------------------------------------------------------------------------------------------


class ListsDeadWorkers(MemoryStore):
    @override
    async def find_workers(self, now: datetime) -> Sequence[WorkerRecord]:
        return await super().find_workers(datetime.min.replace(tzinfo=UTC))


class ListsWorkersAsTheyCame(MemoryStore):
    @override
    async def find_workers(self, now: datetime) -> Sequence[WorkerRecord]:
        return [record for record in self._workers.values() if record.until > now]


class KeepsTheFirstRecordOfAWorker(MemoryStore):
    @override
    async def register_worker(self, record: WorkerRecord) -> None:
        if record.name not in self._workers:
            await super().register_worker(record)


class ForgetsAllWorkers(MemoryStore):
    @override
    async def unregister_worker(self, name: str) -> None:
        self._workers.clear()


class RefusesUnknownWorkers(MemoryStore):
    @override
    async def unregister_worker(self, name: str) -> None:
        del self._workers[name]


class ForgetsStepsInFlight(MemoryStore):
    @override
    async def register_worker(self, record: WorkerRecord) -> None:
        runs = tuple(replace(run, step_id=None) for run in record.in_flight)
        await super().register_worker(replace(record, in_flight=runs))


# Published values ---------------------------------------------------------------------------------


class PublishesUnderAnyClaim(MemoryStore):
    @override
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        workflow = self._workflows.existing(claim.workflow_id).workflow
        self._workflows.put(machine.publish(workflow, tuple(published)))


class PublishesWithoutALock(MemoryStore):
    @override
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        workflow = self._workflows.existing(claim.workflow_id).workflow
        await _take_turns()
        if not machine.in_force(workflow, claim):
            raise machine.lost(workflow, claim)
        self._workflows.put(machine.publish(workflow, tuple(published)))


class AddsWhatIsPublished(MemoryStore):
    @override
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        before = self._workflows.existing(claim.workflow_id).workflow.published
        latest = {value.name: value for value in (*before, *published)}
        await super().publish(claim, tuple(latest.values()))


class TakesPublishingForProgress(MemoryStore):
    @override
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        await super().publish(claim, published)
        record = self._workflows.existing(claim.workflow_id)
        record.workflow = machine.progress(record.workflow)


class ForksWhatIsPublished(MemoryStore):
    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        forked = await super().fork(workflow_id, new_id, before, now)
        record = self._workflows.existing(new_id)
        published = self._workflows.existing(workflow_id).workflow.published
        record.workflow = replace(record.workflow, published=published)
        return forked


# Restarts ---------------------------------------------------------------------------------------


class KeepsTheRecordsOfTheLastGeneration(MemoryStore):
    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        workflow = self._workflows.existing(claim.workflow_id).workflow
        self._workflows.end(claim, machine.change.restart(workflow, input, now))


class KnowsAWorkflowByItsCreationAlone(MemoryStore):
    """Takes a late record of the last generation for one of the next."""

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        there_is = await self.find_workflow(claim.workflow_id)
        if there_is is not None:
            own = replace(claim.workflow, generation=there_is.generation)
            claim = replace(claim, workflow=own)
        return await super().save_step(claim, step_id, output, now)


class RestartsAnew(MemoryStore):
    """Takes a repeated restart for another one."""

    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        record = self._workflows.existing(claim.workflow_id)
        if record.workflow.generation == claim.workflow.generation:
            await super().restart(claim, input, received, now)
            return
        record.forget(0, received)
        self._workflows.put(machine.restart(record.workflow, input, now))


class RestartsWithoutALock(MemoryStore):
    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        record = self._workflows.existing(claim.workflow_id)
        workflow = record.workflow
        await _take_turns()
        if machine.in_force(workflow, claim):
            record.forget(0, received)
            self._workflows.put(machine.restart(workflow, input, now))
        elif not machine.has_ended_by(workflow, claim, Transition.RESTART):
            raise machine.lost(workflow, claim)


class RestartsUnderAnyClaim(MemoryStore):
    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        record = self._workflows.existing(claim.workflow_id)
        record.forget(0, received)
        self._workflows.put(machine.restart(record.workflow, input, now))


class KeepsTheFailures(MemoryStore):
    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        record = self._workflows.existing(claim.workflow_id)
        failures = record.workflow.failures
        await super().restart(claim, input, received, now)
        record.workflow = replace(record.workflow, failures=failures)


class EmptiesTheMailboxAtARestart(MemoryStore):
    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        await super().restart(claim, input, received, now)
        self._workflows.existing(claim.workflow_id).mailbox = Mailbox()


class HandsOutReceivedMessagesAgain(MemoryStore):
    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        await super().restart(claim, input, (), now)


class LosesWhatAStaleRunHasReceived(MemoryStore):
    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        steps = self._workflows.existing(claim.workflow_id).steps.values()
        taken = [step.receipt.message_id for step in steps if step.receipt is not None]
        await super().restart(claim, input, [each for each in taken if each], now)


class ForgetsWhatIsPublishedAtARestart(MemoryStore):
    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        await super().restart(claim, input, received, now)
        record = self._workflows.existing(claim.workflow_id)
        record.workflow = replace(record.workflow, published=())


class ForksTheGeneration(MemoryStore):
    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        forked = await super().fork(workflow_id, new_id, before, now)
        record = self._workflows.existing(new_id)
        generation = self._workflows.existing(workflow_id).workflow.generation
        record.workflow = replace(record.workflow, generation=generation)
        return forked


# Which rule each of them breaks ------------------------------------------------------------------


class _Impatient(StoreContract):
    time_limit = timedelta(milliseconds=200)


@dataclass(frozen=True, kw_only=True)
class WrongStore:
    """A store, and the test that it has to fail."""

    suite: ClassVar = _Impatient()

    make: Callable[[], Any]
    name: str
    test: Callable[..., Coroutine[Any, Any, None]]

    def __str__(self) -> str:
        return self.name


def _wrong(store: type[MemoryStore], test: Any) -> WrongStore:
    return WrongStore(
        make=lambda: store(clock=ManualClock()),
        name=store.__name__,
        test=test,
    )


def _with_clock(clock: type[SystemClock], test: Any) -> WrongStore:
    return WrongStore(make=lambda: MemoryStore(clock=clock()), name=clock.__name__, test=test)


_RACE = StoreContract.test_calls_that_race_end_as_one_after_the_other_would
_MAIL_RACE = StoreContract.test_a_message_to_a_waiting_workflow_comes_before_or_after_another_call
_MISSED = StoreContract.test_no_workflow_is_parked_beside_a_message_that_it_waits_for
_OF_A_FORMER = StoreContract.test_only_children_that_are_to_end_with_their_parent_are_found
_PREFIX = StoreContract.test_a_prefix_is_matched_character_by_character
_ORDER = StoreContract.test_workflows_of_one_instant_are_in_the_order_of_their_code_points

WRONG = [
    _wrong(SleepsTheWholeTimeout, StoreContract.test_work_that_arrives_ends_a_wait_that_has_begun),
    _wrong(SleepsTheWholeTimeout, StoreContract.test_an_end_ends_a_wait_for_it),
    _wrong(SleepsTheWholeTimeout, StoreContract.test_a_worker_whose_claim_is_taken_is_woken),
    _wrong(NeverReturns, StoreContract.test_hints_return),
    _wrong(
        ForgetsWhatArrivesBeforeTheWait,
        StoreContract.test_work_that_arrives_between_a_look_and_the_wait_ends_the_wait,
    ),
    _wrong(WakesBeforeTheCommit, StoreContract.test_work_that_arrives_ends_a_wait_that_has_begun),
    _wrong(WakesBeforeTheCommit, StoreContract.test_an_end_ends_a_wait_for_it),
    _wrong(CutsInstantsToSeconds, StoreContract.test_a_workflow_is_due_to_the_millisecond),
    _wrong(CutsInstantsToSeconds, StoreContract.test_a_lease_ends_to_the_millisecond),
    _wrong(
        CutsInstantsToSeconds,
        StoreContract.test_records_have_their_instants_to_the_millisecond,
    ),
    _wrong(DecidesWithoutALock, _RACE),
    _wrong(ControlsWithoutALock, _RACE),
    _wrong(
        ClearsTheCrashesOfASuccessor, StoreContract.test_a_stale_record_leaves_the_crashes_alone
    ),
    _wrong(
        ClearsTheCrashesByAnAttempt,
        StoreContract.test_a_record_under_a_claim_that_has_ended_leaves_the_crashes_alone,
    ),
    _wrong(
        SortsAttemptsByNumber,
        StoreContract.test_a_begin_is_the_latest_attempt_until_it_has_failed,
    ),
    _wrong(GoesOnWhenCancelled, StoreContract.test_nothing_of_a_cancelled_call_goes_on),
    _wrong(HandsOutWhatItWasGiven, StoreContract.test_a_value_is_the_same_on_every_path),
    _wrong(
        TakesALateRecordForTheNextWorkflow,
        StoreContract.test_records_of_a_deleted_workflow_are_not_handed_to_the_next_one,
    ),
    _with_clock(AnHourOff, StoreContract.test_the_clock_shows_the_time_of_day),
    _with_clock(GoesBack, StoreContract.test_the_clock_never_goes_back),
    _wrong(TakesAPrefixForAPattern, _PREFIX),
    _wrong(IgnoresTheCaseOfAPrefix, _PREFIX),
    _wrong(SortsByACollation, _ORDER),
    _wrong(ForksRecordsInReverse, StoreContract.test_records_keep_their_order),
    _wrong(
        RenewsInVain,
        StoreContract.test_a_renewer_extends_leases_while_the_loop_is_blocked,
    ),
    _wrong(
        CancelsInSpiteOfAPromise,
        StoreContract.test_a_cancelled_workflow_that_compensates_stops_wherever_it_is,
    ),
    _wrong(CancelsInSpiteOfAPromise, StoreContract.test_what_has_compensated_is_not_retried),
    _wrong(
        PromisesUnderAnyClaim,
        StoreContract.test_a_promise_under_a_claim_that_was_taken_is_refused,
    ),
    _wrong(
        HandsOverWhatAnotherClaimHolds,
        StoreContract.test_a_run_whose_claim_was_not_stopped_hands_nothing_over,
    ),
    _wrong(
        StopsBesideAPausedRun,
        StoreContract.test_nothing_is_undone_before_the_end_of_a_lease_that_a_pause_has_taken,
    ),
    _wrong(
        ResumesAtTheEndOfTheLease,
        StoreContract.test_a_pause_notes_the_end_of_the_lease_that_it_takes,
    ),
    _wrong(
        WaitsForALeaseAgain,
        StoreContract.test_a_workflow_that_stops_long_after_a_pause_is_due_at_once,
    ),
    _wrong(
        HandsOverOnlyWhatStops,
        StoreContract.test_a_paused_run_hands_over_before_it_is_cancelled,
    ),
    _wrong(
        HandsOverOnlyWhatIsPaused,
        StoreContract.test_a_paused_run_hands_over_after_it_is_cancelled,
    ),
    _wrong(
        HandsOverUnderAnyClaim,
        StoreContract.test_a_run_from_which_no_pause_has_taken_its_claim_hands_nothing_over,
    ),
    _wrong(
        ForgetsWhatAWorkflowIsToEndAs,
        StoreContract.test_a_postponed_workflow_is_due_at_its_instant,
    ),
    _wrong(AbortsWhatWasCancelled, StoreContract.test_a_claim_to_compensate_ends_once),
    _wrong(ReceivesAMessageTwice, StoreContract.test_a_message_is_received_once),
    _wrong(TakesAMessageWithoutALock, StoreContract.test_no_two_steps_receive_the_same_message),
    _wrong(
        ReceivesInTheOrderOfIds,
        StoreContract.test_messages_are_received_in_the_order_in_which_they_were_sent,
    ),
    _wrong(
        ReceivesInTheOrderOfNames,
        StoreContract.test_of_several_names_the_first_sent_is_received_first,
    ),
    _wrong(CountsTheMailAfterTheLook, _MISSED),
    _wrong(ForgetsToWake, StoreContract.test_a_message_wakes_the_workflow_that_waits_for_it),
    _wrong(WakesForAnyName, StoreContract.test_a_message_of_another_name_does_not_wake),
    _wrong(TakesARepeatForANewMessage, StoreContract.test_a_repeated_message_is_received_once),
    _wrong(DoesNothingAtARepeat, StoreContract.test_a_repeated_message_wakes_all_the_same),
    _wrong(DoesNothingAtARepeat, StoreContract.test_a_repeat_completes_a_message_that_was_cut_off),
    _wrong(DeliversWithoutALock, _MAIL_RACE),
    _wrong(WakesBeforeTheMessageIsThere, StoreContract.test_a_message_ends_a_wait_for_it),
    _wrong(
        ParksInSpiteOfNewMail,
        StoreContract.test_a_workflow_is_released_if_mail_has_come_since_the_look,
    ),
    _wrong(ParksInSpiteOfNewMail, _MISSED),
    _wrong(DropsTheMailAtARetry, StoreContract.test_mail_is_kept_for_a_retry),
    _wrong(SharesTheMailboxOfAFork, StoreContract.test_a_fork_begins_with_an_empty_mailbox),
    _wrong(
        KeepsMailboxesById,
        StoreContract.test_mail_to_a_deleted_workflow_does_not_reach_the_next_one,
    ),
    _wrong(
        FindsOnlyUnreadMessages,
        StoreContract.test_a_message_is_found_whether_or_not_it_was_received,
    ),
    _wrong(
        KeepsTheLastOfRepeatedMessages,
        StoreContract.test_of_messages_of_one_id_the_first_is_found,
    ),
    _wrong(
        KeepsTheLastOfRepeatedMessages,
        StoreContract.test_a_message_to_a_deleted_workflow_is_not_found,
    ),
    _wrong(KeepsTheLastOfRepeatedMessages, StoreContract.test_no_message_that_is_found_is_shared),
    _wrong(KeepsOneBeatForAllSteps, StoreContract.test_the_last_beat_of_each_step_is_kept),
    _wrong(BeatsBackwards, StoreContract.test_a_beat_that_comes_late_takes_nothing_back),
    _wrong(WakesByABeat, StoreContract.test_a_beat_wakes_nobody),
    _wrong(BeatsAfterTheEnd, StoreContract.test_a_beat_for_a_workflow_that_has_ended_is_refused),
    _wrong(BeatsWithoutALock, StoreContract.test_no_beat_undoes_another),
    _wrong(BeatsWithoutALock, StoreContract.test_a_beat_comes_before_or_after_another_call),
    _wrong(TakesTheBeatsAlong, StoreContract.test_a_fork_begins_without_beats),
    _wrong(wrong_parents.ForgetsTheParent, StoreContract.test_a_child_keeps_its_parent),
    _wrong(wrong_parents.FindsChildrenThatAreToGoOn, _OF_A_FORMER),
    _wrong(wrong_parents.FindsTheChildrenOfFormerParents, _OF_A_FORMER),
    _wrong(
        wrong_parents.LetsAStaleCallerHaveChildren,
        StoreContract.test_a_stale_caller_cannot_have_children,
    ),
    _wrong(
        wrong_parents.ForgetsWhatIsUnsettledInEachClaim,
        StoreContract.test_a_parent_is_unsettled,
    ),
    _wrong(
        wrong_parents.NudgesWithoutWaking,
        StoreContract.test_a_nudge_wakes_the_parent_that_waits_for_it,
    ),
    _wrong(wrong_parents.WakesWithoutCounting, StoreContract.test_no_parent_is_parked_past_a_nudge),
    _wrong(
        wrong_parents.NudgesWhoeverHasTheId,
        StoreContract.test_a_nudge_does_not_reach_another_workflow_of_the_same_id,
    ),
    _wrong(
        wrong_parents.FindsWhatHasNotEnded,
        StoreContract.test_what_has_ended_is_found_until_it_is_settled,
    ),
    _wrong(
        wrong_parents.SettlesAnyEnd,
        StoreContract.test_an_end_that_is_not_the_last_one_cannot_be_settled,
    ),
    _wrong(
        wrong_parents.SettlesWhatHasNotEnded,
        StoreContract.test_what_has_not_ended_cannot_be_settled,
    ),
    _wrong(
        wrong_parents.DeletesWhatIsUnsettled,
        StoreContract.test_what_is_unsettled_is_not_deleted,
    ),
    _wrong(PublishesUnderAnyClaim, StoreContract.test_a_stale_publish_is_refused),
    _wrong(
        PublishesUnderAnyClaim,
        StoreContract.test_nothing_is_published_under_a_claim_that_has_ended,
    ),
    _wrong(PublishesWithoutALock, StoreContract.test_a_publish_comes_before_or_after_another_call),
    _wrong(AddsWhatIsPublished, StoreContract.test_what_is_published_replaces_all_that_was),
    _wrong(TakesPublishingForProgress, StoreContract.test_publishing_is_no_progress),
    _wrong(ForksWhatIsPublished, StoreContract.test_a_fork_has_published_nothing),
    _wrong(ListsDeadWorkers, StoreContract.test_a_worker_is_found_before_its_until_only),
    _wrong(ListsWorkersAsTheyCame, StoreContract.test_workers_are_found_by_name),
    _wrong(
        KeepsTheFirstRecordOfAWorker, StoreContract.test_a_later_record_replaces_the_earlier_one
    ),
    _wrong(ForgetsAllWorkers, StoreContract.test_an_unregistered_worker_is_not_found),
    _wrong(RefusesUnknownWorkers, StoreContract.test_an_unknown_worker_may_be_unregistered),
    _wrong(ForgetsStepsInFlight, StoreContract.test_a_registered_worker_is_found_as_it_is),
    _wrong(
        KeepsTheRecordsOfTheLastGeneration,
        StoreContract.test_a_restarted_workflow_has_no_records,
    ),
    _wrong(
        KnowsAWorkflowByItsCreationAlone,
        StoreContract.test_records_of_the_last_generation_do_not_reach_the_next_one,
    ),
    _wrong(RestartsAnew, StoreContract.test_a_repeated_restart_changes_nothing),
    _wrong(RestartsWithoutALock, StoreContract.test_a_restart_comes_before_or_after_another_call),
    _wrong(RestartsUnderAnyClaim, StoreContract.test_a_stale_restart_is_refused),
    _wrong(KeepsTheFailures, StoreContract.test_a_restart_forgets_failures_and_crashes),
    _wrong(
        EmptiesTheMailboxAtARestart,
        StoreContract.test_unread_messages_stay_and_received_ones_stay_received,
    ),
    _wrong(
        HandsOutReceivedMessagesAgain,
        StoreContract.test_unread_messages_stay_and_received_ones_stay_received,
    ),
    _wrong(
        LosesWhatAStaleRunHasReceived,
        StoreContract.test_what_a_stale_run_has_received_unknown_to_the_last_one_is_received,
    ),
    _wrong(ForgetsWhatIsPublishedAtARestart, StoreContract.test_what_was_published_stays),
    _wrong(ForksTheGeneration, StoreContract.test_a_fork_has_the_records_of_the_last_generation),
]

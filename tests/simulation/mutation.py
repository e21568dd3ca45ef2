"""Guards of the library taken away, one at a time, to show that the simulation notices.

Each is a change of one function for as long as a block lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from typing_extensions import override

from bluestreak_core import (
    Attempt,
    Claim,
    NewWorkflow,
    Retry,
    Step,
    Workflow,
    WorkflowNotFound,
    machine,
)
from bluestreak_core.client.starting import Starting
from bluestreak_core.clock import Clock
from bluestreak_core.machine import Transition, change
from bluestreak_core.model import History, NewMessage, NoMessage, Status
from bluestreak_core.run import Run, commit, message_wait, outcome, step
from bluestreak_core.run.attempts import Attempts
from bluestreak_core.run.compensation_call import CompensationCall
from bluestreak_core.run.compensations import Compensations
from bluestreak_core.run.deadline import Deadline
from bluestreak_core.run.exit import Exit, Park, Release
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.handler import Policy
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.lease import Lease, Renewal, renewals
from bluestreak_core.run.operations import Operations
from bluestreak_core.store.hints import Hints
from bluestreak_core.store.query import ENDED
from bluestreak_core.worker import leases
from bluestreak_core.worker.claiming import Claiming
from bluestreak_core.worker.expiry import AT_ONCE, Expiry
from bluestreak_core.worker.leases import Leases
from bluestreak_core.worker.runs import Runs
from bluestreak_memory import MemorySession, MemoryStore
from bluestreak_memory.mailbox import Mailbox
from bluestreak_memory.record import Record, received


def _any_claim(workflow: Workflow | None, claim: Claim) -> bool:
    return workflow is not None


async def _last_writer_wins(
    store: MemoryStore, claim: Claim, step_id: str, output: Any, now: datetime
) -> Any:
    record = store._workflows.claimed(claim)
    record.steps[step_id] = Step(
        workflow_id=claim.workflow_id, step_id=step_id, output=output, saved_at=now
    )
    return output


_save_step = MemoryStore.save_step


async def _own_output(
    store: MemoryStore, claim: Claim, step_id: str, output: Any, now: datetime
) -> Any:
    await _save_step(store, claim, step_id, output, now)
    return output


async def _nothing(*_: Any) -> None: ...


async def _no_history(store: MemoryStore, claims: list[Claim]) -> dict[str, History]:
    return {claim.workflow_id: History() for claim in claims}


async def _unrecorded(store: MemoryStore, claim: Claim, attempt: Attempt) -> Attempt:
    return attempt


async def _bare_fork(
    store: MemoryStore, workflow_id: str, new_id: str, before: str | None, now: datetime
) -> bool:
    if (source := store._workflows.get(workflow_id)) is None:
        raise WorkflowNotFound(workflow_id)
    new = NewWorkflow(
        workflow_id=new_id,
        handler_id=source.workflow.handler_id,
        input=source.workflow.input,
        created_at=now,
    )
    return await store.create(new)


_create = machine.create


def _due_at_once(new: NewWorkflow) -> Workflow:
    return _create(replace(new, start_at=None))


def _end(session: MemorySession) -> None:
    session.is_open = False


_control = machine.control


def _from_anywhere(
    workflow: Workflow, event: Transition, now: datetime, reason: str | None
) -> Workflow:
    return _control(replace(workflow, status=machine.sources(event)[0]), event, now, reason)


_new_run = Claiming._new_run


def _from_the_answer_to_its_claim(claiming: Claiming, claim: Claim, deadline: float) -> Run:
    span = claiming._handlers.shortest_lease
    return _new_run(claiming, claim, claiming._clock.monotonic() + span.total_seconds())


class _RenewalFromItsAnswer(Renewal):
    @override
    def settle(self, lost: Iterable[Claim]) -> list[Lease]:
        self._deadline = self._clock.monotonic() + self._span.total_seconds()
        return super().settle(lost)


def _from_their_answers(held: Iterable[Lease], clock: Clock) -> Iterator[Renewal]:
    for renewal in renewals(held, clock):
        yield _RenewalFromItsAnswer(renewal._span, renewal._leases, clock)


def _in_their_order(compensations: Compensations) -> list[Any]:
    return compensations.registered


_on_end = Runs._on_end


def _keep_the_slot(runs: Runs, task: Any) -> None:
    run = runs._by_task[task]
    _on_end(runs, task)
    runs._by_task[task] = run


async def _without_end(deadline: Deadline, task: asyncio.Task[Any]) -> None:
    await asyncio.wait({task})


async def _without_limit(
    limit: timedelta, workflow_id: str, step_id: str, calling: Awaitable[Any]
) -> Any:
    return await calling


def _tried_for_ever(retry: Retry, number: int, error: Exception) -> timedelta:
    return retry.delay(number)


_pause_after = Policy.pause_after


def _always_the_first_pause(policy: Policy, failures: int) -> timedelta:
    return _pause_after(policy, 1)


async def _created_at_once(store: MemoryStore, session: MemorySession, new: NewWorkflow) -> bool:
    return await store.create(new)


_control_in_store = MemoryStore.control


async def _controlled_at_once(store: MemoryStore, session: MemorySession, *order: Any) -> None:
    await _control_in_store(store, *order)


async def _all_new(store: MemoryStore, new: Sequence[NewWorkflow]) -> list[bool]:
    return [await store.create(workflow) or True for workflow in new]


async def _expire_everything(expiry: Expiry) -> None:
    now = expiry._clock.now()
    await expiry._store.prune(now, ENDED, AT_ONCE, now)


_deliver = machine.deliver


def _count_only(workflow: Workflow, names: Collection[str], now: datetime) -> Workflow:
    return change.deliver(len(names)).apply(workflow)


def _wake_unless_paused(workflow: Workflow, names: Collection[str], now: datetime) -> Workflow:
    is_paused = workflow.status is Status.PAUSED
    return (_count_only if is_paused else _deliver)(workflow, names, now)


def _count_unless_running(workflow: Workflow, names: Collection[str], now: datetime) -> Workflow:
    return workflow if workflow.status is Status.RUNNING else _deliver(workflow, names, now)


async def _park_anyhow(
    store: MemoryStore, claim: Claim, wake_up_at: datetime, names: Collection[str], *_: Any
) -> None:
    store._workflows.end(claim, change.wait(wake_up_at, tuple(names)))


_park = Journal.park


async def _park_for_ever(
    journal: Journal, wake_up_at: datetime, names: tuple[str, ...] = (), mail: int = 0
) -> None:
    await _park(journal, message_wait.FOREVER if names else wake_up_at, names, mail)


_parking = Operations.parking


def _parked_amid_a_step(operations: Operations) -> Park | Release | None:
    pending = operations._pending
    operations._pending = {op: None for op in pending if op.may_be_parked}
    parking = _parking(operations)
    operations._pending = pending
    return parking


def _parked_for_the_first(operations: Operations) -> Park | Release | None:
    parking = _parking(operations)
    return replace(parking, names=parking.names[:1]) if isinstance(parking, Park) else parking


_until = message_wait._until


async def _until_anew(frame: Frame, *asked: Any) -> datetime:
    limit = asked[-1]
    if not limit.timeout:
        return await _until(frame, *asked)
    until: datetime = frame.journal.clock.now() + limit.timeout
    return until


_take = Mailbox.take


def _look_only(mailbox: Mailbox, names: Collection[str]) -> NewMessage | None:
    if (message := _take(mailbox, names)) is not None:
        mailbox._unread[message.name].appendleft((0, message))
    return message


def _take_newest(mailbox: Mailbox, names: Collection[str]) -> NewMessage | None:
    for unread in mailbox._unread.values():
        unread.reverse()
    message = _take(mailbox, names)
    for unread in mailbox._unread.values():
        unread.reverse()
    return message


def _add_again(mailbox: Mailbox, message: NewMessage) -> bool:
    mailbox._messages.pop(message.message_id, None)
    return _add(mailbox, message)


_add = Mailbox.add
_receive = Record.receive


def _receive_unrecorded(
    record: Record,
    claim: Claim,
    step_id: str,
    names: Collection[str],
    now: datetime,
    *,
    give_up: bool,
) -> Step | NoMessage:
    found = _receive(record, claim, step_id, names, now, give_up=give_up)
    if isinstance(found, Step) and found.receipt is not None and not found.receipt.timed_out:
        record.steps.pop(step_id, None)
        record.recorded.pop((Step, step_id), None)
    return found


def _time_out_at_last(
    record: Record,
    claim: Claim,
    step_id: str,
    names: Collection[str],
    now: datetime,
    *,
    give_up: bool,
) -> Step | NoMessage:
    if give_up and step_id in record.steps:
        record.steps[step_id] = received(claim, step_id, None, now)
    return _receive(record, claim, step_id, names, now, give_up=give_up)


def _time_out_without_a_look(
    record: Record,
    claim: Claim,
    step_id: str,
    names: Collection[str],
    now: datetime,
    *,
    give_up: bool,
) -> Step | NoMessage:
    looked_for = () if give_up else names
    return _receive(record, claim, step_id, looked_for, now, give_up=give_up)


async def _sent_at_once(store: MemoryStore, session: MemorySession, message: NewMessage) -> bool:
    return store._workflows.send(message)


@dataclass(frozen=True, slots=True)
class Mutation:
    """A guard that is taken away."""

    seeds: int
    """How many seeds, from 0 on, it took to notice that when they were last counted."""

    changes: list[tuple[Any, str, Any]]
    """What is replaced by what."""


MUTATIONS: dict[str, Mutation] = {
    "any claim moves a workflow": Mutation(1, [(machine, "in_force", _any_claim)]),
    "the last writer of a step wins": Mutation(18, [(MemoryStore, "save_step", _last_writer_wins)]),
    "the winner of a step is not adopted": Mutation(18, [(MemoryStore, "save_step", _own_output)]),
    "nothing wakes workers for what falls due": Mutation(4, [(Hints, "due", lambda *_: None)]),
    "leases are not renewed": Mutation(6, [(Leases, "renew", _nothing)]),
    "histories are empty": Mutation(10, [(MemoryStore, "history", _no_history)]),
    "a run is parked though a step is in flight": Mutation(
        27, [(Operations, "parking", _parked_amid_a_step)]
    ),
    "slots are leaked": Mutation(1, [(Runs, "_on_end", _keep_the_slot)]),
    "a lease counts from the answer to its claim": Mutation(
        1, [(Claiming, "_new_run", _from_the_answer_to_its_claim)]
    ),
    "a lease counts from the answer to its renewal": Mutation(
        1, [(leases, "renewals", _from_their_answers)]
    ),
    "a lease counts from the answer to the renewal after a transaction": Mutation(
        10, [(commit, "renewals", _from_their_answers)]
    ),
    "a run goes on after its lease": Mutation(
        5, [(Lease, "error", None), (Leases, "expire", _nothing)]
    ),
    "control is obeyed in any state": Mutation(1, [(machine, "control", _from_anywhere)]),
    "workers do not hear that claims are taken from them": Mutation(
        235, [(Leases, "watch_control", _nothing)]
    ),
    "failed attempts are not recorded": Mutation(1, [(MemoryStore, "save_attempt", _unrecorded)]),
    "a pause between attempts is not kept": Mutation(2, [(Attempts, "next_at", None)]),
    "what is given up is tried again": Mutation(
        1,
        [
            (MemoryStore, "fail_step", _nothing),
            (MemoryStore, "save_attempt", _unrecorded),
        ],
    ),
    "what a policy gives up on is tried again": Mutation(
        1, [(Retry, "pause_after", _tried_for_ever)]
    ),
    "pauses after failures do not grow": Mutation(
        93, [(Policy, "pause_after", _always_the_first_pause)]
    ),
    "a workflow that has aborted is tried again": Mutation(
        3, [(outcome, "is_abort", lambda _: False)]
    ),
    "an abort is an attempt like any other": Mutation(3, [(step, "is_abort", lambda _: False)]),
    "start_many takes each for new": Mutation(6, [(MemoryStore, "create_many", _all_new)]),
    "a strict start takes anything for the same": Mutation(
        1, [(Starting, "_check_same", _nothing)]
    ),
    "a start does not wait for its transaction": Mutation(
        1, [(MemoryStore, "create_in", _created_at_once)]
    ),
    "a cancellation does not wait for its transaction": Mutation(
        13, [(MemoryStore, "control_in", _controlled_at_once)]
    ),
    "what a transaction has written stays": Mutation(1, [(MemorySession, "roll_back", _end)]),
    "a fork has nothing of what was recorded": Mutation(23, [(MemoryStore, "fork", _bare_fork)]),
    "what is to begin later begins at once": Mutation(1, [(machine, "create", _due_at_once)]),
    "a handler goes on after its deadline": Mutation(149, [(Deadline, "wait_for", _without_end)]),
    "steps are not cut": Mutation(2, [(step, "in_time", _without_limit)]),
    "what has ended expires at once": Mutation(5, [(Expiry, "_expire", _expire_everything)]),
    "nothing expires": Mutation(169, [(Expiry, "_expire", _nothing)]),
    "nothing is compensated": Mutation(1, [(CompensationCall, "_carry_out", _nothing)]),
    "what is compensated is compensated again": Mutation(
        27, [(CompensationCall, "_is_settled", lambda *_: False)]
    ),
    "the first compensation comes first": Mutation(
        1, [(Compensations, "last_first", _in_their_order)]
    ),
    "a cancelled workflow compensates nothing": Mutation(
        1, [(machine, "promise", lambda workflow: workflow)]
    ),
    "a decision to leave is forgotten": Mutation(1, [(Exit, "decide", lambda *_: None)]),
    "a message wakes nobody": Mutation(1, [(machine, "deliver", _count_only)]),
    "a message wakes nobody who is paused": Mutation(
        185, [(machine, "deliver", _wake_unless_paused)]
    ),
    "a message to a running workflow is not counted": Mutation(
        34, [(machine, "deliver", _count_unless_running)]
    ),
    "a workflow is parked whatever has come meanwhile": Mutation(
        34, [(MemoryStore, "park_until_message", _park_anyhow)]
    ),
    "branches are parked for the message of the first": Mutation(
        1, [(Operations, "parking", _parked_for_the_first)]
    ),
    "a timeout begins anew in each run": Mutation(18, [(message_wait, "_until", _until_anew)]),
    "a workflow that waits is parked for ever": Mutation(94, [(Journal, "park", _park_for_ever)]),
    "a run that waits does not hear of messages": Mutation(
        57, [(Hints, "delivered", lambda *_: None)]
    ),
    "what is received stays in the mailbox": Mutation(1, [(Mailbox, "take", _look_only)]),
    "what is received is not recorded": Mutation(1, [(Record, "receive", _receive_unrecorded)]),
    "the newest message comes first": Mutation(6, [(Mailbox, "take", _take_newest)]),
    "a timeout overwrites what was received": Mutation(
        251, [(Record, "receive", _time_out_at_last)]
    ),
    "a timeout does not look for a message": Mutation(
        8, [(Record, "receive", _time_out_without_a_look)]
    ),
    "a message that is sent again is another one": Mutation(1, [(Mailbox, "add", _add_again)]),
    "a message does not wait for its transaction": Mutation(
        1, [(MemoryStore, "send_in", _sent_at_once)]
    ),
}


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

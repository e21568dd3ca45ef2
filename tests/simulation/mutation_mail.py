"""Guards of messages taken away; see `mutation`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from bluestreak_core import (
    Claim,
    Step,
    Workflow,
    machine,
)
from bluestreak_core.machine import change
from bluestreak_core.model import NewMessage, NoMessage, Status
from bluestreak_core.run.exit import Park, Release
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.operations import Operations
from bluestreak_core.run.verb import message_wait
from bluestreak_core.store.hints import Hints
from bluestreak_memory import MemorySession, MemoryStore
from bluestreak_memory.mailbox import Mailbox
from bluestreak_memory.record import Record, received
from tests.simulation.guard import Mutation

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


MAIL: dict[str, Mutation] = {
    "a message wakes nobody": Mutation(1, [(machine, "deliver", _count_only)]),
    "a message wakes nobody who is paused": Mutation(
        31, [(machine, "deliver", _wake_unless_paused)]
    ),
    "a message to a running workflow is not counted": Mutation(
        20, [(machine, "deliver", _count_unless_running)]
    ),
    "a workflow is parked whatever has come meanwhile": Mutation(
        20, [(MemoryStore, "park_until_message", _park_anyhow)]
    ),
    "branches are parked for the message of the first": Mutation(
        1, [(Operations, "parking", _parked_for_the_first)]
    ),
    "a timeout begins anew in each run": Mutation(10, [(message_wait, "_until", _until_anew)]),
    "a workflow that waits is parked for ever": Mutation(142, [(Journal, "park", _park_for_ever)]),
    "a run that waits does not hear of messages": Mutation(
        75, [(Hints, "delivered", lambda *_: None)]
    ),
    "what is received stays in the mailbox": Mutation(1, [(Mailbox, "take", _look_only)]),
    "what is received is not recorded": Mutation(1, [(Record, "receive", _receive_unrecorded)]),
    "the newest message comes first": Mutation(2, [(Mailbox, "take", _take_newest)]),
    "a timeout overwrites what was received": Mutation(
        574, [(Record, "receive", _time_out_at_last)]
    ),
    "a timeout does not look for a message": Mutation(
        12, [(Record, "receive", _time_out_without_a_look)]
    ),
    "a message that is sent again is another one": Mutation(1, [(Mailbox, "add", _add_again)]),
    "a message does not wait for its transaction": Mutation(
        1, [(MemoryStore, "send_in", _sent_at_once)]
    ),
}

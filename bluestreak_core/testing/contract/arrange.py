"""The starting points of the contracts: instants, workflows, and claims on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from bluestreak_core import machine
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    ErrorRecord,
    Failure,
    NewMessage,
    NewWorkflow,
    NoMessage,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.store import Store, SupportsMessages

T = TypeVar("T")

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MS = timedelta(milliseconds=1)
LEASE = 10 * SECOND
ERROR = ErrorRecord(type="ValueError", message="no such card", traceback="Traceback: ...")
LONG = timedelta(hours=1)
"""The time-out of a wait that an event ends."""
ENDINGS = [
    event
    for event in machine.TRANSITIONS[Status.RUNNING]
    if event not in (Transition.CLAIM, Transition.RESTART, *machine.CONTROL)
]
"""The events by which the holder of a claim ends it, in every store."""
PAID, REFUSED = NAMES = ("paid", "refused")
"""The names of the messages that a workflow waits for."""


class Messaging(Store, SupportsMessages, Protocol):
    """A store that keeps mailboxes."""


def new(
    workflow_id: str, handler_id: str = "h", input: Any = None, created_at: datetime = NOW
) -> NewWorkflow:
    """A workflow to create."""
    return NewWorkflow(
        workflow_id=workflow_id, handler_id=handler_id, input=input, created_at=created_at
    )


def failure(retry_at: datetime | None) -> Failure:
    """A failure by `ERROR`; without an instant, a final one."""
    return Failure(error=ERROR, retry_at=retry_at)


async def found(store: Store, workflow_id: str) -> Workflow:
    """An existing workflow, as it is stored."""
    workflow = await store.find_workflow(workflow_id)
    assert workflow is not None
    return workflow


async def claimed(store: Store, workflow_id: str, input: Any = None) -> Claim:
    """A claim made at NOW, with nothing else due."""
    await store.create(new(workflow_id, input=input))
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    assert [claim.workflow_id for claim in claims] == [workflow_id]
    return claims[0]


async def superseded(store: Store, workflow_id: str) -> tuple[Claim, Claim]:
    """A stale claim, and its successor: another worker's, made after the lease had run out."""
    stale = await claimed(store, workflow_id)
    (owner,) = await store.claim(
        ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=1)
    )
    return stale, owner


async def gather(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """The results of concurrent calls."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def end(store: Store, claim: Claim, event: Transition) -> None:
    """End a claim by one of `ENDINGS`, always at the same instants."""
    match event:
        case Transition.PARK:
            await store.park(claim, NOW + 3 * SECOND)
        case Transition.RELEASE:
            await store.release(claim, NOW + 3 * SECOND)
        case Transition.FINISH:
            await store.finish(claim, "result", NOW + 3 * SECOND)
        case Transition.FAIL:
            await store.fail(claim, failure(NOW + 4 * SECOND), NOW + 3 * SECOND)
        case Transition.ABORT:
            await store.fail(claim, failure(None), NOW + 3 * SECOND)
        case _:
            raise AssertionError(f"{event} does not end a claim")


def ended(workflow: Workflow, event: Transition) -> Workflow:
    """A workflow whose claim is in force, after `end`."""
    match event:
        case Transition.PARK:
            return machine.park(workflow, NOW + 3 * SECOND)
        case Transition.RELEASE:
            return machine.release(workflow, NOW + 3 * SECOND)
        case Transition.FINISH:
            return machine.finish(workflow, "result", NOW + 3 * SECOND)
        case Transition.FAIL:
            return machine.fail(workflow, failure(NOW + 4 * SECOND), NOW + 3 * SECOND)
        case Transition.ABORT:
            return machine.fail(workflow, failure(None), NOW + 3 * SECOND)
    raise AssertionError(f"{event} does not end a claim")


def attempt(number: int, step_id: str = "s") -> Attempt:
    """A failed attempt of a step of workflow "w"."""
    return Attempt(
        workflow_id="w",
        step_id=step_id,
        round=0,
        number=number,
        error=ERROR,
        retry_at=NOW + number * SECOND,
        saved_at=NOW,
    )


@asynccontextmanager
async def begun(call: Any, turns: int = 20) -> AsyncIterator[asyncio.Task[Any]]:
    """A call that is under way, for so many turns of the loop."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def let_others_run() -> None:
    """Let everything in progress take some turns of the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


async def one_of_each(store: Store) -> list[Workflow]:
    """A workflow in each status, and two more; some of them are created at the same instant."""
    names = [f"w{number}" for number in range(len(Status) + 1)] + ["v"]
    for number, name in enumerate(names):
        created_at = NOW + number // 2 * SECOND
        await store.create(new(name, handler_id=f"h{number % 2}", created_at=created_at))
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW + LEASE, lease=LEASE, limit=4))
    by_name = {claim.workflow_id: claim for claim in claims}
    later = NOW + LEASE + SECOND
    await store.finish(by_name["w0"], "done", later)
    await store.fail(by_name["w1"], Failure(error=ERROR, retry_at=None), later)
    await store.fail(by_name["w2"], Failure(error=ERROR, retry_at=later + LEASE), later)
    await store.control("w5", Transition.CANCEL, later, "no more")
    await store.control("w6", Transition.PAUSE, later)
    workflows = [await found(store, name) for name in names]
    assert {workflow.status for workflow in workflows} == set(Status)
    return workflows


# Messages ---------------------------------------------------------------------------------------


def message(
    message_id: str = "m",
    name: str = PAID,
    payload: Any = None,
    *,
    to: str = "w",
    sent_at: datetime = NOW,
) -> NewMessage:
    """A message to send."""
    return NewMessage(
        workflow_id=to, message_id=message_id, name=name, payload=payload, sent_at=sent_at
    )


async def claims_at(store: Store, now: datetime) -> list[Claim]:
    """Claims on all that is due at an instant."""
    return list(await store.claim(ClaimRequest(worker="worker", now=now, lease=LEASE, limit=10)))


async def waiting(store: Messaging, workflow_id: str, until: datetime = NOW + LEASE) -> Claim:
    """The claim on a workflow that it has just parked until a message of `NAMES` comes."""
    claim = await claimed(store, workflow_id)
    await store.park_until_message(claim, until, NAMES, 0, NOW)
    return claim


async def looked(store: Messaging, claim: Claim, step_id: str, *names: str) -> Step | NoMessage:
    """What a receive has got that does not give up, of `PAID` unless there are other names."""
    return await store.receive(claim, step_id, names or (PAID,), NOW, give_up=False)


async def received(store: Messaging, claim: Claim, step_id: str, *names: str) -> Step:
    """The step that has received a message, which must be there."""
    step = await looked(store, claim, step_id, *names)
    assert isinstance(step, Step), f"{step_id!r} has received nothing"
    return step


async def all_received(store: Messaging, claim: Claim, *names: str) -> list[str]:
    """The ids of the messages of these names, each received by a step."""
    message_ids: list[str] = []
    while len(message_ids) < 20:
        step = await looked(store, claim, f"{names} {len(message_ids)}", *names)
        if isinstance(step, NoMessage):
            break
        message_ids.append(id_of(step))
    return message_ids


def id_of(step: Step) -> str:
    """The id of the message that a step has received."""
    assert step.receipt is not None
    assert step.receipt.message_id is not None
    return step.receipt.message_id


def ids_of(messages: Iterable[NewMessage]) -> list[str]:
    """The ids of messages."""
    return [message.message_id for message in messages]

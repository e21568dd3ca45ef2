"""What the clients of a simulation do: they start, fork, wait, and give orders from outside."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import cycle
from typing import assert_never

from bluestreak_core import (
    Bluestreak,
    CallbackExpired,
    InvalidToken,
    StepNotRecorded,
    StoreUnavailable,
    TransitionRefused,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowConflict,
    WorkflowEnded,
    WorkflowNotFound,
)
from bluestreak_core import Start as NewStart
from bluestreak_core.concurrency import first_of, wait_ended
from bluestreak_core.machine import Transition
from tests.simulation import branch_invariant
from tests.simulation import fleet_invariant as invariant
from tests.simulation.mail import Postman
from tests.simulation.record import Handed
from tests.simulation.scenario import (
    CALM_AFTER,
    Fork,
    Kind,
    Letter,
    Order,
    Post,
    Sender,
    Start,
    Way,
    flat,
)
from tests.simulation.setting import TRY_AGAIN, RollBack, Setting


class Clients:
    """Each call is a client of its own."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._record = setting.record
        self._released = asyncio.Event()

    async def _engine(self) -> Bluestreak:
        engine = Bluestreak(self._setting.network())
        await engine.init()
        return engine

    # Starting ------------------------------------------------------------------------------------

    async def start(self, start: Start) -> None:
        """Start a workflow, until it is known to exist, and wait for its end."""
        engine = await self._engine()
        await asyncio.sleep(start.at)
        while True:
            with suppress(StoreUnavailable):
                await self._start(engine, start)
                break
            await asyncio.sleep(TRY_AGAIN)
        self._record.accepted.update(start.workflow_ids)
        if start.is_strict:
            await self._start_another(engine, start)
        await asyncio.gather(
            *(self._wait(engine, workflow_id) for workflow_id in start.workflow_ids)
        )

    async def _start(self, engine: Bluestreak, start: Start) -> None:
        workflow_id, handler, delay = start.workflow_id, start.handler_id, start.delay
        match start.way:
            case Way.DELAY:
                strict = start.is_strict
                await engine.start(workflow_id, handler, workflow_id, delay=delay, strict=strict)
            case Way.AT:
                at = self._record.began_at + timedelta(seconds=start.at + delay)
                strict = start.is_strict
                await engine.start(workflow_id, handler, workflow_id, at=at, strict=strict)
            case Way.MANY:
                ids = (*start.workflow_ids, workflow_id)
                new = await engine.start_many(
                    NewStart(new_id, handler, new_id, delay=delay) for new_id in ids
                )
                invariant.ids_are_new_once_in_a_batch(self._record, workflow_id, again=new[-1])
            case Way.ROLLED_BACK:
                await self._place(engine, start, commits=False)
                await self._place(engine, start, commits=True)
            case Way.SESSION:
                await self._place(engine, start, commits=True)
            case _:
                assert_never(start.way)

    async def _place(self, engine: Bluestreak, start: Start, *, commits: bool) -> None:
        """Start a workflow in one transaction with what belongs to it, or do neither."""
        workflow_id, handler = start.workflow_id, start.handler_id
        is_first = start.copies == 1 and workflow_id not in self._record.created
        with suppress(RollBack):
            async with self._setting.memory.transaction() as session:
                strict, delay = start.is_strict, start.delay
                if await engine.start(
                    workflow_id, handler, workflow_id, delay=delay, strict=strict, session=session
                ):
                    session.set(self._record.placed, workflow_id, value=True)
                if not commits:
                    raise RollBack
        invariant.transactions_are_whole(self._record, start, is_first=is_first, commits=commits)

    async def _start_another(self, engine: Bluestreak, start: Start) -> None:
        """Try to start something else of the same id, strictly and in vain."""
        workflow_id, start_it = start.workflow_id, partial(engine.start, start.workflow_id)
        has_another_input = any(operation.kind is Kind.RESTART for operation in start.operations)
        if workflow_id in self._record.expired or has_another_input:
            return
        with suppress(StoreUnavailable, WorkflowConflict):
            if start.way in (Way.SESSION, Way.ROLLED_BACK):
                async with self._setting.memory.transaction() as session:
                    await start_it(start.handler_id, "another", strict=True, session=session)
            else:
                await start_it(start.handler_id, "another", strict=True)
            invariant.strict_starts_refuse_another_input(self._record, workflow_id)

    async def fork(self, fork: Fork) -> None:
        """Fork a workflow, until that is known to be done or refused, and wait for its end."""
        engine = await self._engine()
        await asyncio.sleep(fork.at)
        while True:
            try:
                await engine.fork(fork.workflow_id, fork.new_id, fork.before)
                break
            except StoreUnavailable:
                await asyncio.sleep(TRY_AGAIN)
            except (WorkflowNotFound, StepNotRecorded, TransitionRefused):
                return
        await self._wait(engine, fork.new_id)

    async def _wait(self, engine: Bluestreak, workflow_id: str) -> None:
        """Wait for the end of what was accepted, unless it is cancelled or given up for good."""
        self._record.accepted.add(workflow_id)
        while True:
            try:
                result = await engine.wait(workflow_id, retries=100, pause_interval=60)
            except StoreUnavailable:
                await asyncio.sleep(TRY_AGAIN)
            except (WorkflowCancelled, WorkflowAborted):
                if self._released.is_set():
                    return
                await self._released.wait()
            except WorkflowNotFound:
                invariant.accepted_workflows_end(self._record, workflow_id, None)
                return
            else:
                invariant.clients_see_the_stored_outputs(self._record, workflow_id, result)
                return

    # Messages ------------------------------------------------------------------------------------

    async def send(self, sender: Sender, copy: int) -> None:
        """Send all letters of a sender in a process of its own, which may die meanwhile."""
        process = self._setting.process(f"{sender.id} {copy}")
        postman = Postman(self._setting, sender)
        sending = process.spawn(postman.send_all())
        if sender.dies_at is None:
            await sending
        else:
            await first_of(wait_ended(sending), postman.until_call(sender.dies_at))
            process.kill()

    # Callbacks -----------------------------------------------------------------------------------

    async def answer_all(self) -> None:
        """Answer all callbacks, each as its plan has it, and once more when all is released."""
        handed, done = self._record.handed, 0
        async with asyncio.TaskGroup() as answering:
            while True:
                seen = self._record.handed_over_a_token.count
                for one in handed[done:]:
                    for place, seconds in enumerate(one.operation.answers):
                        answering.create_task(self._answer(one, place, seconds))
                done = len(handed)
                await self._record.handed_over_a_token.wait(seen)

    async def _answer(self, handed: Handed, place: int, seconds: float) -> None:
        """Answer a callback in a process of its own, which dies amid that unless it is the last."""
        await asyncio.sleep(seconds)
        process = self._setting.process(f"answer {place} to {handed.workflow_id}")
        network = self._setting.network()
        answering = process.spawn(self._resolve(Bluestreak(network), handed, place))
        if place < len(handed.operation.answers) - 1:
            while not answering.done() and network.calls.count < 2 + place:
                await first_of(wait_ended(answering), network.calls.wait(network.calls.count))
            process.kill()
        else:
            await answering

    async def _resolve(self, engine: Bluestreak, handed: Handed, place: int) -> None:
        workflow_id, step_id = handed.workflow_id, handed.operation.id
        given = f"answer {len(self._record.handed)} {place}"
        await engine.init()
        while True:
            try:
                if place % 2:
                    told = await engine.resolve(handed.token, error=given)
                else:
                    told = await engine.resolve(handed.token, given)
            except StoreUnavailable:
                await asyncio.sleep(TRY_AGAIN)
            except (InvalidToken, WorkflowEnded):
                return
            except CallbackExpired:
                answer = handed.operation.timed_out
                break
            else:
                answer = told.payload if told.error is None else f"error {told.error}"
                break
        self._record.note(f"{workflow_id} {step_id}: {given} was told {answer}")
        branch_invariant.callbacks_have_one_answer(self._record, workflow_id, step_id, answer)

    # Orders --------------------------------------------------------------------------------------

    async def give(self, order: Order) -> None:
        """Do something to a workflow from outside, and care no further."""
        engine = await self._engine()
        await asyncio.sleep(order.at)
        with suppress(StoreUnavailable, TransitionRefused, WorkflowNotFound):
            if order.commits is None:
                await self._order(engine, order.event, order.workflow_id)
            else:
                await self._cancel(engine, order)

    async def _cancel(self, engine: Bluestreak, order: Order) -> None:
        """Cancel a workflow in a transaction, which is committed or not."""
        reason = "ordered" if order.commits else invariant.ROLLED_BACK
        with suppress(RollBack):
            async with self._setting.memory.transaction() as session:
                await engine.cancel(order.workflow_id, reason, session=session)
                if not order.commits:
                    raise RollBack

    async def _order(self, engine: Bluestreak, event: Transition, workflow_id: str) -> None:
        match event:
            case Transition.CANCEL:
                await engine.cancel(workflow_id, "ordered")
            case Transition.PAUSE:
                await engine.pause(workflow_id)
            case Transition.RESUME:
                await engine.resume(workflow_id)
            case _:
                await engine.retry(workflow_id)

    async def release(self) -> None:
        """When no order can be on its way any more, let what is held up come to its end."""
        engine = await self._engine()
        await asyncio.sleep(CALM_AFTER)
        retries = self._setting.scenario.retries
        last = [Transition.RESUME, Transition.RETRY] if retries else [Transition.RESUME]
        for workflow_id in sorted(self._record.created):
            for event in last:
                with suppress(TransitionRefused, WorkflowNotFound):
                    await self._order(engine, event, workflow_id)
        self._record.handed.extend(tuple(self._record.handed))
        self._record.handed_over_a_token.notify()
        created = sorted(self._record.created)
        await asyncio.gather(*(self._post_last(workflow_id) for workflow_id in created))
        self._released.set()

    async def _post_last(self, workflow_id: str) -> None:
        """Send a workflow as much as it can receive, what it asks for last first."""
        plan = self._record.plans[workflow_id]
        names = [name for operation in flat(plan) for name in operation.names]
        last = Sender(
            id="last",
            at=0.0,
            workflow_id=workflow_id,
            letters=tuple(
                Letter(name=name, pause=pause, post=Post.ONCE, amid=None)
                for name, pause in zip(reversed(names), cycle((1.0, 10.0)), strict=False)
            ),
            copies=1,
            is_patient=True,
            dies_at=None,
        )
        await Postman(self._setting, last).send_all()

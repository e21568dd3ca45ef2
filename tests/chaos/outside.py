"""What is done to workflows from outside while everything around breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from bluestreak_core import (
    Bluestreak,
    StoreUnavailable,
    TransitionRefused,
    WaitTimeout,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowEnded,
    WorkflowNotFound,
)
from tests.chaos.evidence import Sent, Start
from tests.chaos.workload import LETTER, LETTERS, Fate, Order

T = TypeVar("T")

_TRY_AGAIN = 0.2  # seconds
_BEFORE_AN_ACT = (0.0, 1.5)
_PAUSED_FOR = (1.0, 6.0)
_BETWEEN_LETTERS = (0.0, 3.0)
_SENT_TWICE = 0.3
"""The share of messages that are sent once more although the first call was answered."""
_GONE = (WorkflowCancelled, WorkflowNotFound)
"""What comes of a workflow that is cancelled and pruned meanwhile."""


async def answered(call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
    """Repeat a call until it is answered: the answer, and whether it was repeated."""
    asked_again = False
    while True:
        try:
            return await call(), asked_again
        except (StoreUnavailable, WaitTimeout):
            asked_again = True
            await asyncio.sleep(_TRY_AGAIN)


class Outside:
    """Cancels, pauses, retries and forks workflows, and sends them messages."""

    def __init__(self, bluestreak: Bluestreak) -> None:
        self.cancelled: set[str] = set()
        """The workflows that an answer has said to be cancelled."""
        self.sent: list[Sent] = []
        self.forks: list[Start] = []
        self._bluestreak = bluestreak

    async def act(self, order: Order, choice: random.Random) -> None:
        """Do to a workflow what it needs, and what its fate is."""
        async with asyncio.TaskGroup() as acts:
            if order.plan.receives:
                acts.create_task(self._send(order, choice))
            if order.plan.gives_up:
                acts.create_task(self._retry(order))
            match order.fate:
                case Fate.CANCELLED:
                    acts.create_task(self._cancel(order, choice))
                case Fate.PAUSED:
                    acts.create_task(self._pause(order, choice))
                case Fate.FORKED:
                    acts.create_task(self._fork(order, choice))
                case Fate.LEFT_ALONE:
                    pass

    async def _cancel(self, order: Order, choice: random.Random) -> None:
        await asyncio.sleep(choice.uniform(*_BEFORE_AN_ACT))
        call = partial(self._bluestreak.cancel, order.workflow_id, "it was its fate")
        with suppress(WorkflowNotFound):  # an earlier call has cancelled it
            is_cancelled, _ = await answered(call)
            if is_cancelled:
                self.cancelled.add(order.workflow_id)

    async def _pause(self, order: Order, choice: random.Random) -> None:
        await asyncio.sleep(choice.uniform(*_BEFORE_AN_ACT))
        with suppress(TransitionRefused):  # it has ended, or an earlier call has paused it
            await answered(partial(self._bluestreak.pause, order.workflow_id))
        await asyncio.sleep(choice.uniform(*_PAUSED_FOR))
        with suppress(TransitionRefused):  # it was not paused, or an earlier call has resumed it
            await answered(partial(self._bluestreak.resume, order.workflow_id))

    async def _retry(self, order: Order) -> None:
        try:
            await answered(partial(self._bluestreak.wait, order.workflow_id))
        except WorkflowAborted:
            with suppress(TransitionRefused):  # an earlier call has done it
                await answered(partial(self._bluestreak.retry, order.workflow_id))
        except _GONE:
            pass

    async def _fork(self, order: Order, choice: random.Random) -> None:
        await answered(partial(self._bluestreak.wait, order.workflow_id))
        before = choice.choice([*sorted(order.plan.steps), None])
        fork = order.fork(before)
        call = partial(self._bluestreak.fork, order.workflow_id, fork.workflow_id, before)
        start = Start(order=fork, accepted=None)
        try:
            accepted, asked_again = await answered(call)
            start = Start(order=fork, accepted=accepted, asked_again=asked_again)
        finally:
            self.forks.append(start)

    async def _send(self, order: Order, choice: random.Random) -> None:
        """Send letters one after the other, each until it is answered, some of them twice."""
        for number in range(LETTERS):
            await asyncio.sleep(choice.uniform(*_BETWEEN_LETTERS))
            message_id = f"{order.workflow_id}/{number}"
            await self._send_one(order.workflow_id, message_id)
            if choice.random() < _SENT_TWICE:
                await self._send_one(order.workflow_id, message_id)

    async def _send_one(self, workflow_id: str, message_id: str) -> None:
        send = self._bluestreak.send
        letter = {"token": message_id}
        call = partial(send, workflow_id, LETTER, letter, message_id=message_id)
        is_new = None
        with suppress(WorkflowEnded, WorkflowNotFound):
            is_new, _ = await answered(call)
        self.sent.append(
            Sent(
                workflow_id=workflow_id,
                message_id=message_id,
                is_new=is_new,
                answered_at=datetime.now(UTC),
            )
        )

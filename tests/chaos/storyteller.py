"""Starts stories while everything around breaks, cancels some, and answers what they ask."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from uuid import uuid4

from pymongo import AsyncMongoClient

from bluestreak_core import Bluestreak, WorkflowNotFound
from tests.chaos.errands import Errands
from tests.chaos.ledger import COLLECTION, DATABASE, Document, to_call
from tests.chaos.outside import answered
from tests.chaos.stories import ASK, Answer, Kind, Story, story

_BEFORE_A_CANCELLATION = (0.0, 2.5)  # seconds
_LOOK_AGAIN = 0.3  # seconds
_ANSWERS = 2
"""Each token is answered so often, each time otherwise."""


class Storyteller:
    """A client of the workers; the ledger tells it the tokens that they have handed over."""

    def __init__(self, bluestreak: Bluestreak, ledger_url: str, seed: int) -> None:
        self.stories: dict[str, Story] = {}
        """By their ids."""
        self.answers: list[Answer] = []
        self.complaints: list[str] = []
        self._bluestreak = bluestreak
        self._ledger_url = ledger_url
        self._seed = seed
        self._errands = Errands("storyteller", self.complaints)

    async def tell(self, rate: float) -> None:
        """Start so many stories a second, until cancelled."""
        choice = random.Random(f"{self._seed}/stories")
        number = 0
        while True:
            self._errands.begin(self._follow(story(number, choice)))
            number += 1
            await asyncio.sleep(1 / rate)

    async def end(self, patience: float) -> None:
        """Return when all that was begun is over, or is broken off so many seconds later."""
        await self._errands.end(patience)

    async def _follow(self, told: Story) -> None:
        choice = random.Random(f"{self._seed}/{told.workflow_id}")
        self.stories[told.workflow_id] = told
        start = partial(self._bluestreak.start, told.workflow_id, told.kind, told.input)
        await answered(start)
        if told.is_cancelled:
            await asyncio.sleep(choice.uniform(*_BEFORE_A_CANCELLATION))
            with suppress(WorkflowNotFound):  # an earlier call has cancelled it, and it is deleted
                await answered(partial(self._bluestreak.cancel, told.workflow_id, "its fate"))
        if told.kind is Kind.QUESTION:
            await self._answer(told.workflow_id)

    async def _answer(self, workflow_id: str) -> None:
        token = await self._token(workflow_id)
        for _ in range(_ANSWERS):
            given = uuid4().hex
            resolve = partial(self._bluestreak.resolve, token, given)
            resolution, asked_again = await answered(resolve)
            self.answers.append(
                Answer(
                    workflow_id=workflow_id,
                    given=given,
                    holds=resolution.payload,
                    is_first=resolution.is_first,
                    asked_again=asked_again,
                )
            )

    async def _token(self, workflow_id: str) -> str:
        """The first token that it has handed over, once it has."""
        asked = {"workflowId": workflow_id, "stepId": ASK}
        async with AsyncMongoClient[Document](self._ledger_url) as client:
            while True:
                found = await client[DATABASE][COLLECTION].find_one(asked)
                if found is not None:
                    return to_call(found).saw["token"]
                await asyncio.sleep(_LOOK_AGAIN)

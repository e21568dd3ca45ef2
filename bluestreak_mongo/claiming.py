"""Claiming in bulk, without several workers chasing the same few workflows."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from bson.errors import InvalidBSON
from pymongo import ASCENDING, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConnectionFailure, OperationFailure, WriteError

from bluestreak_core import machine
from bluestreak_core.errors import CorruptDocument
from bluestreak_core.model import Claim, Status, Workflow
from bluestreak_mongo import documents as doc
from bluestreak_mongo import transitions
from bluestreak_mongo.documents import Document
from bluestreak_mongo.driver import REFUSALS, is_passing

logger = logging.getLogger(__name__)

_LEFT_ALONE = "%s; it is left alone until its lease ends"

WIDEST = 8
CALM = 8
"""Claims in a row that lose nothing, after which a worker looks at a narrower range again."""

ROUNDS = 4
"""How often a worker that lost everything it tried for looks again at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """What one claim stamps on all that it wins."""

    token: str
    worker: str
    now: datetime
    lease: timedelta

    def stamp(self, *, crashed: bool) -> Document:
        """The update that claims."""
        return transitions.claim(self.token, self.worker, self.now, self.lease, crashed=crashed)

    def claim(self, workflow: Workflow) -> Claim:
        """The claim of a workflow that was stamped as it is here."""
        return Claim(
            token=self.token,
            workflow=machine.claim(workflow, self.token, self.worker, self.now, self.lease),
        )


class Claiming:
    """Finds due workflows, stamps a token on as many as are still due, and tells which those are.

    Workflows that were never claimed are read whole when they are found. If as many were stamped,
    all of them are won as they were, so they cost one read and one write. Otherwise the ones that
    were won are read back.

    A worker that comes away with less than it tried for has met another one. It then looks at a
    wider range of due workflows and tries a random choice of them, until it has won undisturbed for
    a while.
    """

    def __init__(self, workflows: AsyncCollection[Document]) -> None:
        self.was_in_vain = False
        """Whether the last look has found that nothing is due."""
        self._workflows = workflows
        self._width = 1
        self._undisturbed = 0

    async def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        handlers: Collection[str] | None,
    ) -> Sequence[Claim]:
        """See `Store.claim`. Without a rival it is one command where nothing is due, two for
        workflows that were never claimed, and at most four for others.
        """
        for _ in range(ROUNDS):
            attempt = _Attempt(token=uuid4().hex, worker=worker, now=now, lease=lease)
            tried = await self._choose(transitions.due(now, handlers), limit)
            if tried and all(map(_is_new, tried)):
                won = await self._try_for_new(tried, attempt)
            else:
                won = await self._try_for(tried, attempt)
            self._adapt(len(tried), len(won))
            self.was_in_vain = not tried
            if won or not tried:
                return won
        return []

    async def claim_one(
        self, worker: str, now: datetime, lease: timedelta, handlers: Collection[str] | None
    ) -> Sequence[Claim]:
        """Claim a workflow that has become due since a look in vain: one command, the quickest way.

        A lease that has run out meanwhile is left to the next look.
        """
        self.was_in_vain = False
        attempt = _Attempt(token=uuid4().hex, worker=worker, now=now, lease=lease)
        due = transitions.due(now, handlers, machine.waiting())
        due[doc.WORKFLOW_ID] = {"$type": "string"}
        try:
            found = await self._workflows.find_one_and_update(
                due,
                attempt.stamp(crashed=False),
                sort=[(doc.TIMEOUT_AT, ASCENDING)],
                return_document=ReturnDocument.AFTER,
            )
        except InvalidBSON as error:
            logger.error(_LEFT_ALONE, f"a workflow of unknown id: {error}")  # noqa: TRY400
            return []
        except OperationFailure as error:
            if is_passing(error) or error.code in REFUSALS:
                raise
            return []  # it cannot be changed so, and `claim` says which one that is
        workflow = None if found is None else _readable(found)
        return [] if workflow is None else [Claim(token=attempt.token, workflow=workflow)]

    async def _choose(self, due: Document, limit: int) -> list[Document]:
        """Due workflows to try for, the longest due first."""
        width = self._width
        try:
            found = await self._look(due, limit * width, whole=width == 1)
        except InvalidBSON:  # in one of them, which must not keep the others from being run
            found = await self._look(due, limit * width, whole=False)
        if len(found) > limit:
            found = random.sample(found, limit)
        # A foreign document is nobody's workflow.
        return [one for one in found if isinstance(one.get(doc.WORKFLOW_ID), str)]

    async def _look(self, due: Document, limit: int, *, whole: bool) -> list[Document]:
        fields = None if whole else {doc.WORKFLOW_ID: 1, doc.STATUS: 1}
        found = self._workflows.find(due, fields, batch_size=limit)
        return await found.sort(doc.TIMEOUT_AT, ASCENDING).limit(limit).to_list(None)

    async def _try_for_new(self, tried: Sequence[Document], attempt: _Attempt) -> list[Claim]:
        """Claim those that nobody else has claimed meanwhile."""
        still_new = transitions.still_new(_ids(tried), attempt.now)
        if await self._stamp(still_new, attempt, crashed=False) < len(tried):
            return await self._read_back(tried, attempt)
        return [attempt.claim(workflow) for workflow in filter(None, map(_readable, tried))]

    async def _try_for(self, tried: Sequence[Document], attempt: _Attempt) -> list[Claim]:
        """Claim those that are still due, in the state that they were found in."""
        for crashed in (False, True):
            group = [one for one in tried if (one[doc.STATUS] == Status.RUNNING) is crashed]
            if group:
                statuses = {one[doc.STATUS] for one in group}
                still_due = transitions.still_due(statuses, _ids(group), attempt.now)
                await self._stamp(still_due, attempt, crashed=crashed)
        return await self._read_back(tried, attempt)

    async def _stamp(self, target: Document, attempt: _Attempt, *, crashed: bool) -> int:
        """Claim what matches; how many are known to have done so."""
        update = attempt.stamp(crashed=crashed)
        # Without an answer the token may have been stamped all the same: reading back tells.
        try:
            return (await self._workflows.update_many(target, update)).matched_count
        except ConnectionFailure:
            return 0
        except WriteError as error:
            # One of them cannot be changed so, and has kept the rest from being.
            workflow_ids = target[doc.WORKFLOW_ID]["$in"]
            if len(workflow_ids) == 1:
                logger.error("workflow %r cannot be claimed: %s", workflow_ids[0], error)  # noqa: TRY400
                return 0
            for workflow_id in workflow_ids:
                alone = target | {doc.WORKFLOW_ID: {"$in": [workflow_id]}}
                await self._stamp(alone, attempt, crashed=crashed)
            return 0

    async def _read_back(self, tried: Sequence[Document], attempt: _Attempt) -> list[Claim]:
        """The claims that were won, in the order in which they were tried for."""
        if not tried:
            return []
        workflow_ids = _ids(tried)
        try:
            documents = await self._stamped(workflow_ids, attempt.token)
        except InvalidBSON as error:
            if len(workflow_ids) == 1:
                logger.error(_LEFT_ALONE, f"workflow {workflow_ids[0]!r}: {error}")  # noqa: TRY400
                return []
            alone = [await self._read_back([one], attempt) for one in tried]
            return [claim for claims in alone for claim in claims]
        order = {workflow_id: place for place, workflow_id in enumerate(workflow_ids)}
        documents.sort(key=lambda document: order[document[doc.WORKFLOW_ID]])
        workflows = filter(None, map(_readable, documents))
        return [Claim(token=attempt.token, workflow=workflow) for workflow in workflows]

    async def _stamped(self, workflow_ids: list[str], token: str) -> list[Document]:
        stamped = {doc.WORKFLOW_ID: {"$in": workflow_ids}, doc.CLAIM: token}
        return await self._workflows.find(stamped, batch_size=len(workflow_ids) + 1).to_list(None)

    def _adapt(self, tried: int, won: int) -> None:
        self._undisturbed = 0 if won < tried else self._undisturbed + 1
        if won < tried:
            self._width = min(self._width * 2, WIDEST)
        elif self._undisturbed % CALM == 0:
            self._width = max(self._width // 2, 1)


def _ids(documents: Sequence[Document]) -> list[str]:
    return [document[doc.WORKFLOW_ID] for document in documents]


def _is_new(document: Document) -> bool:
    """Whether a workflow was never claimed, and has been read whole."""
    return (
        document[doc.STATUS] == Status.IDLE
        and not document.get(doc.CLAIMS)
        and doc.HANDLER_ID in document
    )


def _readable(document: Document) -> Workflow | None:
    """The workflow, or None: one that cannot be read must not keep the others from being run."""
    try:
        return doc.to_workflow(document)
    except CorruptDocument as error:
        logger.error(_LEFT_ALONE, error)  # noqa: TRY400
        return None

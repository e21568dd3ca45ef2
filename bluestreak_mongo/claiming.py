"""Claiming in bulk, without several workers chasing the same few workflows."""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from pymongo import ASCENDING
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConnectionFailure, WriteError

from bluestreak_core.errors import CorruptDocument
from bluestreak_core.model import Claim, Status, Workflow
from bluestreak_mongo import documents as doc
from bluestreak_mongo import transitions
from bluestreak_mongo.documents import Document

logger = logging.getLogger(__name__)

WIDEST = 8
ROUNDS = 4
"""How often a worker that lost everything it tried for looks again at once."""


class Claiming:
    """Finds due workflows, stamps a token on as many as are still due, and reads those back.

    A worker that comes away with less than it tried for has met another one. It then looks at a
    wider range of due workflows and tries a random choice of them, until it wins undisturbed.
    """

    def __init__(self, workflows: AsyncCollection[Document]) -> None:
        self._workflows = workflows
        self._width = 1

    async def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        handlers: Collection[str] | None,
    ) -> Sequence[Claim]:
        """See `Store.claim`. At most four commands without a rival, one where nothing is due."""
        for _ in range(ROUNDS):
            tried = await self._choose(transitions.due(now, handlers), limit)
            won = await self._try_for(tried, worker, now, lease)
            self._adapt(len(tried), len(won))
            if won or not tried:
                return won
        return []

    async def _try_for(
        self, tried: Sequence[tuple[str, Status]], worker: str, now: datetime, lease: timedelta
    ) -> list[Claim]:
        """Claim those of the workflows that nobody else has claimed meanwhile."""
        token = uuid4().hex
        for crashed in (False, True):
            await self._stamp(
                [found for found in tried if (found[1] is Status.RUNNING) is crashed],
                now,
                transitions.claim(token, worker, now, lease, crashed=crashed),
            )
        return await self._read_back([workflow_id for workflow_id, _ in tried], token)

    async def _choose(self, due: Document, limit: int) -> list[tuple[str, Status]]:
        """Ids and states of due workflows to try for, the longest due first."""
        found = await (
            self._workflows.find(due, {doc.WORKFLOW_ID: 1, doc.STATUS: 1})
            .sort(doc.TIMEOUT_AT, ASCENDING)
            .limit(limit * self._width)
            .to_list(None)
        )
        if len(found) > limit:
            found = random.sample(found, limit)
        return [
            (one[doc.WORKFLOW_ID], Status(one[doc.STATUS]))
            for one in found
            if isinstance(one.get(doc.WORKFLOW_ID), str)  # a foreign document is nobody's workflow
        ]

    async def _stamp(
        self, tried: Sequence[tuple[str, Status]], now: datetime, claim: Document
    ) -> None:
        """Claim those that are still due, in the state that they were found in."""
        if not tried:
            return
        workflow_ids, statuses = zip(*tried, strict=True)
        # Without an answer the token may have been stamped all the same: reading back tells.
        try:
            await self._workflows.update_many(
                transitions.still_due(set(statuses), workflow_ids, now), claim
            )
        except ConnectionFailure:
            return
        except WriteError as error:
            # One of them cannot be changed so, and has kept the rest from being.
            if len(tried) == 1:
                logger.error("workflow %r cannot be claimed: %s", workflow_ids[0], error)  # noqa: TRY400
                return
            for one in tried:
                await self._stamp([one], now, claim)

    async def _read_back(self, workflow_ids: Sequence[str], token: str) -> list[Claim]:
        """The claims that were won, in the order of the ids."""
        if not workflow_ids:
            return []
        stamped = {doc.WORKFLOW_ID: {"$in": list(workflow_ids)}, doc.CLAIM: token}
        documents = await self._workflows.find(stamped).to_list(None)
        order = {workflow_id: place for place, workflow_id in enumerate(workflow_ids)}
        documents.sort(key=lambda document: order[document[doc.WORKFLOW_ID]])
        return [Claim(token=token, workflow=found) for found in map(_readable, documents) if found]

    def _adapt(self, tried: int, won: int) -> None:
        self._width = min(self._width * 2, WIDEST) if won < tried else max(self._width // 2, 1)


def _readable(document: Document) -> Workflow | None:
    """The workflow, or None: one that cannot be read must not keep the others from being run."""
    try:
        return doc.to_workflow(document)
    except CorruptDocument as error:
        logger.error("%s; it is left alone until its lease ends", error)  # noqa: TRY400
        return None

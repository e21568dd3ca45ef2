"""Claiming in bulk, without several workers chasing the same few workflows."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from bson import Binary
from bson.errors import InvalidBSON
from pymongo import ASCENDING, ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import ConnectionFailure, OperationFailure, WriteError

from bluestreak_core import machine
from bluestreak_core.errors import CorruptDocument
from bluestreak_core.model import Claim, ClaimRequest, Status, Workflow
from bluestreak_mongo import transitions
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.error_code import is_about_document, is_code_about_document
from bluestreak_mongo.routing import write_each
from bluestreak_mongo.schema import WORKFLOWS, Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.unreadable import LOOK_AGAIN_AFTER, Unreadable, UnreadableDocuments, read_each

logger = logging.getLogger(__name__)

WIDEST = 8
CALM = 8
"""Claims in a row that lose nothing, after which a worker looks at a narrower range again."""

ROUNDS = 4
"""How often a worker that lost everything it tried for looks again at once."""

PAST_UNREADABLE = 100
"""How many due workflows one look finds after a look that found only unreadable ones, and how often
it is repeated.
"""

INSPECTED = 100
"""How many documents of each kind that will never be due one inspection finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """What one claim stamps on all that it wins."""

    token: str
    request: ClaimRequest

    def stamp(self, *, crashed: bool) -> Document:
        """The update that claims."""
        return transitions.claim(self.token, self.request, crashed=crashed)

    def claim(self, workflow: Workflow) -> Claim:
        """The claim of a workflow that was stamped as it is here."""
        claimed = machine.claim(workflow, self.token, self.request)
        return Claim(token=self.token, workflow=claimed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A due workflow, as it was found; `workflow` is None where only its state was read.

    `session_id` is that of the last transaction that its worker has begun and not committed.
    """

    key: Any
    workflow_id: str
    status: Status
    workflow: Workflow | None
    session_id: Any

    @property
    def is_new(self) -> bool:
        """Whether it was never claimed, and has been read whole."""
        return (
            self.workflow is not None and self.status is Status.IDLE and self.workflow.claims == 0
        )


class Claiming:
    """Finds due workflows, stamps a token on as many as are still due, and tells which those are.

    Workflows that were never claimed are read whole when they are found. If as many were stamped,
    all of them are won as they were, so they cost one read and one write. Otherwise the ones that
    were won are read back.

    A worker that comes away with less than it tried for has met another one. It then looks at a
    wider range of due workflows and tries a random choice of them, until it has won undisturbed for
    a while.

    A document that cannot be read or changed is set aside, after one claim at most.
    """

    def __init__(
        self,
        workflows: AsyncCollection[Document],
        unreadable: UnreadableDocuments,
        *,
        is_routed: bool,
    ) -> None:
        self.was_in_vain = False
        """Whether the last look has found that nothing is due."""
        self._workflows = workflows
        self._unreadable = unreadable
        self._is_routed = is_routed
        self._inspected_at: datetime | None = None
        self._width = 1
        self._undisturbed = 0

    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        """See `Store.claim`. Without a rival it is one command where nothing is due, two for
        workflows that were never claimed (behind a router three), and at most four for others.
        """
        for _ in range(ROUNDS):
            attempt = _Attempt(token=uuid4().hex, request=request)
            tried = await self._choose(request)
            if tried and all(candidate.is_new for candidate in tried):
                won = await self._try_for_new(tried, attempt)
            else:
                won = await self._try_for(tried, attempt)
            self._adapt(len(tried), len(won))
            self.was_in_vain = not tried
            if won or not tried:
                return won
        return []

    async def claim_one(self, request: ClaimRequest) -> Sequence[Claim]:
        """Claim a workflow that has become due since a look in vain: one command, the quickest way.

        A lease that has run out meanwhile is left to the next look. So is all behind a router: the
        command names no workflow, which a sharded cluster of MongoDB 6.0 refuses.
        """
        self.was_in_vain = False
        if self._is_routed:
            return []
        attempt = _Attempt(token=uuid4().hex, request=request)
        now, lease = request.now, request.lease
        due = transitions.due(now, request.handlers, machine.waiting()) | self._unreadable.excluded(
            now
        )
        due[wf.WORKFLOW_ID] = {"$type": "string"}
        try:
            found = await self._workflows.find_one_and_update(
                due,
                attempt.stamp(crashed=False),
                sort=[(wf.TIMEOUT_AT, ASCENDING)],
                return_document=ReturnDocument.AFTER,
            )
            return [] if found is None else [_claim(attempt, found)]
        except (InvalidBSON, CorruptDocument):
            return await self._read_back(
                transitions.stamped_now(attempt.token, now, lease), attempt
            )
        except OperationFailure as error:
            if not is_code_about_document(error.code):
                raise
            return []  # it cannot be changed so, and `claim` says which one that is

    async def inspect(self, now: datetime) -> None:
        """Log what is in the collection and will never be due; now and then, whenever called."""
        if self._inspected_at is not None and now - self._inspected_at < LOOK_AGAIN_AFTER:
            return
        self._inspected_at = now
        for never_due in transitions.never_due():
            _, unreadable = await self._look(never_due, INSPECTED, whole=False)
            for document in unreadable:
                self._unreadable.report(document, "it will not be claimed")

    async def _choose(self, request: ClaimRequest) -> list[_Candidate]:
        """Due workflows to try for, the longest due first."""
        now, limit = request.now, request.limit
        width = self._width
        count = limit * width
        for _ in range(PAST_UNREADABLE):
            due = transitions.due(now, request.handlers) | self._unreadable.excluded(now)
            found, unreadable = await self._look(due, count, whole=width == 1)
            self._set_aside(unreadable, now)
            if found or not unreadable:
                break
            count = max(count, PAST_UNREADABLE)
        if len(found) > limit:
            found = found[:limit] if width == 1 else random.sample(found, limit)
        return found

    async def _look(
        self, due: Document, count: int, *, whole: bool
    ) -> tuple[list[_Candidate], list[Unreadable]]:
        state = (wf.WORKFLOW_ID, wf.STATUS, wf.TIMEOUT_AT, wf.SESSION)
        fields = None if whole else dict.fromkeys(state, 1)

        def query(workflows: AsyncCollection[Document]) -> AsyncCursor[Document]:
            found = workflows.find(due, fields, batch_size=count)
            return found.sort(wf.TIMEOUT_AT, ASCENDING).limit(count)

        return await read_each(self._workflows, query, _read_whole if whole else _read_state)

    async def _try_for_new(self, tried: Sequence[_Candidate], attempt: _Attempt) -> Sequence[Claim]:
        """Claim those that nobody else has claimed meanwhile."""
        stamped = await self._stamp(tried, transitions.still_new, attempt, crashed=False)
        # What a router has added up is no proof: a claim that is not stored runs a step twice.
        if self._is_routed or stamped < len(tried):
            return await self._read_back_tried(tried, attempt)
        return [attempt.claim(one.workflow) for one in tried if one.workflow is not None]

    async def _try_for(self, tried: Sequence[_Candidate], attempt: _Attempt) -> Sequence[Claim]:
        """Claim those that are still due, in the state that they were found in."""
        for crashed in (False, True):
            group = [one for one in tried if (one.status is Status.RUNNING) is crashed]
            if crashed:
                await self._end_sessions(group)
            if group:
                still_due = partial(transitions.still_due, {one.status.value for one in group})
                await self._stamp(group, still_due, attempt, crashed=crashed)
        return await self._read_back_tried(tried, attempt)

    async def _end_sessions(self, abandoned: Sequence[_Candidate]) -> None:
        """End the transactions of workers that must have died in one.

        The server would keep them open for another minute, and with them the locks on what they
        have written, which may be the very workflow that is to be claimed.
        """
        dead = [one for one in abandoned if isinstance(one.session_id, UUID)]
        if not dead:
            return
        sessions = [{"id": Binary.from_uuid(one.session_id)} for one in dead]
        try:
            await self._workflows.database.client.admin.command("killSessions", sessions)
        except OperationFailure as error:
            logger.warning("transactions of dead workers are left to time out: %s", shown(error))
            return
        # Its worker may be alive after all, and use the session for something else from now on.
        ended = [transitions.announced(one.workflow_id, one.session_id) for one in dead]
        each = [UpdateOne(announced, transitions.RETRACT) for announced in ended]
        await write_each(self._workflows, each)

    async def _stamp(
        self,
        tried: Sequence[_Candidate],
        still: Callable[[list[str], datetime], Document],
        attempt: _Attempt,
        *,
        crashed: bool,
    ) -> int:
        """Claim those that are `still` to be had; how many are known to have been claimed."""
        update = attempt.stamp(crashed=crashed)
        # Without an answer the token may have been stamped all the same: reading back tells.
        try:
            if self._is_routed:
                targets = [still([workflow_id], attempt.request.now) for workflow_id in _ids(tried)]
                each = [UpdateOne(target, update) for target in targets]
                return (await write_each(self._workflows, each)).matched_count
            target = still(_ids(tried), attempt.request.now)
            return (await self._workflows.update_many(target, update)).matched_count
        except ConnectionFailure:
            return 0
        except WriteError as error:
            if not is_about_document(error):
                raise
            # One of them cannot be changed so, and has kept the rest from being.
            if len(tried) == 1:
                self._set_aside([_unclaimable(tried[0], error)], attempt.request.now)
                return 0
            for candidate in tried:
                await self._stamp([candidate], still, attempt, crashed=crashed)
            return 0

    async def _read_back_tried(
        self, tried: Sequence[_Candidate], attempt: _Attempt
    ) -> Sequence[Claim]:
        """The claims that were won, in the order in which they were tried for."""
        if not tried:
            return []
        order = {candidate.workflow_id: place for place, candidate in enumerate(tried)}
        won = await self._read_back(transitions.stamped(list(order), attempt.token), attempt)
        return sorted(won, key=lambda claim: order[claim.workflow_id])

    async def _read_back(self, stamped: Document, attempt: _Attempt) -> list[Claim]:
        def query(workflows: AsyncCollection[Document]) -> AsyncCursor[Document]:
            return workflows.find(stamped, batch_size=1000)

        claims, unreadable = await read_each(self._workflows, query, partial(_claim, attempt))
        self._set_aside(unreadable, attempt.request.now)
        return claims

    def _set_aside(self, unreadable: Sequence[Unreadable], now: datetime) -> None:
        for document in unreadable:
            self._unreadable.set_aside(document, now)

    def _adapt(self, tried: int, won: int) -> None:
        self._undisturbed = 0 if won < tried else self._undisturbed + 1
        if won < tried:
            self._width = min(self._width * 2, WIDEST)
        elif self._undisturbed % CALM == 0:
            self._width = max(self._width // 2, 1)


def _ids(candidates: Sequence[_Candidate]) -> list[str]:
    return [candidate.workflow_id for candidate in candidates]


def _read_whole(document: Document) -> _Candidate:
    workflow = wf.to_workflow(document)
    return _Candidate(
        key=document["_id"],
        workflow_id=workflow.workflow_id,
        status=workflow.status,
        workflow=workflow,
        session_id=document.get(wf.SESSION),
    )


def _read_state(document: Document) -> _Candidate:
    workflow_id, status = wf.to_candidate(document)
    return _Candidate(
        key=document["_id"],
        workflow_id=workflow_id,
        status=status,
        workflow=None,
        session_id=document.get(wf.SESSION),
    )


def _claim(attempt: _Attempt, document: Document) -> Claim:
    return Claim(token=attempt.token, workflow=wf.to_workflow(document))


def _unclaimable(candidate: _Candidate, error: WriteError) -> Unreadable:
    reason = f"cannot be written: {shown(error)}"
    refusal = CorruptDocument(WORKFLOWS, candidate.workflow_id, wf.CLAIM, reason)
    return Unreadable(key=candidate.key, error=refusal)

"""Claiming in bulk, without several workers chasing the same few workflows."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import uuid4

from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING, ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import ConnectionFailure, OperationFailure, WriteError

from bluestreak_core import machine
from bluestreak_core.errors import CorruptDocument, StoreUnavailable
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, ClaimRequest, Status, Workflow
from bluestreak_mongo import transitions
from bluestreak_mongo.candidate import STATE, Candidate, ids_of, read_state, read_whole
from bluestreak_mongo.database import Database
from bluestreak_mongo.dead_session import end_sessions
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.error_code import is_about_document, is_code_about_document
from bluestreak_mongo.routing import write_each
from bluestreak_mongo.schema import WORKFLOWS, Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.search_range import SearchRange
from bluestreak_mongo.unreadable import LOOK_AGAIN_AFTER, Unreadable, UnreadableDocuments, read_each

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

    def stamp(self, *, crashed: bool, event: Transition = Transition.CLAIM) -> Document:
        """The update that claims."""
        return transitions.claim(self.token, self.request, crashed=crashed, event=event)

    def claim(self, workflow: Workflow) -> Claim:
        """The claim of a workflow that was stamped as it is here, which is as it was before."""
        claimed = machine.claim(workflow, self.token, self.request)
        return Claim(token=self.token, workflow=claimed, due_at=workflow.timeout_at)


class Claiming:
    """Finds due workflows, stamps a token on those that are still due, and returns their claims.

    Workflows that were never claimed are read whole when they are found. If all of them could be
    stamped, they are claimed as they were read, which costs one read and one write. Otherwise the
    stamped ones are read back.

    A worker that gets less than it tried for has met another worker; see `SearchRange`.

    A document that cannot be read or changed is set aside, after one claim at most.
    """

    def __init__(
        self,
        database: Database,
        unreadable: UnreadableDocuments,
    ) -> None:
        self.was_in_vain = False
        """Whether nothing was due at the last look."""
        self._workflows = database.workflows
        self._unreadable = unreadable
        self._is_routed = database.is_routed
        self._inspected_at: datetime | None = None
        self._range = SearchRange()

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
            self._range.adapt(len(tried), len(won))
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
        # What is due to compensate is left to `claim`: this update is the one of all others.
        statuses = [found for found in machine.waiting() if found is not Status.STOPPING]
        due = transitions.due(now, request.handlers, statuses) | self._unreadable.excluded(now)
        due[wf.WORKFLOW_ID] = {"$type": "string"}
        try:
            found = await self._workflows.find_one_and_update(
                due,
                attempt.stamp(crashed=False),
                sort=[(wf.TIMEOUT_AT, ASCENDING)],
                return_document=ReturnDocument.BEFORE,
            )
            return [] if found is None else [attempt.claim(wf.to_workflow(found))]
        except (InvalidBSON, CorruptDocument):
            return await self._read_back(
                transitions.stamped_now(attempt.token, now, lease), attempt
            )
        except OperationFailure as error:
            if not is_code_about_document(error.code):
                raise
            return []  # it cannot be changed, and `claim` finds out which one that is
        except AttributeError as error:
            # PyMongo 4.20 stumbles over the labels of this command's write concern error.
            if not isinstance(error.obj, RawBSONDocument):
                raise
            raise StoreUnavailable(str(error.obj.get("errmsg"))) from error

    async def inspect(self, now: datetime) -> None:
        """Log the documents that will never be due, at most once in `LOOK_AGAIN_AFTER`."""
        if self._inspected_at is not None and now - self._inspected_at < LOOK_AGAIN_AFTER:
            return
        self._inspected_at = now
        for never_due in transitions.never_due():
            _, unreadable = await self._look(never_due, INSPECTED, whole=False)
            for document in unreadable:
                self._unreadable.report(document, "it will not be claimed")

    async def _choose(self, request: ClaimRequest) -> list[Candidate]:
        """Due workflows to try for, the longest due first."""
        now, limit = request.now, request.limit
        is_narrow = self._range.is_narrow
        count = limit * self._range.width
        for _ in range(PAST_UNREADABLE):
            due = transitions.due(now, request.handlers) | self._unreadable.excluded(now)
            found, unreadable = await self._look(due, count, whole=is_narrow)
            self._set_aside(unreadable, now)
            if found or not unreadable:
                break
            count = max(count, PAST_UNREADABLE)
        if len(found) > limit:
            found = found[:limit] if is_narrow else random.sample(found, limit)
        return found

    async def _look(
        self, due: Document, count: int, *, whole: bool
    ) -> tuple[list[Candidate], list[Unreadable]]:
        fields = None if whole else dict.fromkeys(STATE, 1)

        def query(workflows: AsyncCollection[Document]) -> AsyncCursor[Document]:
            found = workflows.find(due, fields, batch_size=count)
            return found.sort(wf.TIMEOUT_AT, ASCENDING).limit(count)

        return await read_each(self._workflows, query, read_whole if whole else read_state)

    async def _try_for_new(self, tried: Sequence[Candidate], attempt: _Attempt) -> Sequence[Claim]:
        """Claim those that no other worker has claimed meanwhile."""
        update = attempt.stamp(crashed=False)
        stamped = await self._stamp(tried, transitions.still_new, attempt, update)
        # What a router has added up is no proof: a claim that is not stored runs a step twice.
        if self._is_routed or stamped < len(tried):
            return await self._read_back_tried(tried, attempt)
        return [attempt.claim(found.workflow) for found in tried if found.workflow is not None]

    async def _try_for(self, tried: Sequence[Candidate], attempt: _Attempt) -> Sequence[Claim]:
        """Claim those that are still due, in the state that they were found in."""
        groups: dict[tuple[bool, Transition], list[Candidate]] = {}
        for found in tried:
            kind = found.status in machine.held(), machine.claiming(found.status)
            groups.setdefault(kind, []).append(found)
        for (crashed, event), group in sorted(groups.items()):
            if crashed:
                await end_sessions(self._workflows, group)
            still_due = partial(transitions.still_due, {found.status.value for found in group})
            update = attempt.stamp(crashed=crashed, event=event)
            await self._stamp(group, still_due, attempt, update)
        return await self._read_back_tried(tried, attempt)

    async def _stamp(
        self,
        tried: Sequence[Candidate],
        still: Callable[[list[str], datetime], Document],
        attempt: _Attempt,
        update: Document,
    ) -> int:
        """Stamp those that `still` matches. Returns how many are known to be stamped."""
        # Without an answer the token may have been stamped all the same: it is read back.
        try:
            if self._is_routed:
                targets = [
                    still([workflow_id], attempt.request.now) for workflow_id in ids_of(tried)
                ]
                each = [UpdateOne(target, update) for target in targets]
                return (await write_each(self._workflows, each)).matched_count
            target = still(ids_of(tried), attempt.request.now)
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
                await self._stamp([candidate], still, attempt, update)
            return 0

    async def _read_back_tried(
        self, tried: Sequence[Candidate], attempt: _Attempt
    ) -> Sequence[Claim]:
        """The claims that were won, in the order in which they were tried for."""
        if not tried:
            return []
        order = {candidate.workflow_id: place for place, candidate in enumerate(tried)}
        won = await self._read_back(transitions.stamped(list(order), attempt.token), attempt)
        due = {candidate.workflow_id: candidate.due_at for candidate in tried}
        won = [replace(claim, due_at=due[claim.workflow_id]) for claim in won]
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


def _claim(attempt: _Attempt, document: Document) -> Claim:
    return Claim(token=attempt.token, workflow=wf.to_workflow(document))


def _unclaimable(candidate: Candidate, error: WriteError) -> Unreadable:
    reason = f"cannot be written: {shown(error)}"
    refusal = CorruptDocument(WORKFLOWS, candidate.workflow_id, wf.CLAIM, reason)
    return Unreadable(key=candidate.key, error=refusal)

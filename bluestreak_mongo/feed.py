"""Push: one change stream that tells this process what others do, while somebody here waits.

Polling stays the truth. What a stream says is passed on as a hint, and where there is none (a
standalone server, a missing privilege, an outage), waiting is polling.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import bson
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from bluestreak_core import machine
from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import end_all, finish_despite_cancel
from bluestreak_core.machine import Transition
from bluestreak_core.model import Status
from bluestreak_core.store import Hints
from bluestreak_mongo.bson_rules import CODEC, RAW
from bluestreak_mongo.driver import cancel_and_wait, is_passing
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.rivalry import Rivalry
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf

logger = logging.getLogger(__name__)

LINGER = 1.0
"""Seconds that a stream is kept, unread, for the next one to wait."""

_LISTEN_AGAIN_AFTER = timedelta(seconds=1)

_AWAIT_MS = 5000
"""How long the server holds back its answer while there is nothing to tell, at most."""

_LOOK_AGAIN_AFTER = timedelta(seconds=30)
"""How long a caller waits for an end without a look, while there is a stream."""

_POLL_AFTER = timedelta(seconds=1)
_POLL_EACH_AFTER = timedelta(milliseconds=2)
"""Likewise without a stream: the more there are who wait, the longer, since each look costs."""

_REMEMBERED = 10_000
"""How many workflows are remembered that were looked at or have ended, while nobody waits."""

_DUE = {status.value for status in machine.waiting()}
_ENDED = {status.value for status in Status if status.ended}
_TAKEN = {machine.target(event).value for event in (Transition.CANCEL, Transition.PAUSE)}


def _changed(field: str) -> Document:
    """What an event says of a field: in a new document, or in what was changed of an old one."""
    return {"$ifNull": [f"$fullDocument.{field}", f"$updateDescription.updatedFields.{field}"]}


_PIPELINE: list[Document] = [
    {
        "$project": {
            "documentKey._id": 1,
            wf.STATUS: _changed(wf.STATUS),
            wf.TIMEOUT_AT: _changed(wf.TIMEOUT_AT),
            wf.WORKER: _changed(wf.WORKER),
        }
    },
    {"$match": {wf.STATUS: {"$in": sorted(_DUE | _ENDED | _TAKEN | {Status.RUNNING.value})}}},
]


class _Invalidated(PyMongoError):
    """A stream has nothing more to tell, and never will."""


class _Awaited:
    """The workflows whose ends are waited for. An event names them by `_id`, a caller does not.

    Names are learned by looks, which come before the waits, and may come after the event.
    """

    def __init__(self) -> None:
        self._callers: Counter[str] = Counter()
        self._keys: dict[str, bytes] = {}
        self._names: dict[bytes, str] = {}
        self._looked_at: OrderedDict[str, None] = OrderedDict()
        self._lately_ended: OrderedDict[bytes, None] = OrderedDict()

    @property
    def count(self) -> int:
        """How many workflows are waited for."""
        return len(self._callers)

    def add(self, workflow_id: str) -> None:
        """One more caller waits for this workflow."""
        self._callers[workflow_id] += 1

    def remove(self, workflow_id: str) -> None:
        """One less."""
        self._callers[workflow_id] -= 1
        if not self._callers[workflow_id]:
            del self._callers[workflow_id]
            self._forget_unless_wanted(workflow_id)

    def identify(self, workflow_id: str, key: bytes) -> bool:
        """Learn a workflow's `_id`. True, once, if its end was heard of before that."""
        self._keys[workflow_id] = key
        self._names[key] = workflow_id
        self._looked_at[workflow_id] = None
        self._looked_at.move_to_end(workflow_id)
        if len(self._looked_at) > _REMEMBERED:
            oldest, _ = self._looked_at.popitem(last=False)
            self._forget_unless_wanted(oldest)
        if key not in self._lately_ended:
            return False
        del self._lately_ended[key]
        return True

    def ended(self, key: bytes) -> str | None:
        """The workflow that has ended, if it is known by a look."""
        if key in self._names:
            return self._names[key]
        self._lately_ended[key] = None
        if len(self._lately_ended) > _REMEMBERED:
            self._lately_ended.popitem(last=False)
        return None

    def _forget_unless_wanted(self, workflow_id: str) -> None:
        if workflow_id not in self._callers and workflow_id not in self._looked_at:
            self._names.pop(self._keys.pop(workflow_id, b""), None)


class Feed:
    """Follows the collection of workflows while somebody waits, and gives hints of what it sees."""

    def __init__(self, workflows: AsyncCollection[Document], hints: Hints, clock: Clock) -> None:
        self.is_live = False
        """Whether there is a stream, so that who waits hears of what others do."""
        self._workflows = workflows
        self._hints = hints
        self._clock = clock
        self._is_possible = _can_be_followed(workflows)
        self._is_broken = False
        self._following: asyncio.Task[None] | None = None
        self._waiters = 0
        self._is_resting = False
        self._wanted = asyncio.Event()
        self._awaited = _Awaited()
        self.rivalry = Rivalry(hints, clock)
        """With the other processes, for work that all of them hear of."""

    @property
    def is_read(self) -> bool:
        """Whether what others do is heard of now, although nobody may wait for it."""
        return self.is_live and not self._is_resting

    @property
    def look_again_after(self) -> timedelta:
        """How long a caller who waits for an end can do without a look."""
        if self.is_live:
            return _LOOK_AGAIN_AFTER
        return max(_POLL_AFTER, self._awaited.count * _POLL_EACH_AFTER)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For as long as this block lasts, there is a stream, if there can be one."""
        self._waiters += 1
        self._wanted.set()
        if self._is_possible and (self._following is None or self._following.done()):
            self._following = asyncio.create_task(self._follow(), name="bluestreak feed")
            self._following.add_done_callback(_log_failure)
        try:
            yield
        finally:
            self._waiters -= 1
            if self._waiters == 0:
                self._wanted.clear()

    @contextmanager
    def waiting_for(self, workflow_id: str) -> Iterator[None]:
        """Likewise, and the end of this workflow is among what is heard of."""
        self._awaited.add(workflow_id)
        self.rivalry.read_on()
        try:
            with self.waiting():
                yield
        finally:
            self._awaited.remove(workflow_id)

    def identify(self, document: Mapping[str, Any]) -> None:
        """Learn which document is that of a workflow, from one that was read."""
        if document.get(wf.STATUS) in _ENDED:
            return
        if self._awaited.identify(document[wf.WORKFLOW_ID], _key(document)):
            self._hints.ended(document[wf.WORKFLOW_ID])

    async def close(self) -> None:
        """End the stream, for good."""
        self._is_possible = False
        await self.rivalry.close()
        if self._following is not None:
            await end_all([self._following])

    async def _follow(self) -> None:
        while self._waiters and self._is_possible:
            try:
                # Seen through, since PyMongo leaks the socket of a connection that is broken off
                # while it is being made.
                workflows = self._workflows.with_options(codec_options=RAW)
                stream = await finish_despite_cancel(
                    workflows.watch(_PIPELINE, max_await_time_ms=_await_ms(workflows))
                )
            except PyMongoError as error:
                self._is_possible = is_passing(error)
                await self._do_without(error)
                continue
            try:
                async with stream:
                    await self._listen(stream)
            except PyMongoError as error:  # also of the command that closes the stream
                self._hints.missed_something()  # from now on, whoever waits has to poll
                await self._do_without(error)

    async def _listen(self, stream: AsyncChangeStream[Document]) -> None:
        """Pass on what happens, until nobody has waited for a while."""
        if self._is_broken:
            logger.info("the change stream is back")
        self._is_broken = False
        self.is_live = True
        try:
            self._hints.missed_something()  # it may have happened before we listened
            while await self._is_wanted():
                event = await cancel_and_wait(stream.try_next())
                if not stream.alive:  # the collection was dropped or renamed
                    raise _Invalidated("its collection is gone")
                if event is not None:
                    self._pass_on(event)
                    if not self._awaited.count:
                        await self.rivalry.until_read()
        finally:
            self.is_live = False

    async def _do_without(self, error: PyMongoError) -> None:
        """Say so, and leave the server alone for a moment."""
        if not self._is_possible:
            logger.info("there is no change stream, polling instead: %s", shown(error))
            return
        if not self._is_broken:
            logger.warning("the change stream broke off, polling meanwhile: %s", shown(error))
        self._is_broken = True
        await self._clock.sleep(_LISTEN_AGAIN_AFTER)

    async def _is_wanted(self) -> bool:
        if self._waiters:
            return True
        self._is_resting = True
        try:
            async with asyncio.timeout(LINGER):
                await self._wanted.wait()
        except TimeoutError:
            return False
        finally:
            self._is_resting = False
        return True

    def _pass_on(self, event: Mapping[str, Any]) -> None:
        status = event[wf.STATUS]
        if not isinstance(status, str):  # an array that holds one
            return
        key = bytes(event["documentKey"].raw)
        if status in _TAKEN:
            self._hints.controlled()
        if status in _DUE:
            due_at = event.get(wf.TIMEOUT_AT)
            if isinstance(due_at, datetime) and due_at > self._clock.now():
                self._hints.due(due_at)
            else:
                self.rivalry.arrived(key)
        elif status == Status.RUNNING:
            self.rivalry.claimed(key, event.get(wf.WORKER))
        elif (workflow_id := self._awaited.ended(key)) is not None:
            self._hints.ended(workflow_id)


def _key(document: Mapping[str, Any]) -> bytes:
    """A document's `_id`, which may be anything, as an event names it."""
    return bson.encode({"_id": document["_id"]}, codec_options=CODEC)


def _can_be_followed(workflows: AsyncCollection[Document]) -> bool:
    """Whether there is a connection for a stream; Motor's collections have another kind of them."""
    if not isinstance(workflows, AsyncCollection):
        return False
    return workflows.database.client.options.pool_options.max_pool_size != 1


def _await_ms(workflows: AsyncCollection[Document]) -> int:
    """No longer than half the time in which the client wants to have read an answer."""
    options = workflows.database.client.options
    bounds = [within for within in (options.pool_options.socket_timeout, options.timeout) if within]
    return min(_AWAIT_MS, *(int(within * 500) for within in bounds)) if bounds else _AWAIT_MS


def _log_failure(following: asyncio.Task[None]) -> None:
    if not following.cancelled() and (error := following.exception()) is not None:
        logger.error("the feed has failed, polling instead", exc_info=error)

"""Push: while callers in this process wait, a change stream reports what other processes do.

Reports are hints: a caller that wakes up reads the database. Where there is no stream (a standalone
server, a missing privilege, an outage), callers poll.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import end_all, finish_despite_cancel
from bluestreak_core.store import Hints
from bluestreak_mongo.awaited import Awaited
from bluestreak_mongo.bson_rules import RAW
from bluestreak_mongo.change import DUE, ENDED, HELD, PIPELINE, TAKEN, key_of
from bluestreak_mongo.demand import Demand
from bluestreak_mongo.driver import cancel_and_wait, is_passing
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.rivalry import Rivalry
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf

logger = logging.getLogger(__name__)

_REOPEN_AFTER = timedelta(seconds=1)

_LONGEST_AWAIT_MS = 5000
"""The longest time that the server holds back its answer while there is no change."""

_BATCH = 500
"""Events that one answer of the server has at most: a busy worker may be long in reading them."""

_READ_AGAIN_AFTER = timedelta(seconds=30)
"""How long a caller waits without reading its workflow again, while there is a stream."""

_POLL_AFTER = timedelta(seconds=1)
_POLL_AFTER_EACH = timedelta(milliseconds=2)
"""Likewise without a stream: longer, the more workflows are waited for, since each read costs."""


class _Invalidated(PyMongoError):
    """A stream reports nothing any more."""


class Feed:
    """Follows the collection of workflows while callers wait, and passes changes on as hints."""

    def __init__(self, workflows: AsyncCollection[Document], hints: Hints, clock: Clock) -> None:
        self.is_live = False
        """Whether there is a stream, so that callers hear of what other processes do."""
        self._workflows = workflows
        self._hints = hints
        self._clock = clock
        self._is_possible = _can_be_followed(workflows)
        self._is_broken = False
        self._following: asyncio.Task[None] | None = None
        self._demand = Demand()
        self._ends = Awaited()
        self._mail = Awaited()
        self.rivalry = Rivalry(hints, clock)
        """With the other processes, for work that all of them hear of at once."""

    @property
    def is_read(self) -> bool:
        """Whether the stream is read now, and not only kept for the next caller."""
        return self.is_live and not self._demand.is_resting

    @property
    def read_again_after(self) -> timedelta:
        """How long a caller that waits for an end or a message need not read the workflow."""
        if self.is_live:
            return _READ_AGAIN_AFTER
        count = self._ends.count + self._mail.count
        return max(_POLL_AFTER, count * _POLL_AFTER_EACH)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """For as long as this block lasts, there is a stream, if there can be one."""
        with self._demand.one_more():
            if self._is_possible and (self._following is None or self._following.done()):
                self._following = asyncio.create_task(self._follow(), name="bluestreak feed")
                self._following.add_done_callback(_log_failure)
            yield

    @contextmanager
    def waiting_for_end(self, workflow_id: str) -> Iterator[None]:
        """Likewise, and the stream reports the end of this workflow."""
        with self._waiting_for(workflow_id, self._ends):
            yield

    @contextmanager
    def waiting_for_mail(self, workflow_id: str) -> Iterator[None]:
        """Likewise, and the stream reports messages to this workflow."""
        with self._waiting_for(workflow_id, self._mail):
            yield

    @contextmanager
    def _waiting_for(self, workflow_id: str, awaited: Awaited) -> Iterator[None]:
        awaited.add(workflow_id)
        self.rivalry.read_on()
        try:
            with self.waiting():
                yield
        finally:
            awaited.remove(workflow_id)

    def identify_for_end(self, document: Mapping[str, Any]) -> None:
        """Learn which `_id` a workflow has, from a document that was read to await its end."""
        if document.get(wf.STATUS) in ENDED:
            return
        if self._ends.identify(document[wf.WORKFLOW_ID], key_of(document)):
            self._hints.ended(document[wf.WORKFLOW_ID])

    def identify_for_mail(self, document: Mapping[str, Any]) -> None:
        """Likewise of a document that was read to await a message."""
        if self._mail.identify(document[wf.WORKFLOW_ID], key_of(document)):
            self._hints.delivered(document[wf.WORKFLOW_ID])

    async def close(self) -> None:
        """End the stream, for good."""
        self._is_possible = False
        await self.rivalry.close()
        if self._following is not None:
            await end_all([self._following])

    async def _follow(self) -> None:
        while self._demand and self._is_possible:
            try:
                # Not cancelled half-way: PyMongo leaks the socket of a connection that is cancelled
                # while it is made.
                workflows = self._workflows.with_options(codec_options=RAW)
                stream = await finish_despite_cancel(
                    workflows.watch(
                        PIPELINE, max_await_time_ms=_await_ms(workflows), batch_size=_BATCH
                    )
                )
            except PyMongoError as error:
                self._is_possible = is_passing(error)
                await self._do_without(error)
                continue
            try:
                async with stream:
                    await self._listen(stream)
            except PyMongoError as error:  # the command that closes the stream may raise it, too
                self._hints.missed_something()  # from now on, callers have to poll
                await self._do_without(error)

    async def _listen(self, stream: AsyncChangeStream[Document]) -> None:
        """Pass changes on until no caller has waited for a while."""
        if self._is_broken:
            logger.info("the change stream is back")
        self._is_broken = False
        self.is_live = True
        try:
            self._hints.missed_something()  # before the stream was open
            while await self._demand.lasts():
                event = await cancel_and_wait(stream.try_next())
                if not stream.alive:  # the collection was dropped or renamed
                    raise _Invalidated("its collection is gone")
                if event is not None:
                    self._pass_on(event)
                    if not self._ends.count and not self._mail.count:
                        await self.rivalry.until_read()
        finally:
            self.is_live = False

    async def _do_without(self, error: PyMongoError) -> None:
        """Log it, and pause before another stream is opened."""
        if not self._is_possible:
            logger.info("there is no change stream, polling instead: %s", shown(error))
            return
        if not self._is_broken:
            logger.warning("the change stream broke off, polling meanwhile: %s", shown(error))
        self._is_broken = True
        await self._clock.sleep(_REOPEN_AFTER)

    def _pass_on(self, event: Mapping[str, Any]) -> None:
        key = bytes(event["documentKey"].raw)
        if wf.MAIL in event:
            self._pass_on_mail(event, key)
        status = event.get(wf.STATUS)
        if not isinstance(status, str):  # none, or an array that holds one
            return
        if status in TAKEN:
            self._hints.controlled()
        if status in DUE:
            due_at = event.get(wf.TIMEOUT_AT)
            if isinstance(due_at, datetime) and due_at > self._clock.now():
                self._hints.due(due_at)
            else:
                self.rivalry.arrived(key)
        elif status in HELD:
            self.rivalry.claimed(key, event.get(wf.WORKER))
        elif (workflow_id := self._ends.heard_of(key)) is not None:
            self._hints.ended(workflow_id)

    def _pass_on_mail(self, event: Mapping[str, Any], key: bytes) -> None:
        if (workflow_id := self._mail.heard_of(key)) is not None:
            self._hints.delivered(workflow_id)
        if isinstance(event.get(wf.TIMEOUT_AT), datetime) and wf.STATUS not in event:
            self.rivalry.arrived(key)  # the message has woken it


def _can_be_followed(workflows: AsyncCollection[Document]) -> bool:
    """Whether the client has a connection to spare, and is PyMongo's: Motor's streams differ."""
    if not isinstance(workflows, AsyncCollection):
        return False
    return workflows.database.client.options.pool_options.max_pool_size != 1


def _await_ms(workflows: AsyncCollection[Document]) -> int:
    """At most half the time that the client waits for an answer."""
    options = workflows.database.client.options
    bounds = [within for within in (options.pool_options.socket_timeout, options.timeout) if within]
    return min(_LONGEST_AWAIT_MS, *(int(within * 500) for within in bounds), _LONGEST_AWAIT_MS)


def _log_failure(following: asyncio.Task[None]) -> None:
    if not following.cancelled() and (error := following.exception()) is not None:
        logger.error("the feed has failed, polling instead", exc_info=error)

"""The calls of a client for callers that cannot await."""

from __future__ import annotations

import asyncio
import builtins
import os
import threading
import weakref
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from bluestreak_core.argument import Duration
from bluestreak_core.blocking.loop_thread import LoopThread
from bluestreak_core.client import Client, Resolution, Send, Start, Timeline
from bluestreak_core.errors import ClientClosed, InvalidArgument, WouldBlock
from bluestreak_core.message import Message
from bluestreak_core.model import Nap, Step, WorkerRecord, Workflow
from bluestreak_core.run import Handler
from bluestreak_core.store import ENDED, Pruned, WorkflowSummary

T = TypeVar("T")

_PAGE = 200


class BlockingClient:
    """A `Client` for synchronous code, such as views of Flask and Django and tasks of Celery.

    `make` makes the client, for example `lambda: Client(MongoStore(url, database="shop"))`; it may
    be a `Bluestreak`, which then runs nothing. It is called in a thread with an event loop, at the
    first call in each process: one object, made when the application is imported, serves all
    threads of a process, and the processes that a server forks.

    Each call does what the method of `Client` does, and returns or raises what that does. Besides,
    it raises `WouldBlock` in a running event loop, where you can await a `Client`, and
    `ClientClosed` after `close`. Ctrl-C cancels a call that waits. There is no `session=` and no
    `watch`.

    `close` need not be called: when the process ends, its connections end, too.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        if not callable(make) or isinstance(make, Client):
            raise InvalidArgument("make", make, "expected a function that makes a Client")
        self._make = make
        self._lock = threading.Lock()
        self._opened: LoopThread | None = None
        self._forgotten: weakref.finalize[Any, Any] | None = None
        self._is_closed = False
        _living.add(self)

    # Opening and closing -----------------------------------------------------------------------

    def close(self) -> None:
        """Cancel the calls that are pending, and close the client. A repeat does nothing."""
        _check_outside_of_loop("close()")
        with self._lock:
            self._is_closed = True
            opened, self._opened = self._opened, None
            if self._forgotten is not None:
                self._forgotten.detach()
        if opened is not None:
            opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Starting and waiting ----------------------------------------------------------------------

    def start(
        self,
        workflow_id: str,
        handler: str | Handler,
        input: Any = None,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        strict: bool = False,
    ) -> bool:
        """See `Client.start`."""

        async def start(client: Client) -> bool:
            given: Any = handler  # which the overloads of `Client.start` take one by one
            return await client.start(workflow_id, given, input, delay=delay, at=at, strict=strict)

        return self._call("start()", start)

    def start_many(self, starts: Iterable[Start]) -> builtins.list[bool]:
        """See `Client.start_many`."""
        return self._call("start_many()", lambda client: client.start_many(starts))

    def wait(
        self,
        workflow_id: str,
        retries: int | None = None,
        pause_interval: Duration | None = None,
        *,
        timeout: Duration | None = None,
        handler: Handler | None = None,
    ) -> Any:
        """See `Client.wait`."""

        async def wait(client: Client) -> Any:
            given: Any = handler
            return await client.wait(
                workflow_id, retries, pause_interval, timeout=timeout, handler=given
            )

        return self._call("wait()", wait)

    # Messages and callbacks ----------------------------------------------------------------------

    def send(
        self,
        workflow_id: str,
        message: Message[Any] | str,
        payload: Any = None,
        *,
        message_id: str | None = None,
    ) -> bool:
        """See `Client.send`."""
        return self._call(
            "send()",
            lambda client: client.send(workflow_id, message, payload, message_id=message_id),
        )

    def send_many(self, sends: Iterable[Send]) -> builtins.list[bool]:
        """See `Client.send_many`."""
        return self._call("send_many()", lambda client: client.send_many(sends))

    def resolve(
        self, token: str, payload: Any = None, *, error: str | None = None, type: Any = None
    ) -> Resolution:
        """See `Client.resolve`."""
        return self._call(
            "resolve()", lambda client: client.resolve(token, payload, error=error, type=type)
        )

    def beat(self, token: str) -> bool:
        """See `Client.beat`."""
        return self._call("beat()", lambda client: client.beat(token))

    def published(self, workflow_id: str, name: str, default: Any = None) -> Any:
        """See `Client.published`."""
        return self._call(
            "published()", lambda client: client.published(workflow_id, name, default)
        )

    # Control -----------------------------------------------------------------------------------

    def cancel(self, workflow_id: str, reason: str | None = None) -> bool:
        """See `Client.cancel`."""
        return self._call("cancel()", lambda client: client.cancel(workflow_id, reason))

    def pause(self, workflow_id: str) -> None:
        """See `Client.pause`."""
        self._call("pause()", lambda client: client.pause(workflow_id))

    def resume(self, workflow_id: str) -> None:
        """See `Client.resume`."""
        self._call("resume()", lambda client: client.resume(workflow_id))

    def retry(self, workflow_id: str) -> None:
        """See `Client.retry`."""
        self._call("retry()", lambda client: client.retry(workflow_id))

    def fork(self, workflow_id: str, new_id: str, before: str | None = None) -> bool:
        """See `Client.fork`."""
        return self._call("fork()", lambda client: client.fork(workflow_id, new_id, before))

    # Finding -----------------------------------------------------------------------------------

    def find_workflow(self, workflow_id: str) -> Workflow | None:
        """See `Client.find_workflow`."""
        return self._call("find_workflow()", lambda client: client.find_workflow(workflow_id))

    def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        """See `Client.find_step`."""
        return self._call("find_step()", lambda client: client.find_step(workflow_id, step_id))

    def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        """See `Client.find_nap`."""
        return self._call("find_nap()", lambda client: client.find_nap(workflow_id, nap_id))

    def list(
        self,
        *,
        status: str | Collection[str] | None = None,
        handler_id: str | None = None,
        id_prefix: str | None = None,
        waiting_for: Message[Any] | str | None = None,
        parent: str | None = None,
        created: tuple[datetime | None, datetime | None] | None = None,
        order: Literal["newest", "oldest", "id"] | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Iterator[WorkflowSummary]:
        """See `Client.list`. The workflows are read page by page, the first one at once."""

        def page(size: int, cursor: str | None) -> builtins.list[WorkflowSummary]:
            async def read(client: Client) -> builtins.list[WorkflowSummary]:
                found = client.list(
                    status=status,
                    handler_id=handler_id,
                    id_prefix=id_prefix,
                    waiting_for=waiting_for,
                    parent=parent,
                    created=created,
                    order=order,
                    limit=size,
                    after=cursor,
                )
                return [summary async for summary in found]

            return self._call("list()", read)

        return _paged(page, limit, after)

    def count(self, by: Literal["status", "handler_id"] = "status") -> dict[str, int]:
        """See `Client.count`."""
        return self._call("count()", lambda client: client.count(by))

    def describe(self, workflow_id: str) -> Timeline:
        """See `Client.describe`."""
        return self._call("describe()", lambda client: client.describe(workflow_id))

    def prune(
        self,
        *,
        ended_before: datetime,
        statuses: Collection[str] = ENDED,
        limit: int | None = None,
    ) -> Pruned:
        """See `Client.prune`."""
        return self._call(
            "prune()",
            lambda client: client.prune(ended_before=ended_before, statuses=statuses, limit=limit),
        )

    def workers(self) -> builtins.list[WorkerRecord]:
        """See `Client.workers`."""
        return self._call("workers()", lambda client: client.workers())

    # The thread ----------------------------------------------------------------------------------

    def _call(self, name: str, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        _check_outside_of_loop(name)
        return self._here(name).call(name, work)

    def _here(self, name: str) -> LoopThread:
        """The thread of this process."""
        with self._lock:
            if self._is_closed:
                raise ClientClosed(name)
            if self._opened is None or not self._opened.is_here:
                self._opened = opened = LoopThread(self._make)
                self._forgotten = weakref.finalize(self, opened.close)
                self._forgotten.atexit = False  # there, a loop has no executor any more
            return self._opened

    def _forget(self) -> None:
        """In a fork, whose parent may have been in the middle of a call."""
        self._lock = threading.Lock()
        if self._opened is not None:
            _inherited.append(self._opened)
        self._opened = None


def _paged(
    page: Callable[[int, str | None], list[WorkflowSummary]], limit: int | None, after: str | None
) -> Iterator[WorkflowSummary]:
    """All that a list has, of which the first page is read now, so that it can be refused now."""
    size = _PAGE if limit is None else min(_PAGE, limit)
    first = page(size, after)

    def rest() -> Iterator[WorkflowSummary]:
        found, left = first, limit
        while True:
            yield from found
            left = None if left is None else left - len(found)
            if len(found) < _PAGE or left == 0:
                return
            found = page(_PAGE if left is None else min(_PAGE, left), found[-1].cursor)

    return rest()


_living: weakref.WeakSet[BlockingClient] = weakref.WeakSet()


_inherited: list[LoopThread] = []
"""Those of the parent: to let go of their connections would close them."""


def _after_fork() -> None:
    for client in _living:
        client._forget()  # noqa: SLF001 - of this module


def _check_outside_of_loop(name: str) -> None:
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise WouldBlock(name)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_after_fork)

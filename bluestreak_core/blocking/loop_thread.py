"""A client in an event loop of its own, in a thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from bluestreak_core.client import Client
from bluestreak_core.errors import ClientClosed, InvalidArgument

T = TypeVar("T")


class LoopThread:
    """Makes a client, opens it, and calls it in its event loop, in the process that made it."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="bluestreak blocking client", daemon=True
        )
        self._thread.start()
        self._lock = threading.Lock()
        self._is_closing = False
        try:
            self._client = self._run("init()", _opened(make))
        except BaseException:
            self._end()
            raise

    @property
    def is_here(self) -> bool:
        """Whether this process has made it: a fork inherits the object, but not its thread."""
        return self._pid == os.getpid()

    def call(self, name: str, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """The result of a call of the client. An interrupt of the caller cancels the call."""

        async def there() -> T:
            return await work(self._client)

        return self._run(name, there())

    def close(self) -> None:
        """Cancel the calls that are pending, and close the client. In a fork, do nothing.

        Nor in its own thread, where an object that nobody uses any more may be collected.
        """
        if not self.is_here or threading.current_thread() is self._thread:
            return
        with self._lock:
            if self._is_closing:
                return
            self._is_closing = True
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result()
        try:
            asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        finally:
            self._end()

    def _run(self, name: str, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._is_closing:
                work.close()
                raise ClientClosed(name)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise ClientClosed(name) from None
        except BaseException:
            future.cancel()  # an interrupt has reached nobody but the caller
            raise

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _opened(make: Callable[[], Client]) -> Client:
    client = make()
    if not isinstance(client, Client):
        raise InvalidArgument("make()", client, "expected that it returns a Client")
    await client.init()
    return client

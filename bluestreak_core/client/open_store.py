"""The store of a client, as long as the client is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bluestreak_core.argument import check_implements
from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import HomeLoop
from bluestreak_core.store import Store, SupportsTransactions, require

P = TypeVar("P")


class OpenStore:
    """A store for calls between `init` and `close`, from the event loop of `init`.

    Methods take the name of the call that they serve, such as `"start()"`, and raise
    `NotInitialised` or `WrongEventLoop` for it.
    """

    def __init__(self, store: Store) -> None:
        check_implements("store", store, Store)
        self._store = store
        self._home = HomeLoop()

    def __repr__(self) -> str:
        return repr(self._store)

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        return self._store.clock

    async def init(self) -> None:
        """Connect the store; from now on it belongs to the running event loop."""
        self._home.check_unless_closed("init()")
        await self._store.init()
        self._home.enter("init()")

    async def close(self) -> None:
        """Close the store. It can be opened again, in another event loop, too."""
        self._home.check_unless_closed("close()")
        self._home.leave()
        await self._store.close()

    def wrap(self, wrap: Callable[[Store], Store]) -> None:
        """Replace the store by what `wrap` makes of it."""
        store = wrap(self._store)
        check_implements("wrapped store", store, Store)
        self._store = store

    def check(self, call: str) -> None:
        """Raise unless the store is open here."""
        self._home.check(call)

    def get(self, call: str) -> Store:
        """The store, if it is open here."""
        self.check(call)
        return self._store

    def require(self, power: type[P], call: str) -> P:
        """The store, if it is open here and has a power; else `Unsupported`."""
        return require(self.get(call), power, call)

    def require_for_later(self, power: type[P], call: str) -> P:
        """`require` for a caller that will `check` the event loop when it uses the store."""
        self._home.check_entered(call)
        return require(self._store, power, call)

    async def transactional(self, call: str) -> SupportsTransactions:
        """The store, if it has transactions, on the server that it is connected to, too."""
        store = self.require(SupportsTransactions, call)
        await store.check_transactions(call)
        return store

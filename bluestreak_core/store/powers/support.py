"""Which powers a store has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, TypeGuard, TypeVar, cast, runtime_checkable

from bluestreak_core.errors import Unsupported
from bluestreak_core.store.powers.children import SupportsChildren
from bluestreak_core.store.powers.compensation import SupportsCompensation
from bluestreak_core.store.powers.forks import SupportsForks
from bluestreak_core.store.powers.messages import SupportsMessages
from bluestreak_core.store.powers.pruning import SupportsPruning
from bluestreak_core.store.powers.publishing import SupportsPublishing
from bluestreak_core.store.powers.registry import SupportsRegistry
from bluestreak_core.store.powers.renewal import SupportsThreadRenewal
from bluestreak_core.store.powers.restart import SupportsRestart
from bluestreak_core.store.powers.search import SupportsSearch
from bluestreak_core.store.powers.transactions import SupportsTransactions

P = TypeVar("P")


@runtime_checkable
class Wraps(Protocol):
    """A store around another one. It has the powers of the wrapped store."""

    @property
    def wrapped(self) -> object:
        """The wrapped store."""
        ...


_LACKS: Mapping[type, str] = MappingProxyType(
    {
        SupportsForks: "cannot copy records",
        SupportsTransactions: "has no transactions",
        SupportsSearch: "cannot search",
        SupportsPruning: "cannot delete",
        SupportsThreadRenewal: "cannot renew leases from a thread",
        SupportsMessages: "has no mailboxes",
        SupportsChildren: "does not know the children of a workflow",
        SupportsPublishing: "cannot publish",
        SupportsRestart: "cannot restart workflows",
        SupportsCompensation: "cannot compensate",
        SupportsRegistry: "does not know its workers",
    }
)
"""The reason that `Unsupported` gives, after the name of the store."""


def supports(store: object, power: type[P]) -> TypeGuard[P]:
    """Whether a store has a power; a wrapper has what the innermost store has."""
    innermost = _innermost(store)
    # `issubclass` remembers its answers, which `isinstance` of a protocol does not.
    return issubclass(type(innermost), power) or isinstance(innermost, power)


def require(store: object, power: type[P], call: str) -> P:
    """The same store, typed with a power.

    Raises `Unsupported`, with the call and the store's class, if it does not have the power.
    """
    if not supports(store, power):
        raise Unsupported(call, f"{type(_innermost(store)).__name__} {_LACKS[power]}")
    return store


def _innermost(store: object) -> object:
    while hasattr(store, "wrapped"):  # what makes it a `Wraps`, and ten times as fast to ask
        store = cast("Wraps", store).wrapped
    return store

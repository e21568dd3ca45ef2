"""The protocol of a store, and what comes with it.

Read `protocol` first: its docstrings are the contract. `powers` has what only some stores can do.
"""

from bluestreak_core.store.hints import Hints
from bluestreak_core.store.powers import (
    Renewer,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
    SupportsThreadRenewal,
    SupportsTransactions,
    require,
    supports,
)
from bluestreak_core.store.protocol import Store
from bluestreak_core.store.query import (
    ENDED,
    CountBy,
    ListPosition,
    Order,
    Pruned,
    Query,
    Records,
    WorkflowSummary,
)
from bluestreak_core.store.values import MAX_VALUE_BYTES, PlainRules, ValueRules
from bluestreak_core.store.wrapper import StoreWrapper

__all__ = [
    "ENDED",
    "MAX_VALUE_BYTES",
    "CountBy",
    "Hints",
    "ListPosition",
    "Order",
    "PlainRules",
    "Pruned",
    "Query",
    "Records",
    "Renewer",
    "Store",
    "StoreWrapper",
    "SupportsForks",
    "SupportsPruning",
    "SupportsSearch",
    "SupportsThreadRenewal",
    "SupportsTransactions",
    "ValueRules",
    "WorkflowSummary",
    "require",
    "supports",
]

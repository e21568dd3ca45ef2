"""The protocol of a store, and tools to write one.

Read `protocol` first: its docstrings are the contract. `powers` holds the optional abilities,
`query` the types of a search, `values` the values that can be stored, `hints` the four waits, and
`wrapper` a store around a store.
"""

from bluestreak_core.store.hints import Hints
from bluestreak_core.store.powers import (
    Renewer,
    SupportsChildren,
    SupportsCompensation,
    SupportsForks,
    SupportsMessages,
    SupportsPruning,
    SupportsPublishing,
    SupportsRegistry,
    SupportsRestart,
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
    "SupportsChildren",
    "SupportsCompensation",
    "SupportsForks",
    "SupportsMessages",
    "SupportsPruning",
    "SupportsPublishing",
    "SupportsRegistry",
    "SupportsRestart",
    "SupportsSearch",
    "SupportsThreadRenewal",
    "SupportsTransactions",
    "ValueRules",
    "WorkflowSummary",
    "require",
    "supports",
]

"""Powers: abilities that only some stores have.

Each is a protocol of its own. A call that needs one gets it from `require`, which refuses stores
without it. The rules of `protocol` hold here as well.
"""

from bluestreak_core.store.powers.children import SupportsChildren
from bluestreak_core.store.powers.compensation import SupportsCompensation
from bluestreak_core.store.powers.forks import SupportsForks
from bluestreak_core.store.powers.messages import SupportsMessages
from bluestreak_core.store.powers.pruning import SupportsPruning
from bluestreak_core.store.powers.publishing import SupportsPublishing
from bluestreak_core.store.powers.registry import SupportsRegistry
from bluestreak_core.store.powers.renewal import Renewer, SupportsThreadRenewal
from bluestreak_core.store.powers.restart import SupportsRestart
from bluestreak_core.store.powers.search import SupportsSearch
from bluestreak_core.store.powers.support import Wraps, require, supports
from bluestreak_core.store.powers.transactions import SupportsTransactions

__all__ = [
    "Renewer",
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
    "Wraps",
    "require",
    "supports",
]

"""The contract of stores, as test suites: `StoreContract` has all of them.

Each module has the rules of one part or power. `rule` makes a rule of a test.
"""

from bluestreak_core.testing.contract.children import ChildrenContract
from bluestreak_core.testing.contract.fork import ForkContract
from bluestreak_core.testing.contract.message import MessageContract
from bluestreak_core.testing.contract.pruning import PruningContract
from bluestreak_core.testing.contract.publishing import PublishingContract
from bluestreak_core.testing.contract.registry import RegistryContract
from bluestreak_core.testing.contract.renewer import RenewerContract
from bluestreak_core.testing.contract.restart import RestartContract
from bluestreak_core.testing.contract.rule import RuleBroken, Rules
from bluestreak_core.testing.contract.search import SearchContract
from bluestreak_core.testing.contract.store import StoreContract
from bluestreak_core.testing.contract.transaction import Application, TransactionContract
from bluestreak_core.testing.contract.value import UNSTORABLE, VALUES

__all__ = [
    "UNSTORABLE",
    "VALUES",
    "Application",
    "ChildrenContract",
    "ForkContract",
    "MessageContract",
    "PruningContract",
    "PublishingContract",
    "RegistryContract",
    "RenewerContract",
    "RestartContract",
    "RuleBroken",
    "Rules",
    "SearchContract",
    "StoreContract",
    "TransactionContract",
]

"""What the groups of methods that make up a store in memory have in common."""

from __future__ import annotations

from bluestreak_core.argument import check_implements
from bluestreak_core.clock import Clock, SystemClock
from bluestreak_core.model import WorkerRecord
from bluestreak_core.store import Hints, PlainRules, ValueRules
from bluestreak_memory.copies import Copies
from bluestreak_memory.transaction import Transactions
from bluestreak_memory.workflows import Workflows


class Parts:
    """The parts of a store in memory, which do its work."""

    def __init__(self, clock: Clock | None, rules: ValueRules | None) -> None:
        self._clock = SystemClock() if clock is None else clock
        rules = PlainRules() if rules is None else rules
        check_implements("clock", self._clock, Clock)
        check_implements("rules", rules, ValueRules)
        self._copies = Copies(rules)
        self._hints = Hints(self._clock)
        self._workflows = Workflows(self._hints)
        self._workers: dict[str, WorkerRecord] = {}
        self._transactions = Transactions(self._workflows, self._copies.to_stored)

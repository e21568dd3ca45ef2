"""What all of a simulation shares: time, chance, the store, and the ways to it."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import WakeUp
from bluestreak_core.testing import FaultyStore, Process, VirtualClock, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.observer import Observer
from tests.simulation.record import Record
from tests.simulation.scenario import LEASE, Scenario
from tests.simulation.two_steps import TwoStepStore

TRY_AGAIN = 0.1
"""Seconds after which a client repeats a call that has failed."""

_TURNS = 50_000


class RollBack(Exception):
    """Has a transaction rolled back."""


class Setting:
    """A store in memory, in virtual time, behind an observer and faults."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.loop = VirtualLoop()
        self.loop.allow(_TURNS)
        self.clock = VirtualClock(self.loop)
        self.memory = TwoStepStore(clock=self.clock)
        self.record = Record(scenario=scenario, clock=self.clock, began_at=self.clock.start)
        self.record.kept_for = timedelta(seconds=scenario.expire_after or 0)
        self.observer = Observer(self.memory, self.record)
        self.heard: defaultdict[str, WakeUp] = defaultdict(WakeUp)
        """Notified whenever a worker or a client has sent a call of this name."""
        self._chance = random.Random(scenario.chance)
        self._faulty = FaultyStore(
            self.observer, seed=scenario.chance, rate=scenario.fault_rate, delay=LEASE * 1.5
        )
        self._processes: list[Process] = []

    @property
    def fault_rate(self) -> float:
        """How many of the calls of the store fail or take long."""
        return self._faulty.rate

    @fault_rate.setter
    def fault_rate(self, rate: float) -> None:
        self._faulty.rate = rate

    def process(self, name: str) -> Process:
        """A new process."""
        self._processes.append(Process(name, self.loop))
        return self._processes[-1]

    def clock_of(self, worker: int) -> Clock:
        """What a worker takes for the time."""
        return VirtualClock(self.loop, ahead=timedelta(seconds=self.scenario.skews[worker]))

    def network(self, clock: Clock | None = None) -> Network:
        """A new process's way to the store."""
        return Network(
            self._faulty,
            clock=clock or self.clock,
            record=self.record,
            chance=self._chance,
            heard=self.heard,
        )

    def close(self) -> None:
        """Leave no task behind."""
        self.loop.allow(None)
        for process in self._processes:
            self.loop.run_until_complete(process.bury())
        self.loop.close()

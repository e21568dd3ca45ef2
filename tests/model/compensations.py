"""Calls by which a workflow comes to compensate, which are rarely drawn in this order."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from bluestreak_core.machine import Transition
from tests.model.call import AGO, ERROR, WORKER, Call
from tests.model.calling import Calling, back


class Compensations(Calling):
    """What `SupportsCompensation` asks for."""

    @rule(worker=WORKER, ago=AGO, by=st.sampled_from(["cancel", "give_up"]))
    def stop(self, worker: str, ago: int, by: str) -> None:
        """Promise, and come to the end under the same claim or from outside."""
        now = self.clock.now()
        for subject in self.subjects:
            claim = back(subject.claims, ago)
            cancel = Call("control", (claim.workflow_id, Transition.CANCEL, now, "because"))
            give_up = Call("give_up", (claim, ERROR, now))
            for call in (Call("promise", (claim,)), cancel if by == "cancel" else give_up):
                self.runner.run(subject.perform(worker, call))

    @rule(worker=WORKER, agos=st.lists(AGO, min_size=1, max_size=3))
    def hand_over(self, worker: str, agos: list[int]) -> None:
        """By runs of which some have nothing to hand over."""
        now = self.clock.now()
        for subject in self.subjects:
            for ago in agos:
                call = Call("hand_over", (back(subject.claims, ago), now))
                self.runner.run(subject.perform(worker, call))

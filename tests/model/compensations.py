"""Calls by which a workflow comes to compensate, which are rarely drawn in this order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from bluestreak_core import Claim
from bluestreak_core.machine import Transition
from tests.model.call import AGO, ERROR, LEASE, RECORDING, WORKER, Call, Move
from tests.model.calling import Calling, back

CANCEL, PAUSE = (Transition.CANCEL,), (Transition.PAUSE,)


class Compensations(Calling):
    """What `SupportsCompensation` asks for."""

    @rule(worker=WORKER, ago=AGO, by=st.sampled_from(["cancel", "pause", "both", "give_up"]))
    def stop(self, worker: str, ago: int, by: str) -> None:
        """Promise, and come to the end under the same claim or from outside, or to a pause."""
        self._stop(worker, [back(subject.claims, ago) for subject in self.subjects], by)

    def _stop(self, worker: str, claims: Sequence[Claim], by: str) -> None:
        now = self.clock.now()
        events = {"cancel": CANCEL, "pause": PAUSE, "both": PAUSE + CANCEL}.get(by, ())
        for subject, claim in zip(self.subjects, claims, strict=True):
            taken = [Call("control", (claim.workflow_id, each, now, "why")) for each in events]
            ended = taken or [Call("give_up", (claim, ERROR, now))]
            for call in (Call("promise", (claim,)), *ended):
                self.runner.run(subject.perform(worker, call))

    @rule(worker=WORKER, agos=st.lists(AGO, min_size=1, max_size=3))
    def hand_over(self, worker: str, agos: list[int]) -> None:
        """By runs of which some have nothing to hand over."""
        now = self.clock.now()
        for subject in self.subjects:
            for ago in agos:
                call = Call("hand_over", (back(subject.claims, ago), now))
                self.runner.run(subject.perform(worker, call))

    @rule(
        worker=WORKER,
        ago=AGO,
        lease=LEASE,
        by=st.sampled_from(["cancel", "both", "give_up"]),
        moves=st.lists(st.tuples(st.integers(0, 2), RECORDING), max_size=1),
        enders=st.lists(st.integers(0, 2), min_size=1, max_size=2),
    )
    def compensate(
        self,
        *,
        worker: str,
        ago: int,
        lease: timedelta,
        by: str,
        moves: list[tuple[int, Move]],
        enders: list[int],
    ) -> None:
        """Stop a run, claim its workflow, take that over, and end it under any of the claims."""
        runs = self.runs(ago)
        self._stop(worker, [claims[0] for claims in runs], by)
        self.take_over(worker, lease, runs)
        self.take_over(worker, lease, runs)
        # What would release a running workflow ends one that compensates.
        self.follow(worker, runs, [*moves, *[(ender, ("release",)) for ender in enders]])

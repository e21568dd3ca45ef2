"""Calls that concern parents, children, and what has ended for good."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from bluestreak_core import NewWorkflow, OnParentEnd, Parent
from bluestreak_core.machine import Transition
from bluestreak_core.store import ENDED
from tests.model.call import AGO, SECOND, WORKER, WORKFLOW_ID, WORKFLOW_IDS, Call, Move
from tests.model.calling import Calling, back
from tests.model.subject import Subject

_ALL = 10


class Relatives(Calling):
    """What `SupportsChildren` and `SupportsPruning` ask for."""

    @rule(
        worker=WORKER,
        workflow_id=WORKFLOW_ID,
        parent_id=WORKFLOW_ID,
        on_end=st.sampled_from(OnParentEnd),
    )
    def create_child(
        self, worker: str, workflow_id: str, parent_id: str, on_end: OnParentEnd
    ) -> None:
        created_at = self.creation()

        def call(subject: Subject) -> Call:
            parent = Parent(
                workflow_id=parent_id,
                created_at=subject.reference.created_at(parent_id),
                on_end=on_end,
            )
            new = NewWorkflow(
                workflow_id=workflow_id,
                handler_id="h",
                input=None,
                created_at=created_at,
                parent=parent,
            )
            return Call("create", (new,))

        self.each(worker, call)

    @rule(worker=WORKER)
    def find_children_of_namesakes(self, worker: str) -> None:
        for subject in self.subjects:
            created = {one: subject.reference.created_at(one) for one in WORKFLOW_IDS}
            calls = [
                Call("find_children", (one, at and at - SECOND, _ALL))
                for one, at in created.items()
            ]
            self.runner.run(subject.perform(worker, *calls))

    @rule(worker=WORKER, workflow_id=WORKFLOW_ID)
    def find_mail(self, worker: str, workflow_id: str) -> None:
        self.each(worker, lambda _: Call("find_mail", (workflow_id,)))

    @rule(worker=WORKER, name=st.sampled_from(["m", "n"]), ago=st.sampled_from([0, 0, 1]))
    def nudge(self, worker: str, name: str, ago: int) -> None:
        now = self.clock.now()
        for subject in self.subjects:
            created = {one: subject.reference.created_at(one) for one in WORKFLOW_IDS}
            calls = [
                Call("nudge", (one, at and at - ago * SECOND, name, now))
                for one, at in created.items()
            ]
            self.runner.run(subject.perform(worker, *calls))

    @rule(worker=WORKER)
    def find_unsettled(self, worker: str) -> None:
        self.each(worker, lambda _: Call("find_unsettled", (_ALL,)))
        for subject in self.subjects:
            subject.seen += subject.reference.find_unsettled(_ALL)

    @rule(
        worker=WORKER,
        ago=AGO,
        meanwhile=st.sampled_from([(), (Transition.RETRY,), (Transition.RETRY, Transition.CANCEL)]),
    )
    def settle(self, worker: str, ago: int, meanwhile: tuple[Transition, ...]) -> None:
        """By somebody who may have seen another end than the last one."""
        for subject in self.subjects:
            if subject.seen:
                seen, now = back(subject.seen, ago), self.clock.now()
                for event in meanwhile:
                    control = Call("control", (seen.workflow_id, event, now, None))
                    self.runner.run(subject.perform(worker, control))
                self.runner.run(subject.perform(worker, Call("settle", (seen,))))

    @rule(worker=WORKER, span=st.sampled_from([-SECOND, SECOND]))
    def prune(self, worker: str, span: timedelta) -> None:
        now = self.clock.now()
        self.may_be_namesakes = True
        self.each(worker, lambda _: Call("prune", (now + span, ENDED, _ALL, now)))

    @rule(
        worker=WORKER,
        ago=AGO,
        end=st.sampled_from([("finish", None), ("fail", None), ("give_up",)]),
        settles=st.booleans(),
    )
    def keep_until_settled(self, worker: str, ago: int, end: Move, settles: bool) -> None:
        """End a run that has adopted a child, and delete what may be deleted."""
        self.follow(worker, self.runs(ago), [(0, ("adopt",)), (0, end)])
        if settles:
            for subject in self.subjects:
                for seen in subject.reference.find_unsettled(_ALL):
                    self.runner.run(subject.perform(worker, Call("settle", (seen,))))
        self.prune(worker, SECOND)

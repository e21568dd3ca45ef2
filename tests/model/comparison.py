"""Every call of the Store protocol, on stores and on the pure machine, in whatever order."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from bluestreak_core import NewMessage, NewWorkflow
from bluestreak_core.machine import Transition
from tests.model.call import (
    AGO,
    CONTROL,
    ENDING,
    HANDLERS,
    JUMP,
    LEASE,
    LIMIT,
    MESSAGE_ID,
    RECORD_ID,
    RECORDING,
    SPAN,
    VALUE,
    WORKER,
    WORKERS,
    WORKFLOW_ID,
    WORKFLOW_IDS,
    Call,
    Move,
)
from tests.model.calling import back
from tests.model.compensations import Compensations
from tests.model.relatives import Relatives
from tests.model.restarts import Restarts


class Comparison(Relatives, Compensations, Restarts):
    """Adds the calls of the protocol, and of the other powers."""

    @initialize(lease=LEASE)
    def begin(self, lease: timedelta) -> None:
        for workflow_id in WORKFLOW_IDS[:3]:
            self.create(WORKERS[0], workflow_id, "h", None)
        self.claim(WORKERS[0], lease, 2, None)

    @rule(
        worker=WORKER,
        workflow_id=WORKFLOW_ID,
        handler_id=st.sampled_from(["h", "g"]),
        input=VALUE,
    )
    def create(self, worker: str, workflow_id: str, handler_id: str, input: Any) -> None:
        new = NewWorkflow(
            workflow_id=workflow_id,
            handler_id=handler_id,
            input=input,
            created_at=self.creation(),
        )
        self.each(worker, lambda _: Call("create", (new,)))

    @rule(worker=WORKER, workflow_ids=st.lists(WORKFLOW_ID, max_size=4), span=SPAN | st.none())
    def create_many(self, worker: str, workflow_ids: list[str], span: timedelta | None) -> None:
        now, created_at = self.clock.now(), self.creation()
        new = [
            NewWorkflow(
                workflow_id=workflow_id,
                handler_id="h",
                input=place,
                created_at=created_at,
                start_at=None if span is None else now + span,
            )
            for place, workflow_id in enumerate(workflow_ids)
        ]
        self.each(worker, lambda _: Call("create_many", (new,)))

    @rule(
        workflow_id=WORKFLOW_ID,
        message_id=MESSAGE_ID,
        name=st.sampled_from(["m", "n"]),
        payload=VALUE,
    )
    def send(self, workflow_id: str, message_id: str, name: str, payload: Any) -> None:
        """By one sender, since of several the time decides, and the clock may go back."""
        message = NewMessage(
            workflow_id=workflow_id,
            message_id=message_id,
            name=name,
            payload=payload,
            sent_at=self.clock.now(),
        )
        self.each(WORKERS[0], lambda _: Call("send", (message,)))

    @rule(worker=WORKER, workflow_id=WORKFLOW_ID, step_id=RECORD_ID)
    def beat(self, worker: str, workflow_id: str, step_id: str) -> None:
        call = Call("beat", (workflow_id, step_id, self.clock.now()))
        self.each(worker, lambda _: call)

    @rule(worker=WORKER, workflow_id=WORKFLOW_ID, event=CONTROL)
    def control(self, worker: str, workflow_id: str, event: Transition) -> None:
        call = Call("control", (workflow_id, event, self.clock.now(), "because"))
        self.each(worker, lambda _: call)

    @rule(worker=WORKER, lease=LEASE, limit=LIMIT, handlers=HANDLERS)
    def claim(
        self, worker: str, lease: timedelta, limit: int, handlers: Collection[str] | None
    ) -> None:
        self.claim_from(self.subjects, worker, lease, limit, handlers)

    @rule(worker=WORKER, lease=LEASE)
    def claim_again(self, worker: str, lease: timedelta) -> None:
        self.take_over(worker, lease)

    @rule(worker=WORKER, ago=st.lists(AGO, min_size=1, max_size=4))
    def history(self, worker: str, ago: list[int]) -> None:
        for subject in self.subjects:
            chosen = [back(subject.claims, one) for one in ago]
            claims = list({claim.workflow_id: claim for claim in chosen}.values())
            self.runner.run(subject.perform(worker, Call("history", (claims,))))

    @rule(worker=WORKER, ago=st.lists(AGO, min_size=1, max_size=4, unique=True), lease=LEASE)
    def renew(self, worker: str, ago: list[int], lease: timedelta) -> None:
        self.under_claims(worker, "renew", ago, self.clock.now(), lease)

    @rule(worker=WORKER, ago=AGO, move=RECORDING)
    def record(self, worker: str, ago: int, move: Move) -> None:
        self.move(worker, [(ago, move)])

    @rule(worker=WORKER, ago=AGO, move=ENDING)
    def end(self, worker: str, ago: int, move: Move) -> None:
        self.move(worker, [(ago, move)])

    @rule(
        worker=WORKER,
        moves=st.lists(st.tuples(AGO, RECORDING | ENDING), min_size=2, max_size=4),
    )
    def together(self, worker: str, moves: list[tuple[int, Move]]) -> None:
        self.move(worker, moves)

    @rule(worker=WORKER, ago=AGO)
    def repeat(self, worker: str, ago: int) -> None:
        for subject in self.subjects:
            call = back(subject.calls, ago)
            if not (self.may_be_namesakes and call.name in ("create", "create_many")):
                self.runner.run(subject.perform(worker, call))

    @rule(span=JUMP)
    def jump(self, span: timedelta) -> None:
        self.let_pass(span)


class Rivalry(Comparison):
    """Workers that claim at the same moment besides, of whom nobody can tell who gets what."""

    @rule(lease=LEASE, limit=LIMIT)
    def claim_together(self, lease: timedelta, limit: int) -> None:
        for subject in self.subjects:
            self.runner.run(subject.claim_together(self.clock.now(), lease, limit))

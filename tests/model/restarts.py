"""Calls by which a workflow with records starts over, which are rarely drawn in this order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from bluestreak_core import NewMessage
from tests.model.call import (
    AGO,
    LEASE,
    MESSAGE_ID,
    RECORD_IDS,
    RECORDING,
    VALUE,
    WORKER,
    WORKERS,
    Call,
    Move,
)
from tests.model.calling import Calling, Runs

_STALE, _OWN, _NEXT = range(3)
"""The claims of the story: the one that was taken over, its successor, and that of the restart."""


class Restarts(Calling):
    """What `SupportsRestart` asks for."""

    @rule(
        worker=WORKER,
        ago=AGO,
        lease=LEASE,
        message_id=MESSAGE_ID,
        receiver=st.sampled_from([_STALE, _OWN]),
        before=st.lists(st.tuples(st.sampled_from([_STALE, _OWN]), RECORDING), max_size=2),
        restarters=st.sampled_from([[_OWN], [_OWN, _OWN], [_STALE, _OWN], [_STALE]]),
        input=VALUE,
        all_=st.booleans(),
        after=st.lists(st.tuples(st.integers(_STALE, _NEXT), RECORDING), max_size=2),
    )
    def start_over(
        self,
        *,
        worker: str,
        ago: int,
        lease: timedelta,
        message_id: str,
        receiver: int,
        before: list[tuple[int, Move]],
        restarters: list[int],
        input: Any,
        all_: bool,
        after: list[tuple[int, Move]],
    ) -> None:
        """Record and receive something, restart, and do so again, beside a stale run."""
        step_id = RECORD_IDS[0]
        runs = self.runs(ago)
        self.take_over(worker, lease, runs)
        self._send(runs, message_id)
        received = (receiver, ("receive", step_id, ("m",), False))
        restarts = [(run, ("restart", input, all_)) for run in restarters]
        self.follow(worker, runs, [received, *before, *restarts])
        self.take_over(worker, lease, runs)
        again = (_NEXT, ("receive", step_id, ("m",), False))
        self.follow(worker, runs, [*after, again])
        for subject, claims in zip(self.subjects, runs, strict=True):
            self.runner.run(subject.perform(worker, Call("history", (claims[-1:],))))

    def _send(self, runs: Runs, message_id: str) -> None:
        now = self.clock.now()
        for subject, claims in zip(self.subjects, runs, strict=True):
            message = NewMessage(
                workflow_id=claims[0].workflow_id,
                message_id=message_id,
                name="m",
                payload=message_id,
                sent_at=now,
            )
            self.runner.run(subject.perform(WORKERS[0], Call("send", (message,))))

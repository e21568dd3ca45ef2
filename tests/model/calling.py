"""How each subject gets the same calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from hypothesis.stateful import RuleBasedStateMachine

from bluestreak_core import Claim
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock
from tests.model.call import SECOND, WORKFLOW_IDS, Call, Move
from tests.model.subject import Subject

_MILLISECOND = timedelta(milliseconds=1)

Runs: TypeAlias = Sequence[list[Claim]]
"""For each subject, the claims on one workflow that a story is about, the oldest first."""


class Calling(RuleBasedStateMachine):
    """Makes the same calls on each subject, and compares what comes of them.

    What is drawn never depends on what a store has done, so that an example can be repeated.
    """

    def __init__(
        self, runner: asyncio.Runner, clock: ManualClock, subjects: Sequence[Subject]
    ) -> None:
        super().__init__()
        self.runner = runner
        self.clock = clock
        self.subjects = subjects
        self.may_be_namesakes = False
        """Whether a workflow may be created under the id of one that was deleted."""
        self._latest = clock.now()

    def creation(self) -> datetime:
        """When a workflow is created: now, but never when one of its id may have been before."""
        now = self.clock.now()
        created_at = max(now, self._latest) + _MILLISECOND if self.may_be_namesakes else now
        self._latest = max(self._latest, created_at)
        return created_at

    def let_pass(self, span: timedelta) -> None:
        """Move the clock, forwards or back."""
        self._latest = max(self._latest, self.clock.now())
        self.clock.advance(span)

    def each(self, worker: str, call: Callable[[Subject], Call]) -> None:
        """Make a call on each subject."""
        for subject in self.subjects:
            self.runner.run(subject.perform(worker, call(subject)))

    def claim_from(
        self,
        subjects: Sequence[Subject],
        worker: str,
        lease: timedelta,
        limit: int = len(WORKFLOW_IDS),
        handlers: Collection[str] | None = None,
    ) -> None:
        """Claim what is due, from some of the subjects."""
        request = ClaimRequest(
            worker=worker, now=self.clock.now(), lease=lease, limit=limit, handlers=handlers
        )
        for subject in subjects:
            self.runner.run(subject.claim(request))

    def runs(self, ago: int) -> Runs:
        """A story's first claim for each subject, in force if any is."""
        return [[subject.held(ago)] for subject in self.subjects]

    def take_over(self, worker: str, lease: timedelta, runs: Runs = ()) -> None:
        """Claim when all the leases of before have run out, and add the new claims to a story's.

        A store that has left the leases to the next call is asked again.
        """
        self.let_pass(10 * SECOND)
        self.claim_from(self.subjects, worker, lease)
        now = self.clock.now()
        left = [subject for subject in self.subjects if subject.reference.due(now, None)]
        self.claim_from(left, worker, lease)
        for subject, claims in zip(self.subjects, runs, strict=False):
            claims.append(subject.newest(claims[0].workflow_id))

    def follow(self, worker: str, runs: Runs, moves: Sequence[tuple[int, Move]]) -> None:
        """Make calls one after another, each under the claim of that number."""
        now = self.clock.now()
        for subject, claims in zip(self.subjects, runs, strict=True):
            for run, move in moves:
                call = subject.call_of(move, claims[run], now)
                self.runner.run(subject.perform(worker, call))

    def under_claims(self, worker: str, name: str, ago: list[int], *args: Any) -> None:
        """Make a call for several claims."""
        for subject in self.subjects:
            claims = [back(subject.claims, one) for one in ago]
            self.runner.run(subject.perform(worker, Call(name, (claims, *args))))

    def move(self, worker: str, moves: list[tuple[int, Move]]) -> None:
        """Make calls under claims of different workflows, the later ones where two are alike."""
        now = self.clock.now()
        for subject in self.subjects:
            calls: dict[str, Call] = {}
            for ago, move in moves:
                claim = back(subject.claims, ago)
                calls[claim.workflow_id] = subject.call_of(move, claim, now)
            self.runner.run(subject.perform(worker, *calls.values()))


def back(list_: Sequence[Any], ago: int) -> Any:
    """The newest of a list, or one that is older by so many."""
    return list_[-1 - ago % len(list_)]

"""How each subject gets the same calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from bluestreak_core.testing import ManualClock
from tests.model.call import Call, Move
from tests.model.subject import Subject

_MILLISECOND = timedelta(milliseconds=1)


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

"""One workflow of a campaign, and all that is known of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from bluestreak_core import Attempt, Nap, Status, Step, Workflow
from tests.chaos.evidence import Evidence, Mail, Sent, Start
from tests.chaos.history import Change
from tests.chaos.ledger import Call, Effect
from tests.chaos.workload import NO_LETTER, Plan

CLOCKS_DIFFER = timedelta(seconds=1)
"""A worker's clock is the server's, as far off as half of the quickest round trip. Here all clocks
are the machine's, which may be very busy."""


class Record(Protocol):
    """Whatever is known of a workflow, by its id."""

    @property
    def workflow_id(self) -> str: ...


_FOR_EVER = datetime.max.replace(tzinfo=UTC)
_STOPPED = (Status.CANCELLED, Status.PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One workflow that is there, and all that is known of it."""

    start: Start
    workflow: Workflow
    steps: Sequence[Step]
    naps: Sequence[Nap]
    attempts: Sequence[Attempt]
    calls: Sequence[Call]
    changes: Sequence[Change]
    mail: Sequence[Mail]
    sent: Sequence[Sent]
    effects: Sequence[Effect]
    source_steps: Sequence[Step]
    """What the workflow has recorded that this one is a fork of."""
    source_naps: Sequence[Nap]
    waited_for: Any
    lease: timedelta
    is_said_to_be_cancelled: bool

    @property
    def plan(self) -> Plan:
        return self.start.order.plan

    @property
    def copied(self) -> Collection[str]:
        return self.start.order.copied

    @property
    def tokens(self) -> dict[str, str]:
        """What each step has stored."""
        return tokens_of(self.steps)

    @property
    def parks(self) -> int:
        """Claims that ended with a nap or a wait, which repeats no step."""
        ends = {nap.wake_up_at for nap in self.naps}
        return sum(
            change.is_move
            and change.after.status is Status.IDLE
            and (change.after.is_waiting or change.after.timeout_at in ends)
            for change in self.changes
        )

    @property
    def stops(self) -> Iterator[tuple[datetime, datetime]]:
        """From when until when it was cancelled or paused."""
        since = None
        for change in self.changes:
            is_stopped = change.is_control and change.after.status in _STOPPED
            if is_stopped and since is None:
                since = change.at
            elif since is not None and change.after.status not in _STOPPED:
                yield since, change.at
                since = None
        if since is not None:
            yield since, _FOR_EVER


def tokens_of(steps: Sequence[Step]) -> dict[str, str]:
    """What each step has stored; a receive that got nothing has stored nothing."""
    return {
        step.step_id: NO_LETTER if step.output is None else step.output["token"] for step in steps
    }


def cases(evidence: Evidence) -> Iterator[Case]:
    """The started workflows that are there, and are not about to be deleted."""
    steps, naps = _by_workflow(evidence.steps), _by_workflow(evidence.naps)
    attempts, calls = _by_workflow(evidence.attempts), _by_workflow(evidence.calls)
    changes, effects = _by_workflow(evidence.history), _by_workflow(evidence.effects)
    mail, sent = _by_workflow(evidence.mail), _by_workflow(evidence.sent)
    for start in evidence.starts:
        name, source = start.order.workflow_id, start.order.source or ""
        workflow = evidence.workflows.get(name)
        if workflow is None or workflow.pruned_at is not None:
            continue
        yield Case(
            start=start,
            workflow=workflow,
            steps=steps.get(name, []),
            naps=naps.get(name, []),
            attempts=attempts.get(name, []),
            calls=calls.get(name, []),
            changes=changes.get(name, []),
            mail=mail.get(name, []),
            sent=sent.get(name, []),
            effects=effects.get(name, []),
            source_steps=steps.get(source, []),
            source_naps=naps.get(source, []),
            waited_for=evidence.results.get(name),
            lease=evidence.lease,
            is_said_to_be_cancelled=name in evidence.cancelled,
        )


R = TypeVar("R", bound=Record)


def _by_workflow(records: Sequence[R]) -> dict[str, list[R]]:
    groups: dict[str, list[R]] = {}
    for record in records:
        groups.setdefault(record.workflow_id, []).append(record)
    return groups

"""What must be so of workflows that are cancelled, paused, retried, forked or deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from bluestreak_core import Status
from tests.chaos.case import CLOCKS_DIFFER, Case, Record, tokens_of
from tests.chaos.evidence import Evidence
from tests.chaos.stories import story_of
from tests.chaos.workload import Fate


def _asked(case: Case) -> Iterator[str]:
    fate = case.start.order.fate
    for change in case.changes:
        if not change.is_control or change.before is None:
            continue
        before, after = change.before.status, change.after.status
        if after is Status.CANCELLED and fate is not Fate.CANCELLED:
            yield f"was cancelled at {change.at}, and nobody has asked for that"
        if after is Status.PAUSED and fate is not Fate.PAUSED:
            yield f"was paused at {change.at}, and nobody has asked for that"
        if before is Status.ABORTED and not case.plan.gives_up:
            yield f"was retried at {change.at}, and nobody has asked for that"
    if case.is_said_to_be_cancelled and case.workflow.status is not Status.CANCELLED:
        yield f"was cancelled, as the answer said, and is {case.workflow.status}"


def _stopped(case: Case) -> Iterator[str]:
    for since, until in case.stops:
        noticed = since + case.lease + CLOCKS_DIFFER
        for call in case.calls:
            if noticed < call.called_at < until:
                yield (
                    f"step {call.step_id!r} was called {call.called_at - since} after it was "
                    f"cancelled or paused, in process {call.pid}"
                )
        for step in case.steps:
            if step.saved_at is not None and noticed < step.saved_at < until:
                late = step.saved_at - since
                yield f"step {step.step_id!r} was recorded {late} after it was cancelled or paused"


def _retried(case: Case) -> Iterator[str]:
    for change in case.changes:
        if change.before is None or change.before.status is not Status.ABORTED:
            continue
        kept = {
            step.step_id
            for step in case.steps
            if step.saved_at is not None and step.saved_at < change.before.timeout_at
        }
        for call in case.calls:
            if call.called_at > change.at and call.step_id in kept:
                yield f"step {call.step_id!r} was recorded, and called again after the retry"


def _forked(case: Case) -> Iterator[str]:
    if case.start.order.source is None:
        return
    theirs = tokens_of(case.source_steps)
    theirs |= {nap.nap_id: str(nap.wake_up_at) for nap in case.source_naps}
    ours = case.tokens | {nap.nap_id: str(nap.wake_up_at) for nap in case.naps}
    for step_id, token in theirs.items():
        if step_id in case.copied and ours.get(step_id) != token:
            yield f"has {ours.get(step_id)} as record {step_id!r}, and its source has {token}"
        if step_id not in case.copied and ours.get(step_id) == token:
            yield f"has a copy of record {step_id!r}, which comes after the fork"
    for call in case.calls:
        if call.step_id in case.copied:
            yield f"step {call.step_id!r} was called, though the fork has copied it"


RULES: Mapping[str, Callable[[Case], Iterator[str]]] = {
    "a workflow is cancelled, paused and retried only when somebody asks": _asked,
    "a cancelled or paused workflow does nothing once its worker has noticed": _stopped,
    "a retried workflow keeps its records": _retried,
    "a fork has the records before its step": _forked,
}


def leftovers(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What is left of workflows that are deleted, and who should not have been: id and account."""
    gone = pruned(evidence)
    fates = {start.order.workflow_id: start.order.fate for start in evidence.starts}
    for workflow_id in gone:
        told = evidence.stories.get(story_of(workflow_id))
        is_cancelled = told is not None and told.is_cancelled
        if fates.get(workflow_id) is not Fate.CANCELLED and not is_cancelled:
            yield workflow_id, "was deleted, and nobody has cancelled it"
    left: Mapping[str, Sequence[Record]] = {
        "step": evidence.steps,
        "nap": evidence.naps,
        "attempt": evidence.attempts,
        "message": evidence.mail,
    }
    for kind, records in left.items():
        for record in records:
            if record.workflow_id in gone:
                yield record.workflow_id, f"is deleted, and a {kind} of it is left"


def pruned(evidence: Evidence) -> set[str]:
    """The workflows that were marked for deletion and are gone."""
    marked = {change.workflow_id for change in evidence.history if change.after.is_pruned}
    return marked - evidence.workflows.keys()

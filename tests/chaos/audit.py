"""What must be so whatever was done to the processes and the servers.

Each rule looks at one workflow and says in words what is not as it must be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from bluestreak_core import Status
from bluestreak_core.machine import TRANSITIONS
from tests.chaos import control_audit, mail_audit, story_audit
from tests.chaos.case import CLOCKS_DIFFER, Case, cases
from tests.chaos.evidence import Evidence
from tests.chaos.stories import story_of

_DELETED = "what is deleted is gone entirely"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A promise that was not kept. `about` is a workflow, a worker or a document."""

    rule: str
    about: str
    what: str

    def __str__(self) -> str:
        return f"{self.about}: {self.what}   [{self.rule}]"


def audit(evidence: Evidence) -> list[Violation]:
    """All that is not as it must be."""
    found = [
        Violation(rule="a worker outlives what is done to others", about="workers", what=complaint)
        for complaint in evidence.complaints
    ]
    found += [
        Violation(
            rule="records are only ever added",
            about=f"{odd.collection} {odd.key}",
            what=odd.operation,
        )
        for odd in evidence.odd
    ]
    found += _unstarted(evidence)
    found += [
        Violation(rule=_DELETED, about=f"workflow {name}", what=what)
        for name, what in control_audit.leftovers(evidence)
    ]
    found += [
        Violation(rule=rule, about=f"workflow {name}", what=what)
        for rule, look_at_all in story_audit.RULES.items()
        for name, what in look_at_all(evidence)
    ]
    for case in cases(evidence):
        for rule, look in RULES.items():
            found += [
                Violation(rule=rule, about=f"workflow {case.workflow.workflow_id}", what=what)
                for what in look(case)
            ]
    return found


# Rules --------------------------------------------------------------------------------------------


def _unstarted(evidence: Evidence) -> Iterator[Violation]:
    """Every start that was accepted is there, no other was refused, and nobody else's is there."""
    rule = "an accepted start is never lost"
    gone = control_audit.pruned(evidence)
    for start in evidence.starts:
        name = start.order.workflow_id
        if start.accepted is not None and name not in {*evidence.workflows, *gone}:
            yield Violation(rule=rule, about=f"workflow {name}", what="is not there")
        if start.accepted is False and not start.asked_again:
            what = "was refused as if it had been there"
            yield Violation(rule=rule, about=f"workflow {name}", what=what)
    ours = {start.order.workflow_id for start in evidence.starts}
    for name in evidence.workflows.keys() - ours:
        if story_of(name) in evidence.stories:
            continue
        yield Violation(rule=rule, about=f"workflow {name}", what="was started by nobody")


def _ends(case: Case) -> Iterator[str]:
    status = case.workflow.status
    # Whether somebody has asked for a cancellation is another rule.
    if status not in (Status.FINISHED, Status.CANCELLED):
        error = case.workflow.error
        yield f"is {status}" + (f": {error.type}: {error.message}" if error else "")


def _result(case: Case) -> Iterator[str]:
    result = case.workflow.result
    if case.workflow.status is not Status.FINISHED:
        return
    if result["saw"] != case.tokens:
        yield f"returned {result['saw']}, and its steps have stored {case.tokens}"
    if case.waited_for is not None and case.waited_for != result:
        yield f"wait() returned {case.waited_for}, and its result is {result}"


def _outputs(case: Case) -> Iterator[str]:
    stored = Counter(step.step_id for step in case.steps)
    for step_id, count in stored.items():
        if count > 1:
            yield f"step {step_id!r} is stored {count} times"
    if case.workflow.status is Status.FINISHED and set(stored) != case.plan.steps:
        yield f"has stored the steps {sorted(stored)} instead of {sorted(case.plan.steps)}"
    returned = {(call.step_id, call.token) for call in case.calls if not call.raised}
    for step_id in case.tokens.keys() - case.plan.receives - {*case.copied}:
        token = case.tokens[step_id]
        if (step_id, token) not in returned:
            yield f"the output {token} of step {step_id!r} was returned by no call"


def _readers(case: Case) -> Iterator[str]:
    tokens = case.tokens
    for call in case.calls:
        for step_id, token in call.saw.items():
            if tokens.get(step_id) != token:
                yield (
                    f"run {call.run} saw {token} as output of step {step_id!r}, "
                    f"which has stored {tokens.get(step_id)}"
                )


def _owners(case: Case) -> Iterator[str]:
    if case.workflow.status is Status.FINISHED and case.changes:
        owner, finisher = case.changes[-1].after.pid, case.workflow.result["pid"]
        if owner != finisher:
            yield f"was finished by process {finisher} while process {owner} had the claim"
    failures = sum(
        change.after.status in (Status.FAILED, Status.ABORTED)
        for change in case.changes
        if change.is_move
    )
    raised = sum(call.raised for call in case.calls)
    # A transaction that takes too long fails, too.
    if failures > raised and not case.plan.transactions:
        yield f"has failed {failures} times, and its steps have raised {raised} times"


def _transitions(case: Case) -> Iterator[str]:
    for change in case.changes:
        if change.before is None:
            continue
        before, after = change.before.status, change.after.status
        if change.before == change.after or change.is_control or change.is_wake:
            continue
        if before.ended and change.after.is_pruned:
            continue
        if before.ended:
            yield f"was changed at {change.at} though it was {before}"
        elif (change.is_claim or change.is_move) and after not in TRANSITIONS[before].values():
            yield f"went from {before} to {after} at {change.at}"
        elif not change.is_claim and before is not Status.RUNNING:
            yield f"was changed at {change.at} by nobody's claim while it was {before}"


def _leases(case: Case) -> Iterator[str]:
    for change in case.changes:
        if change.is_claim and change.before is not None:
            early = change.before.timeout_at - (change.after.timeout_at - case.lease)
            if early > timedelta(0):
                yield f"was claimed {early} too early at {change.at}, while {change.before.status}"


def _claims(case: Case) -> Iterator[str]:
    claims = sum(change.is_claim for change in case.changes)
    if claims != case.workflow.claims:
        yield f"was claimed {claims} times, and says {case.workflow.claims}"
    runs = len({call.run for call in case.calls})
    if runs > claims:
        yield f"was run {runs} times on {claims} claims"


def _calls(case: Case) -> Iterator[str]:
    # A workflow that was cancelled while it was parked has no claim for its end.
    allowed = case.workflow.claims - case.parks + (case.workflow.status is Status.CANCELLED)
    # A transaction calls its function again after a rollback.
    calls = [call for call in case.calls if call.step_id not in case.plan.transactions]
    for step_id, count in Counter(call.step_id for call in calls).items():
        if count > allowed:
            yield f"step {step_id!r} was called {count} times, and the run began {allowed} times"
    for (run, step_id), count in Counter((call.run, call.step_id) for call in calls).items():
        if count > 1:
            yield f"step {step_id!r} was called {count} times by run {run}"


def _naps(case: Case) -> Iterator[str]:
    stored = Counter(nap.nap_id for nap in case.naps)
    if case.workflow.status is Status.FINISHED and stored != Counter(case.plan.naps.keys()):
        yield f"has stored the naps {sorted(stored.elements())} instead of {list(case.plan.naps)}"
    span = timedelta(seconds=case.start.order.seconds)
    for nap in case.naps:
        if nap.nap_id in case.copied:
            continue
        given = nap.wake_up_at - (case.workflow.created_at or nap.wake_up_at - span)
        if given < span - CLOCKS_DIFFER:
            yield f"nap {nap.nap_id!r} of {span} was to end {given} after the start"
        for call in case.calls:
            early = nap.wake_up_at - call.by_store_at
            if call.step_id == case.plan.naps[nap.nap_id] and early > timedelta(0):
                yield f"nap {nap.nap_id!r} ended {early} early, in process {call.pid}"


def _clocks(case: Case) -> Iterator[str]:
    for call in case.calls:
        difference = abs(call.by_store_at - call.called_at)
        if difference > CLOCKS_DIFFER:
            yield f"process {call.pid} was {difference} off the server's time"


RULES: dict[str, Callable[[Case], Iterator[str]]] = {
    "every workflow ends, and ends well": _ends,
    "a result is made of the outputs that are stored": _result,
    "a step stores one output, which one of its calls has returned": _outputs,
    "all readers see the output that is stored": _readers,
    "only the owner moves a workflow": _owners,
    "a claim is ended once, and nothing changes after the end": _transitions,
    "nothing is claimed before it is due": _leases,
    "a claim is run once at most": _claims,
    "a step is called again only after its run was interrupted": _calls,
    "a nap does not end early": _naps,
    "a worker tells the server's time": _clocks,
    **control_audit.RULES,
    **mail_audit.RULES,
}

"""What must be so of children, compensations, generations and callbacks, once all has settled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from bluestreak_core import Status, Workflow
from tests.chaos.case import CLOCKS_DIFFER
from tests.chaos.evidence import Evidence
from tests.chaos.ledger import Call
from tests.chaos.stories import ASK, DEEDS, GENERATIONS, Kind, Story, story_of

Found = Iterator[tuple[str, str]]
"""Workflows, and what is not as it must be."""


def _told(evidence: Evidence, kind: Kind) -> Iterator[tuple[Story, Workflow]]:
    """The workflows of all stories of a kind, and their stories; children, too."""
    for workflow in evidence.workflows.values():
        told = evidence.stories.get(story_of(workflow.workflow_id))
        if told is not None and told.kind is kind and workflow.pruned_at is None:
            yield told, workflow


def _calls(evidence: Evidence, workflow_id: str) -> list[Call]:
    """The calls of its steps, in their order."""
    ours = [call for call in evidence.calls if call.workflow_id == workflow_id]
    return sorted(ours, key=lambda call: call.called_at)


def _ends(evidence: Evidence) -> Found:
    for kind in Kind:
        for told, workflow in _told(evidence, kind):
            ends = {Status.ABORTED} if told.aborts else {Status.FINISHED}
            if told.is_cancelled:
                ends |= {Status.FINISHED, Status.CANCELLED}
            if workflow.status not in ends:
                error = workflow.error
                why = f": {error.type}: {error.message}" if error else ""
                yield workflow.workflow_id, f"is {workflow.status}{why}"


def _outlived(evidence: Evidence) -> Found:
    for _, workflow in _told(evidence, Kind.FAMILY):
        if workflow.unsettled:
            yield workflow.workflow_id, "has ended, and its family was not told"
        if workflow.parent is None:
            continue
        parent = evidence.workflows.get(workflow.parent.workflow_id)
        if (parent is None or parent.status.ended) and not workflow.status.ended:
            yield workflow.workflow_id, f"is {workflow.status}, and its parent has ended"


def _children(evidence: Evidence) -> Found:
    for _, parent in _told(evidence, Kind.FAMILY):
        records = {
            step.step_id: step.output
            for step in evidence.steps
            if step.workflow_id == parent.workflow_id
        }
        seen = []
        for step_id in sorted(step_id for step_id in records if step_id.startswith("child-")):
            seen.append(records[step_id])
            child = evidence.workflows.get(f"{parent.workflow_id}/{step_id}")
            if child is None or child.result != records[step_id]:
                result = None if child is None else child.result
                what = f"has recorded {records[step_id]} of {step_id}, which returned {result}"
                yield parent.workflow_id, what
        if parent.status is Status.FINISHED and parent.result["children"] != seen:
            what = f"returned {parent.result['children']} of its children, and recorded {seen}"
            yield parent.workflow_id, what


def _compensated(evidence: Evidence) -> Found:
    for _, workflow in _told(evidence, Kind.SAGA):
        name = workflow.workflow_id
        called = [call.step_id for call in _calls(evidence, name) if "undo" in call.step_id]
        recorded = Counter(step.step_id for step in evidence.steps if step.workflow_id == name)
        if workflow.status is Status.FINISHED:
            for step_id in dict.fromkeys(called):
                yield name, f"has finished, and {step_id!r} was called"
            continue
        done = _done(evidence, name)
        for n in DEEDS:
            undo, times = f"undo {n}", recorded[f"undo {n}"]
            if n in done and undo not in called:
                yield name, f"is {workflow.status}, and {undo!r} was never called"
            if times != (undo in called):
                yield name, f"has called {undo!r}, and recorded it {times} times"
        first = list(dict.fromkeys(called))
        if first != sorted(first, reverse=True):
            yield name, f"has compensated in the order {first}"


def _done(evidence: Evidence, workflow_id: str) -> set[int]:
    """The deeds that were recorded before anything was undone; a run that was lost comes later."""
    since = min(
        (
            change.at
            for change in evidence.history
            if change.workflow_id == workflow_id and change.after.status is Status.COMPENSATING
        ),
        default=None,
    )
    return {
        int(step.step_id.removeprefix("do "))
        for step in evidence.steps
        if step.workflow_id == workflow_id
        and step.step_id.startswith("do ")
        and (since is None or step.saved_at is None or step.saved_at < since - CLOCKS_DIFFER)
    }


def _generations(evidence: Evidence) -> Found:
    for _, workflow in _told(evidence, Kind.DYNASTY):
        name, calls = workflow.workflow_id, _calls(evidence, workflow.workflow_id)
        for call in calls:
            own, read = call.saw["generation"], call.saw.get("read")
            if read is not None and read != own:
                yield name, f"generation {own} has read a record of generation {read}"
        if workflow.status is not Status.FINISHED:
            continue
        reigned = {call.saw["generation"] for call in calls if call.step_id == "reign"}
        judged = {call.saw["generation"] for call in calls if call.step_id == "judge"}
        expected = {str(number) for number in range(GENERATIONS)}
        if not reigned == judged == expected or workflow.generation != GENERATIONS - 1:
            yield name, f"has finished in generation {workflow.generation}, after {sorted(reigned)}"
        tokens = {call.token: call.saw["generation"] for call in calls if call.step_id == "reign"}
        if tokens.get(workflow.result["token"]) != str(GENERATIONS - 1):
            yield name, f"returned {workflow.result['token']}, which is none of its last generation"


def _answered(evidence: Evidence) -> Found:
    for _, workflow in _told(evidence, Kind.QUESTION):
        name = workflow.workflow_id
        answers = [answer for answer in evidence.answers if answer.workflow_id == name]
        firsts = [answer.given for answer in answers if answer.is_first]
        if len(firsts) > 1:
            yield name, f"has taken each of {firsts} for the first answer"
        for answer in answers:
            if answer.is_first and answer.holds != answer.given:
                yield name, f"was answered {answer.given} first, and said {answer.holds}"
            if workflow.status is Status.FINISHED and answer.holds != workflow.result:
                yield name, f"was answered {answer.holds}, and returned {workflow.result}"
        given = {answer.given for answer in answers}
        if workflow.status is Status.FINISHED and workflow.result not in given:
            yield name, f"returned {workflow.result}, which nobody has answered"
        if not any(call.step_id == ASK for call in _calls(evidence, name)):
            yield name, "has asked nobody"


RULES: Mapping[str, Callable[[Evidence], Found]] = {
    "a story ends as it must": _ends,
    "no child outlives its parent": _outlived,
    "a parent sees what its child has returned": _children,
    "what was done is undone in reverse, once recorded, and only then": _compensated,
    "no generation sees the records of another": _generations,
    "a callback is answered once": _answered,
}

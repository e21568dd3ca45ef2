"""The audit finds what must not come of children, compensations, generations and callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bluestreak_core import Parent, Status, Step, Workflow
from tests.chaos import story_audit
from tests.chaos.audit import audit
from tests.chaos.evidence import Evidence
from tests.chaos.history import Change, State
from tests.chaos.ledger import Call
from tests.chaos.stories import ASK, Answer, Kind, Story

T0 = datetime(2030, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def workflow(workflow_id: str, kind: Kind, **facts: Any) -> Workflow:
    return Workflow(
        workflow_id=workflow_id,
        handler_id=kind,
        input=0,
        timeout_at=at(0),
        created_at=at(0),
        **{"status": Status.FINISHED, **facts},
    )


def step(workflow_id: str, step_id: str, output: Any, seconds: float) -> Step:
    return Step(workflow_id=workflow_id, step_id=step_id, output=output, saved_at=at(seconds))


def call(step_id: str, token: str, seconds: float, /, **saw: str) -> Call:
    return Call(
        workflow_id="s1",
        step_id=step_id,
        token=token,
        run="r",
        pid=100,
        called_at=at(seconds),
        by_store_at=at(seconds),
        saw=saw,
    )


def told(
    kind: Kind,
    workflows: Sequence[Workflow],
    steps: Sequence[Step] = (),
    calls: Sequence[Call] = (),
    **facts: Any,
) -> Evidence:
    story = Story(workflow_id="s1", kind=kind, is_cancelled=kind in (Kind.FAMILY, Kind.SAGA))
    return Evidence(
        lease=timedelta(seconds=2),
        starts=[],
        results={},
        calls=calls,
        workflows={workflow.workflow_id: workflow for workflow in workflows},
        steps=steps,
        naps=[],
        history=[],
        stories={"s1": story},
        **facts,
    )


PARENT = Parent(workflow_id="s1", created_at=at(0))
ONE, TWO = {"token": "t1", "children": []}, {"token": "t2", "children": []}
FIRST = workflow("s1/child-0", Kind.FAMILY, parent=PARENT, result=ONE)
SECOND = workflow("s1/child-1", Kind.FAMILY, parent=PARENT, result=TWO)
HEAD = workflow("s1", Kind.FAMILY, result={"token": "t0", "children": [ONE, TWO]})
SEEN = [step("s1", "child-0", ONE, 1), step("s1", "child-1", TWO, 1)]
FAMILY = told(Kind.FAMILY, [HEAD, FIRST, SECOND], SEEN)

ENDED = workflow("s1", Kind.SAGA, status=Status.CANCELLED)
DEEDS = [step("s1", f"do {n}", {}, n) for n in (1, 2)]
UNDONE = [step("s1", f"undo {n}", {}, 9) for n in (1, 2)]
UNDOING = [call("undo 2", "u2", 8), call("undo 2", "u2 again", 8.1), call("undo 1", "u1", 9)]
COMPENSATING = Change(
    workflow_id="s1",
    at=at(7),
    before=None,
    after=State(status=Status.COMPENSATING, claim=None, worker=None, timeout_at=at(7), failures=0),
)
SAGA = replace(
    told(Kind.SAGA, [ENDED], [*DEEDS, *UNDONE, step("s1", "do 3", {}, 7.5)], UNDOING),
    history=[COMPENSATING],
)

LAST = workflow("s1", Kind.DYNASTY, generation=4, result={"generation": 4, "token": "t4"})
REIGNS = [call("reign", f"t{n}", n, generation=str(n)) for n in range(5)]
VERDICTS = [call("judge", f"v{n}", n, generation=str(n), read=str(n)) for n in range(5)]
DYNASTY = told(Kind.DYNASTY, [LAST], calls=[*REIGNS, *VERDICTS])

ASKED = workflow("s1", Kind.QUESTION, result="yes")
YES = Answer(workflow_id="s1", given="yes", holds="yes", is_first=True, asked_again=False)
NO = Answer(workflow_id="s1", given="no", holds="yes", is_first=False, asked_again=False)
QUESTION = told(
    Kind.QUESTION, [ASKED], calls=[call(ASK, "q", 1, token="secret")], answers=[YES, NO]
)

MARKED = replace(COMPENSATING.after, status=Status.CANCELLED, is_pruned=True)
DELETED = replace(
    told(Kind.SAGA, []), history=[Change(workflow_id="s1", at=at(9), before=None, after=MARKED)]
)
NOT_CANCELLED = replace(DELETED.stories["s1"], is_cancelled=False)

RIGHT = {
    "family": FAMILY,
    "saga": SAGA,
    "dynasty": DYNASTY,
    "question": QUESTION,
    "deleted": DELETED,
}


@pytest.mark.parametrize("evidence", RIGHT.values(), ids=RIGHT)
def test_nothing_is_found_where_all_is_right(evidence: Evidence) -> None:
    assert audit(evidence) == []


def but(right: Evidence, *workflows: Workflow) -> Evidence:
    """With other workflows in the place of those of their ids."""
    changed = {workflow.workflow_id: workflow for workflow in workflows}
    return replace(right, workflows={**right.workflows, **changed})


VIOLATIONS: dict[str, tuple[Evidence, str]] = {
    "a story is deleted that nobody has cancelled": (
        replace(DELETED, stories={"s1": NOT_CANCELLED}),
        "workflow s1: was deleted, and nobody has cancelled it",
    ),
    "a workflow belongs to no story": (
        replace(QUESTION, stories={}),
        "workflow s1: was started by nobody",
    ),
    "a story does not end": (
        but(QUESTION, replace(ASKED, status=Status.RUNNING)),
        "workflow s1: is running",
    ),
    "a story that nobody has cancelled is cancelled": (
        but(DYNASTY, replace(LAST, status=Status.CANCELLED)),
        "workflow s1: is cancelled",
    ),
    "a child runs on after its parent": (
        but(FAMILY, replace(SECOND, status=Status.IDLE)),
        "workflow s1/child-1: is idle, and its parent has ended",
    ),
    "the family of an ended workflow is not told": (
        but(FAMILY, replace(FIRST, unsettled=True)),
        "workflow s1/child-0: has ended, and its family was not told",
    ),
    "a parent records what its child has not returned": (
        but(FAMILY, replace(SECOND, result=ONE)),
        "of child-1, which returned {'token': 't1', 'children': []}",
    ),
    "a parent returns what it has not recorded": (
        but(FAMILY, replace(HEAD, result={"token": "t0", "children": [TWO, ONE]})),
        "of its children, and recorded",
    ),
    "a registered compensation is not called": (
        replace(SAGA, calls=UNDOING[:2], steps=[*DEEDS, UNDONE[1]]),
        "is cancelled, and 'undo 1' was never called",
    ),
    "a compensation is not recorded": (
        replace(SAGA, steps=[*DEEDS, UNDONE[0]]),
        "has called 'undo 2', and recorded it 0 times",
    ),
    "a compensation is recorded twice": (
        replace(SAGA, steps=[*DEEDS, *UNDONE, UNDONE[0]]),
        "has called 'undo 1', and recorded it 2 times",
    ),
    "compensations are called in the order of the deeds": (
        replace(SAGA, calls=[call("undo 1", "u1", 7.9), *UNDOING]),
        "has compensated in the order ['undo 1', 'undo 2']",
    ),
    "a finished workflow is undone": (
        but(SAGA, replace(ENDED, status=Status.FINISHED)),
        "has finished, and 'undo 2' was called",
    ),
    "a generation reads a record of another": (
        replace(DYNASTY, calls=[*DYNASTY.calls, call("judge", "v", 5, generation="3", read="2")]),
        "generation 3 has read a record of generation 2",
    ),
    "a generation is left out": (
        replace(DYNASTY, calls=[*REIGNS[1:], *VERDICTS]),
        "has finished in generation 4, after ['1', '2', '3', '4']",
    ),
    "a workflow returns what an earlier generation has recorded": (
        but(DYNASTY, replace(LAST, result={"generation": 4, "token": "t3"})),
        "returned t3, which is none of its last generation",
    ),
    "two answers are the first": (
        replace(QUESTION, answers=[YES, replace(NO, is_first=True)]),
        "has taken each of ['yes', 'no'] for the first answer",
    ),
    "the first answer does not hold": (
        replace(QUESTION, answers=[replace(YES, given="no"), replace(NO, given="yes")]),
        "was answered no first, and said yes",
    ),
    "another answer is returned than the one that holds": (
        but(QUESTION, replace(ASKED, result="no")),
        "was answered yes, and returned no",
    ),
    "an answer comes from nowhere": (
        but(replace(QUESTION, answers=[]), replace(ASKED, result="maybe")),
        "returned maybe, which nobody has answered",
    ),
    "a callback is answered that was not handed over": (
        replace(QUESTION, calls=[]),
        "has asked nobody",
    ),
}


@pytest.mark.parametrize(("evidence", "account"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_what_must_not_be_is_found_and_named(evidence: Evidence, account: str) -> None:
    found = [str(violation) for violation in audit(evidence)]
    assert any(account in violation for violation in found), found


def test_every_rule_is_broken_by_one_of_them() -> None:
    broken = {
        violation.rule for evidence, _ in VIOLATIONS.values() for violation in audit(evidence)
    }
    assert broken >= story_audit.RULES.keys()

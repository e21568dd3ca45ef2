"""The audit finds each thing that must not be, in a small history that is right but for that."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bluestreak_core import ErrorRecord, Nap, Status, Step, Workflow
from tests.chaos import control_audit, mail_audit
from tests.chaos.audit import RULES, audit
from tests.chaos.evidence import Evidence, Start
from tests.chaos.history import Change, Odd, State
from tests.chaos.ledger import Call
from tests.chaos.workload import Order

T0 = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=2)
FIRST, SECOND = "host-100-aaaaaaaa", "host-200-bbbbbbbb"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


# A workflow `a, nap, b`. Process 100 calls `a`, sleeps, and is killed after it has called `b`;
# process 200 takes over, calls `b` again, and finishes.
ORDER = Order(workflow_id="w", handler_id="nap", seconds=0.2)
LONG = Order(workflow_id="w", handler_id="nap", seconds=2)
IDLE = State(status=Status.IDLE, claim=None, worker=None, timeout_at=at(0), failures=0)
HELD = replace(IDLE, status=Status.RUNNING, claim="one", worker=FIRST, timeout_at=at(2))
RENEWED = replace(HELD, timeout_at=at(2.6))
TAKEN = replace(HELD, claim="two", worker=SECOND, timeout_at=at(5))
DONE = replace(TAKEN, status=Status.FINISHED)


def change(seconds: float, before: State | None, after: State) -> Change:
    return Change(workflow_id="w", at=at(seconds), before=before, after=after)


CREATED = change(0, None, IDLE)
HISTORY = [
    CREATED,
    change(0, IDLE, HELD),
    change(0.6, HELD, RENEWED),
    change(3, RENEWED, TAKEN),
    change(3.2, TAKEN, DONE),
]


def call(step_id: str, token: str, pid: int, seconds: float, **facts: Any) -> Call:
    return Call(
        workflow_id="w",
        step_id=step_id,
        token=token,
        run=f"run in {pid}",
        pid=pid,
        called_at=at(seconds),
        by_store_at=at(seconds),
        **{"saw": {} if step_id == "a" else {"a": "a1"}, **facts},
    )


A, LOST_B, B = call("a", "a1", 100, 0.1), call("b", "b1", 100, 0.4), call("b", "b2", 200, 3.1)
RESULT = {"run": "run in 200", "pid": 200, "saw": {"a": "a1", "b": "b2"}}
WORKFLOW = Workflow(
    workflow_id="w",
    handler_id="nap",
    input=0.2,
    status=Status.FINISHED,
    timeout_at=at(5),
    claims=2,
    created_at=at(0),
    worker=SECOND,
    result=RESULT,
)
STEP_A = Step(workflow_id="w", step_id="a", output={"token": "a1"})
STEP_B = Step(workflow_id="w", step_id="b", output={"token": "b2"})
NAP = Nap(workflow_id="w", nap_id="nap", wake_up_at=at(0.35))
START = Start(order=ORDER, accepted=True)

RIGHT = Evidence(
    lease=LEASE,
    starts=[START],
    results={"w": RESULT},
    calls=[A, LOST_B, B],
    workflows={"w": WORKFLOW},
    steps=[STEP_A, STEP_B],
    naps=[NAP],
    history=HISTORY,
)


def workflow(**facts: Any) -> Evidence:
    return replace(RIGHT, workflows={"w": replace(WORKFLOW, **facts)})


def history(*changes: Change, claims: int = 2) -> Evidence:
    return replace(workflow(claims=claims), history=list(changes))


def calls(*calls: Call) -> Evidence:
    return replace(RIGHT, calls=list(calls))


def test_nothing_is_found_where_all_is_right() -> None:
    assert audit(RIGHT) == []


def test_a_start_without_an_answer_may_be_there_or_not() -> None:
    unknown = replace(START, accepted=None)
    assert audit(replace(RIGHT, starts=[unknown])) == []
    assert (
        audit(
            Evidence(
                lease=LEASE,
                starts=[unknown],
                results={},
                calls=[],
                workflows={},
                steps=[],
                naps=[],
                history=[],
            )
        )
        == []
    )
    assert audit(replace(RIGHT, starts=[replace(START, accepted=False, asked_again=True)])) == []


ERROR = ErrorRecord(type="E", message="m", traceback="")
FAILED = replace(HELD, status=Status.FAILED, timeout_at=at(0.7), failures=1)
PARKED = replace(HELD, status=Status.IDLE, timeout_at=NAP.wake_up_at)
RELEASED = replace(PARKED, timeout_at=at(0.5))

VIOLATIONS: dict[str, tuple[Evidence, str]] = {
    "a workflow that was accepted is gone": (
        replace(RIGHT, workflows={}),
        "workflow w: is not there",
    ),
    "a first start is refused": (
        replace(RIGHT, starts=[replace(START, accepted=False)]),
        "refused as if it had been there",
    ),
    "a workflow comes from nowhere": (replace(RIGHT, starts=[]), "was started by nobody"),
    "a workflow has not ended": (workflow(status=Status.RUNNING), "is running"),
    "a workflow was given up": (workflow(status=Status.ABORTED, error=ERROR), "is aborted: E: m"),
    "a workflow whose start was not answered has not ended": (
        replace(workflow(status=Status.IDLE), starts=[replace(START, accepted=None)]),
        "is idle",
    ),
    "a result is made of another output": (
        workflow(result={**RESULT, "saw": {"a": "a1", "b": "b1"}}),
        "returned {'a': 'a1', 'b': 'b1'}, and its steps have stored",
    ),
    "wait() has returned another result": (
        replace(RIGHT, results={"w": {**RESULT, "run": "another"}}),
        "wait() returned",
    ),
    "a step is stored twice": (
        replace(RIGHT, steps=[STEP_A, STEP_B, STEP_B]),
        "step 'b' is stored 2 times",
    ),
    "a step is not stored": (
        replace(
            RIGHT,
            steps=[STEP_A],
            workflows={"w": replace(WORKFLOW, result={**RESULT, "saw": {"a": "a1"}})},
        ),
        "has stored the steps ['a'] instead of ['a', 'b']",
    ),
    "a step is stored that was never called": (
        calls(A, LOST_B),
        "the output b2 of step 'b' was returned by no call",
    ),
    "a step is stored whose call raised": (
        calls(A, LOST_B, replace(B, raised=True)),
        "the output b2 of step 'b' was returned by no call",
    ),
    "a run that was lost has seen another output": (
        calls(A, replace(LOST_B, saw={"a": "a0"}), B),
        "run run in 100 saw a0 as output of step 'a', which has stored a1",
    ),
    "a workflow is finished by who has lost it": (
        workflow(result={**RESULT, "pid": 100}),
        "was finished by process 100 while process 200 had the claim",
    ),
    "a workflow fails without a step that raised": (
        history(
            CREATED,
            change(0, IDLE, HELD),
            change(0.6, HELD, FAILED),
            change(3, FAILED, replace(TAKEN, failures=1)),
            change(3.2, replace(TAKEN, failures=1), replace(DONE, failures=1)),
        ),
        "has failed 1 times, and its steps have raised 0 times",
    ),
    "a workflow is changed after its end": (
        history(*HISTORY, change(4, DONE, replace(DONE, timeout_at=at(9)))),
        "was changed at 2030-01-01 00:00:04+00:00 though it was finished",
    ),
    "a workflow is claimed after its end": (
        history(
            *HISTORY, change(6, DONE, replace(TAKEN, claim="three", timeout_at=at(8))), claims=3
        ),
        "though it was finished",
    ),
    "two claims have both ended": (
        history(
            *HISTORY[:3],
            change(0.7, RENEWED, RELEASED),
            change(0.8, RELEASED, replace(RELEASED, status=Status.FAILED, timeout_at=at(0.9))),
            *HISTORY[3:],
        ),
        "went from idle to failed",
    ),
    "a claim is renewed that has ended": (
        history(
            *HISTORY[:2],
            change(0.5, HELD, RELEASED),
            change(0.6, RELEASED, replace(RELEASED, timeout_at=at(0.7))),
        ),
        "by nobody's claim while it was idle",
    ),
    "a claim is taken over before its lease ends": (
        history(*HISTORY[:3], change(2.5, RENEWED, replace(TAKEN, timeout_at=at(4.5)))),
        "was claimed 0:00:00.100000 too early",
    ),
    "a parked workflow is claimed before its nap ends": (
        history(
            *HISTORY[:2],
            change(0.2, HELD, PARKED),
            change(0.3, PARKED, replace(TAKEN, timeout_at=at(2.3))),
        ),
        "was claimed 0:00:00.050000 too early at 2030-01-01 00:00:00.300000+00:00, while idle",
    ),
    "a claim is not counted": (workflow(claims=3), "was claimed 2 times, and says 3"),
    "a workflow is run without a claim": (
        calls(A, LOST_B, B, replace(B, run="a third", token="b3")),
        "was run 3 times on 2 claims",
    ),
    "a step is called by each of more runs than began": (
        calls(A, LOST_B, B, replace(B, run="a third", token="b3")),
        "step 'b' was called 3 times, and the run began 2 times",
    ),
    "a step is called again after a nap that was parked": (
        history(
            *HISTORY[:2],
            change(0.2, HELD, PARKED),
            change(0.4, PARKED, replace(TAKEN, timeout_at=at(2.4))),
            change(0.5, replace(TAKEN, timeout_at=at(2.4)), replace(DONE, timeout_at=at(2.4))),
        ),
        "step 'b' was called 2 times, and the run began 1 times",
    ),
    "a run calls a step twice": (
        calls(A, LOST_B, replace(LOST_B, run=B.run, token="b3"), B),
        "step 'b' was called 2 times by run run in 200",
    ),
    "a nap is not stored": (replace(RIGHT, naps=[]), "has stored the naps [] instead of ['nap']"),
    "a nap is stored twice": (
        replace(RIGHT, naps=[NAP, NAP]),
        "has stored the naps ['nap', 'nap']",
    ),
    "a nap is shorter than it was to be": (
        replace(RIGHT, starts=[replace(START, order=LONG)]),
        "nap 'nap' of 0:00:02 was to end 0:00:00.350000 after the start",
    ),
    "a nap ends early": (
        calls(A, replace(LOST_B, by_store_at=at(0.3)), B),
        "nap 'nap' ended 0:00:00.050000 early, in process 100",
    ),
    "a worker's clock is wrong": (
        calls(A, LOST_B, replace(B, called_at=at(1.5))),
        "process 200 was 0:00:01.600000 off the server's time",
    ),
    "a recorded step is changed or removed": (
        replace(RIGHT, odd=[Odd(collection="steps", operation="d", key=7)]),
        "steps 7: d",
    ),
    "a worker ends by itself": (
        replace(RIGHT, complaints=["worker 100 ended by itself, with 1"]),
        "worker 100 ended by itself",
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
    assert broken >= RULES.keys() - control_audit.RULES.keys() - mail_audit.RULES.keys()

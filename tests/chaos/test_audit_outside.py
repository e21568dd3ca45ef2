"""The audit finds what must not come of what is done to workflows from outside, and of messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from bluestreak_core import Attempt, ErrorRecord, Nap, Receipt, Status, Step, Workflow
from tests.chaos import control_audit, mail_audit
from tests.chaos.audit import audit
from tests.chaos.evidence import Evidence, Mail, Sent, Start
from tests.chaos.history import Change, State
from tests.chaos.ledger import Call, Effect
from tests.chaos.workload import NO_LETTER, Fate, Order

T0 = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=2)
WORKER = "host-100-aaaaaaaa"
ERROR = ErrorRecord(type="Abort", message="m", traceback="")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def held(claim: str, seconds: float) -> State:
    """What a claim of an instant makes of a workflow."""
    until = at(seconds) + LEASE
    return State(status=Status.RUNNING, claim=claim, worker=WORKER, timeout_at=until, failures=0)


def ended(status: Status, seconds: float) -> State:
    return State(status=status, claim=None, worker=WORKER, timeout_at=at(seconds), failures=0)


IDLE = State(status=Status.IDLE, claim=None, worker=None, timeout_at=at(0), failures=0)


def history(workflow_id: str, *moves: tuple[float, State]) -> list[Change]:
    """A workflow is created, claimed by "one", and then moved."""
    states: list[tuple[float, State | None, State]] = [(0, None, IDLE), (0, IDLE, held("one", 0))]
    for seconds, after in moves:
        states.append((seconds, states[-1][2], after))
    return [
        Change(workflow_id=workflow_id, at=at(seconds), before=before, after=after)
        for seconds, before, after in states
    ]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One workflow, whose steps are recorded a tenth of a second after their calls."""

    handler_id: str
    tokens: dict[str, str]
    status: Status = Status.FINISHED
    fate: Fate = Fate.LEFT_ALONE
    claims: int = 1
    moves: Sequence[tuple[float, State]] = ()
    source: str | None = None
    before: str | None = None


def evidence(name: str, case: Case) -> Evidence:
    order = Order(
        workflow_id=name,
        handler_id=case.handler_id,
        seconds=1,
        fate=case.fate,
        source=case.source,
        before=case.before,
    )
    moves = case.moves or [(1, replace(held("one", 0), status=Status.FINISHED))]
    is_finished = case.status is Status.FINISHED
    workflow = Workflow(
        workflow_id=name,
        handler_id=case.handler_id,
        input=1,
        status=case.status,
        timeout_at=at(9),
        claims=case.claims,
        created_at=at(0),
        result={"run": "r", "pid": 100, "saw": case.tokens} if is_finished else None,
    )
    return Evidence(
        lease=LEASE,
        starts=[Start(order=order, accepted=True)],
        results={},
        calls=[
            call(name, step_id, token, place / 10)
            for place, (step_id, token) in enumerate(case.tokens.items())
            if step_id not in (order.plan.receives | order.copied)
        ],
        workflows={name: workflow},
        steps=[
            Step(
                workflow_id=name,
                step_id=step_id,
                output=None if token == NO_LETTER else {"token": token},
                saved_at=at((place + 1) / 10),
            )
            for place, (step_id, token) in enumerate(case.tokens.items())
        ],
        naps=[],
        history=history(name, *moves),
    )


def call(workflow_id: str, step_id: str, token: str, seconds: float, **facts: Any) -> Call:
    return Call(
        workflow_id=workflow_id,
        step_id=step_id,
        token=token,
        pid=100,
        called_at=at(seconds),
        by_store_at=at(seconds),
        saw={},
        **{"run": "r", **facts},
    )


# The cases ----------------------------------------------------------------------------------------

ABC = {"a": "a1", "b": "b1", "c": "c1"}

CANCELLED = evidence(
    "w",
    Case(
        handler_id="chain",
        tokens={"a": "a1", "b": "b1"},
        status=Status.CANCELLED,
        fate=Fate.CANCELLED,
        moves=[(0.5, ended(Status.CANCELLED, 0.5))],
    ),
)
CANCELLED = replace(CANCELLED, cancelled={"w"})

PAUSED = evidence(
    "w",
    Case(
        handler_id="chain",
        tokens=ABC,
        fate=Fate.PAUSED,
        claims=2,
        moves=[
            (0.5, ended(Status.PAUSED, 0.5)),
            (6, ended(Status.IDLE, 0.5)),
            (6, held("two", 6)),
            (7, replace(held("two", 6), status=Status.FINISHED)),
        ],
    ),
)

RETRIED = evidence(
    "w",
    Case(
        handler_id="hopeless",
        tokens=ABC,
        claims=2,
        moves=[
            (0.15, ended(Status.ABORTED, 0.15)),
            (0.16, ended(Status.IDLE, 0.16)),
            (0.16, held("two", 0.16)),
            (1, replace(held("two", 0.16), status=Status.FINISHED)),
        ],
    ),
)
RETRIED = replace(
    RETRIED, calls=[call("w", "b", "b0", 0.12, raised=True, run="an earlier one"), *RETRIED.calls]
)


def both(source: Evidence, fork: Evidence) -> Evidence:
    return replace(
        source,
        starts=[*source.starts, *fork.starts],
        calls=[*source.calls, *fork.calls],
        workflows={**source.workflows, **fork.workflows},
        steps=[*source.steps, *fork.steps],
        naps=[*source.naps, *fork.naps],
        history=[*source.history, *fork.history],
    )


FORKED = both(
    evidence("w", Case(handler_id="chain", tokens=ABC, fate=Fate.FORKED)),
    evidence("f", Case(handler_id="chain", tokens={**ABC, "c": "c2"}, source="w", before="c")),
)

PAID = {"a": "a1", "pay": "p1", "b": "b1", "refund": "r1"}
TRANSFER = replace(
    evidence("w", Case(handler_id="transfer", tokens=PAID)),
    effects=[
        Effect(workflow_id="w", step_id="pay", token="p1"),
        Effect(workflow_id="w", step_id="refund", token="r1"),
    ],
)

MAIL = {"first": "w/0", "a": "a1", "second": NO_LETTER, "b": "b1", "third": "w/1", "c": "c1"}
LETTERS = evidence("w", Case(handler_id="letters", tokens=MAIL))
LETTERS = replace(
    LETTERS,
    steps=[
        replace(
            step,
            receipt=None
            if step.step_id in "abc"
            else Receipt(
                message_id=None if step.output is None else step.output["token"], name="letter"
            ),
        )
        for step in LETTERS.steps
    ],
    attempts=[
        Attempt(
            workflow_id="w",
            step_id="second",
            round=0,
            number=0,
            error=ERROR,
            retry_at=at(0.3),
            saved_at=at(0.25),
        )
    ],
    mail=[Mail(workflow_id="w", message_id=f"w/{number}", is_refused=False) for number in range(3)],
    sent=[
        Sent(workflow_id="w", message_id=f"w/{number}", is_new=True, answered_at=at(number))
        for number in range(3)
    ],
)

MARKED = replace(ended(Status.CANCELLED, 0), is_pruned=True)
PRUNED = replace(
    CANCELLED,
    workflows={},
    steps=[],
    history=[*CANCELLED.history, *history("w", (9, MARKED))[-1:]],
)

RIGHT = {
    "cancelled": CANCELLED,
    "paused": PAUSED,
    "retried": RETRIED,
    "forked": FORKED,
    "in transactions": TRANSFER,
    "with letters": LETTERS,
    "pruned": PRUNED,
}


@pytest.mark.parametrize("evidence", RIGHT.values(), ids=RIGHT)
def test_nothing_is_found_where_all_is_right(evidence: Evidence) -> None:
    assert audit(evidence) == []


# What is not right --------------------------------------------------------------------------------

R = TypeVar("R")


def but(records: Sequence[R], is_meant: Callable[[R], bool], **facts: Any) -> list[R]:
    """These records, one of them with other facts."""
    changed = [replace(each, **facts) if is_meant(each) else each for each in records]  # type: ignore[type-var]
    assert changed != list(records)
    return changed


def is_step(step_id: str, workflow_id: str = "w") -> Callable[[Step], bool]:
    return lambda step: (step.workflow_id, step.step_id) == (workflow_id, step_id)


def fated(right: Evidence, fate: Fate) -> Evidence:
    order = replace(right.starts[0].order, fate=fate)
    return replace(right, starts=[replace(right.starts[0], order=order), *right.starts[1:]])


MESSAGES = LETTERS.mail
NONE_NEW = Receipt(message_id="w/0", name="letter")

VIOLATIONS: dict[str, tuple[Evidence, str]] = {
    "a workflow is cancelled by nobody": (
        fated(CANCELLED, Fate.LEFT_ALONE),
        "was cancelled at 2030-01-01 00:00:00.500000+00:00, and nobody has asked",
    ),
    "a workflow is paused by nobody": (fated(PAUSED, Fate.FORKED), "nobody has asked for that"),
    "a workflow is retried by nobody": (
        replace(
            RETRIED,
            starts=[replace(RETRIED.starts[0], order=replace(PAUSED.starts[0].order))],
        ),
        "was retried at",
    ),
    "an accepted cancellation does not hold": (
        replace(
            evidence("w", Case(handler_id="chain", tokens=ABC, fate=Fate.CANCELLED)),
            cancelled={"w"},
        ),
        "was cancelled, as the answer said, and is finished",
    ),
    "a cancelled workflow calls a step when its worker must have noticed": (
        replace(CANCELLED, calls=[*CANCELLED.calls, call("w", "c", "c1", 3.6)]),
        "step 'c' was called 0:00:03.100000 after it was cancelled or paused, in process 100",
    ),
    "a paused workflow calls a step": (
        replace(PAUSED, calls=[*PAUSED.calls, call("w", "c", "c2", 5)]),
        "step 'c' was called 0:00:04.500000 after",
    ),
    "a cancelled workflow records a step when its worker must have noticed": (
        replace(CANCELLED, steps=but(CANCELLED.steps, is_step("b"), saved_at=at(3.6))),
        "step 'b' was recorded 0:00:03.100000 after it was cancelled or paused",
    ),
    "a retried workflow calls a recorded step": (
        replace(RETRIED, calls=[*RETRIED.calls, call("w", "a", "a2", 0.2)]),
        "step 'a' was recorded, and called again after the retry",
    ),
    "a fork has another record": (
        replace(FORKED, steps=but(FORKED.steps, is_step("b", "f"), output={"token": "b2"})),
        "workflow f: has b2 as record 'b', and its source has b1",
    ),
    "a fork has a record that comes after its step": (
        replace(FORKED, steps=but(FORKED.steps, is_step("c", "f"), output={"token": "c1"})),
        "workflow f: has a copy of record 'c'",
    ),
    "a fork calls a step that it has": (
        replace(FORKED, calls=[*FORKED.calls, call("f", "a", "a2", 0.1)]),
        "workflow f: step 'a' was called, though the fork has copied it",
    ),
    "a transaction takes effect twice": (
        replace(TRANSFER, effects=[*TRANSFER.effects, TRANSFER.effects[0]]),
        "transaction 'pay' has written ['p1', 'p1'], and recorded p1",
    ),
    "a transaction is recorded without its effect": (
        replace(TRANSFER, effects=TRANSFER.effects[:1]),
        "transaction 'refund' has written [], and recorded r1",
    ),
    "a transaction takes effect without its record": (
        replace(TRANSFER, steps=[step for step in TRANSFER.steps if step.step_id != "refund"]),
        "transaction 'refund' has written ['r1'], and recorded None",
    ),
    "a message is received twice": (
        replace(LETTERS, steps=but(LETTERS.steps, is_step("third"), receipt=NONE_NEW)),
        "has received message 'w/0' 2 times",
    ),
    "a message is new twice": (
        replace(LETTERS, sent=[*LETTERS.sent, LETTERS.sent[0]]),
        "was said to have got message 'w/0' for the first time 2 times",
    ),
    "a refused message is received": (
        replace(
            LETTERS, mail=but(MESSAGES, lambda mail: mail.message_id == "w/0", is_refused=True)
        ),
        "has received message 'w/0', which was refused",
    ),
    "an acknowledged message is refused": (
        replace(
            LETTERS, mail=but(MESSAGES, lambda mail: mail.message_id == "w/2", is_refused=True)
        ),
        "has refused message 'w/2', which was acknowledged",
    ),
    "an acknowledged message is lost": (
        replace(LETTERS, mail=MESSAGES[:2]),
        "has lost message 'w/2', which was acknowledged",
    ),
    "a message is there twice": (
        replace(LETTERS, mail=[*MESSAGES, MESSAGES[2]]),
        "has message 'w/2' 2 times",
    ),
    "a message comes from nowhere": (
        replace(LETTERS, mail=MESSAGES[1:], sent=LETTERS.sent[1:]),
        "has received message 'w/0', which nobody has sent",
    ),
    "messages are received in another order": (
        replace(
            LETTERS,
            steps=but(LETTERS.steps, is_step("first"), receipt=replace(NONE_NEW, message_id="w/2")),
        ),
        "has received ['w/2', 'w/1']",
    ),
    "a wait gives up too early": (
        replace(LETTERS, steps=but(LETTERS.steps, is_step("second"), saved_at=at(0.2))),
        "receive 'second' gave up at 2030-01-01 00:00:00.200000+00:00, and its time ends at",
    ),
    "a wait gives up though a message is there": (
        replace(
            LETTERS,
            sent=but(LETTERS.sent, lambda sent: sent.message_id == "w/1", answered_at=at(-0.8)),
        ),
        "receive 'second' gave up, and message 'w/1' was there",
    ),
    "a workflow finishes without one of its waits": (
        replace(LETTERS, steps=but(LETTERS.steps, is_step("first"), receipt=None)),
        "has finished without receive 'first'",
    ),
    "a record of a deleted workflow is left": (
        replace(PRUNED, naps=[Nap(workflow_id="w", nap_id="nap", wake_up_at=at(1))]),
        "workflow w: is deleted, and a nap of it is left",
    ),
    "a message to a deleted workflow is left": (
        replace(PRUNED, mail=MESSAGES[:1]),
        "workflow w: is deleted, and a message of it is left",
    ),
    "a workflow is deleted that nobody has cancelled": (
        fated(PRUNED, Fate.PAUSED),
        "workflow w: was deleted, and nobody has cancelled it",
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
    assert broken >= control_audit.RULES.keys() | mail_audit.RULES.keys()

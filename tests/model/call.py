"""Calls of a store, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from bluestreak_core import (
    Attempt,
    Claim,
    ErrorRecord,
    FailedStep,
    Failure,
    Published,
    Status,
    machine,
)

SECOND = timedelta(seconds=1)
ERROR = ErrorRecord(type="ValueError", message="no such card", traceback="Traceback: ...")

# Few instants and few ids, so that they meet: a lease ends when a nap does, and the same record is
# written more than once.
WORKFLOW_IDS = ("w0", "w1", "w2", "w3")
RECORD_IDS = ("r0", "r1")
MESSAGE_IDS = ("i0", "i1", "i2")
WORKERS = ("a", "b")
RIVALS = ("c", "d")

WORKER = st.sampled_from(WORKERS)
MESSAGE_ID = st.sampled_from(MESSAGE_IDS)
WORKFLOW_ID = st.sampled_from(WORKFLOW_IDS)
RECORD_ID = st.sampled_from(RECORD_IDS)
AGO = st.integers(min_value=0, max_value=15)
"""Which of the claims or the calls so far; 0 is the newest."""
LIMIT = st.integers(min_value=1, max_value=4)
HANDLERS = st.sampled_from([None, None, None, ("h",), ("g", "h"), ("g",), ()])
LEASE = st.sampled_from([SECOND, 5 * SECOND, 10 * SECOND])
SPAN = st.sampled_from([0 * SECOND, SECOND, 5 * SECOND, 10 * SECOND, 90 * SECOND])
JUMP = st.sampled_from(
    [SECOND, timedelta(milliseconds=1), 5 * SECOND, 10 * SECOND, 3600 * SECOND, -3 * SECOND]
)
NAMES = st.sampled_from([("m",), ("n",), ("m", "n")])
CONTROL = st.sampled_from(machine.CONTROL)
VALUE = st.sampled_from(
    [
        None,
        7,
        "text",
        b"\0\xff",
        (1, (2, [3])),
        {"a.b": {"$set": [None, True, 1.5]}},
        [datetime(2020, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)],
        {"deep": [object()]},
    ]
)

Move = tuple[Any, ...]
"""A call under some claim, at some instant: its name, and what else it is told."""

_PLAIN = st.sampled_from([None, 7, {"a.b": [1, "x"]}])

RECORDING = st.one_of(
    st.tuples(st.just("save_step"), RECORD_ID, VALUE),
    st.tuples(st.just("save_nap"), RECORD_ID, SPAN),
    st.tuples(st.just("save_attempt"), RECORD_ID, st.integers(1, 2), SPAN | st.none()),
    st.tuples(st.just("fail_step"), RECORD_ID),
    st.tuples(st.just("receive"), RECORD_ID, NAMES, st.booleans()),
    st.tuples(st.just("publish"), st.integers(1, 2), _PLAIN),
    st.tuples(st.just("adopt")),
    st.tuples(st.just("promise")),
)
ENDING = st.one_of(
    st.tuples(st.just("park"), SPAN),
    st.tuples(st.just("park_until_message"), SPAN, NAMES, st.none() | st.integers(0, 3)),
    st.tuples(st.just("release")),
    st.tuples(st.just("fail"), SPAN | st.none()),
    st.tuples(st.just("finish"), VALUE),
    st.tuples(st.just("restart"), VALUE, st.booleans()),
    st.tuples(st.just("give_up")),
    st.tuples(st.just("hand_over")),
)
_ENDINGS_OF_A_RUN = ("park_until_message", "release", "fail", "finish", "restart", "give_up")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the protocol, with its arguments."""

    name: str
    args: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def on(self, target: object) -> Any:
        """Make it; a store's is still to be awaited."""
        return getattr(target, self.name)(*self.args, **self.options)


def _mailbox_call(move: Move, claim: Claim, now: datetime) -> Call:
    match move:
        case ("receive" as name, step_id, names, give_up):
            return Call(name, (claim, step_id, names, now), {"give_up": give_up})
        case (name, span, names, mail):
            return Call(name, (claim, now + span, names, mail, now))
    raise AssertionError(move)


def call_of(move: Move, claim: Claim, now: datetime) -> Call:
    """The call; what ends a run ends in its own way the claim of a workflow that compensates."""
    if claim.workflow.status is Status.COMPENSATING:
        move = _compensating(move)
    if move[0] in ("receive", "park_until_message"):
        return _mailbox_call(move, claim, now)
    args = _recording(move, claim, now) or _ending(move, now) or _of_a_power(move, claim, now)
    return Call(move[0], (claim, *args))


def _recording(move: Move, claim: Claim, now: datetime) -> tuple[Any, ...] | None:
    match move:
        case ("save_step", step_id, output):
            return (step_id, output, now)
        case ("save_nap", nap_id, span):
            return (nap_id, now + span, now)
        case ("save_attempt", step_id, number, span):
            attempt = Attempt(
                workflow_id=claim.workflow_id,
                step_id=step_id,
                round=claim.workflow.retries,
                number=number,
                error=ERROR,
                retry_at=None if span is None else now + span,
                saved_at=now,
            )
            return (attempt,)
        case ("fail_step", step_id):
            return (FailedStep(step_id=step_id, error=ERROR, attempts=2, failed_at=now),)
    return None


def _ending(move: Move, now: datetime) -> tuple[Any, ...] | None:
    match move:
        case ("park" | "postpone", span):
            return (now + span,)
        case ("release" | "hand_over" | "end_compensated",):
            return (now,)
        case ("fail", span):
            return (Failure(error=ERROR, retry_at=None if span is None else now + span), now)
        case ("finish" | "restart", *values):
            return (*values, now)
        case ("give_up",):
            return (ERROR, now)
    return None


def _of_a_power(move: Move, claim: Claim, now: datetime) -> tuple[Any, ...]:
    match move:
        case ("adopt" | "promise",):
            return ()
        case ("publish", number, value):
            generation = claim.workflow.generation
            latest = Published(name="p", number=number, value=value, at=now, generation=generation)
            return ((latest,),)
    raise AssertionError(move)


def _compensating(move: Move) -> Move:
    if move[0] == "park":
        return ("postpone", *move[1:])
    return ("end_compensated",) if move[0] in _ENDINGS_OF_A_RUN else move

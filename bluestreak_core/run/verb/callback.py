"""`ctx.callback`: a token is handed over, and answered from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import count, takewhile
from typing import Any, NamedTuple

from bluestreak_core.argument import (
    Duration,
    check_function,
    check_id,
    to_positive_timedelta,
)
from bluestreak_core.callback import (
    Answer,
    CallbackToken,
    Missing,
    answer_name,
    is_made_for,
    record_id,
)
from bluestreak_core.errors import (
    CallbackFailed,
    CallbackSilent,
    CallbackTimeout,
    FinalMistakes,
    InvalidValue,
)
from bluestreak_core.model import Receipt
from bluestreak_core.retry import Retry
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.hook import WaitKind
from bluestreak_core.run.verb.callback_end import CallbackEnd, heartbeat_id
from bluestreak_core.run.verb.message_wait import (
    aborting,
    await_message,
    check_alone,
    to_limit,
    unusable,
)
from bluestreak_core.run.verb.step import check_retry, step

_MANY = 10**6
"""More tokens than any callback has."""

HandOver = Callable[[str], Any]
"""What hands a token over; it may be async."""


class Terms(NamedTuple):
    """How long a callback waits, for what, and how often its `hand_over` is tried."""

    timeout: Duration | None
    deadline: datetime | None
    heartbeat: Duration | None
    retry: Retry | None
    type: Any


async def callback(frame: Frame, step_id: str, hand_over: HandOver, terms: Terms) -> Any:
    """Return the recorded answer; if there is none, hand a token over and wait for the answer.

    Raises `CallbackFailed` if that is an error, and `CallbackTimeout` if none came in time.
    """
    await frame.check("callback", step_id)
    with FinalMistakes():
        whole_id = frame.step_id(step_id)
        check_id("longest id of a callback's steps", _hand_over_id(whole_id, _MANY))
        name, what = _answer_name(frame, whole_id), f"callback {whole_id!r}"
        check_function("ctx.callback", "callback", whole_id, hand_over)
        limit = to_limit(what, terms.timeout, terms.deadline)
        heartbeat = None
        if terms.heartbeat is not None:
            heartbeat = to_positive_timedelta(f"heartbeat of {what}", terms.heartbeat)
        check_retry(what, terms.retry)
        frame.use_step(whole_id, "callback")
        frame.use_step(heartbeat_id(whole_id))
        for recorded_id in _recorded(frame, whole_id):
            frame.use_step(recorded_id)
        check_alone(frame, whole_id, (name,))
        frame.journal.mailboxes("ctx.callback")
    history = frame.journal.history
    if frame.is_recorded(whole_id):
        receipt, output = history.receipts.get(whole_id), history.steps[whole_id]
    else:
        await _hand_over(frame, step_id, hand_over, terms.retry)
        end = CallbackEnd(frame, whole_id, heartbeat)
        received = await await_message(frame, WaitKind.CALLBACK, whole_id, (name,), limit, end)
        receipt, output = received.receipt, received.output
    return _unpacked(frame, whole_id, receipt, output, terms.type)


async def _hand_over(frame: Frame, step_id: str, hand_over: HandOver, retry: Retry | None) -> None:
    """Hand over a token, unless that is recorded.

    Of a token only a hash is stored, so a run that repeats `hand_over` makes another one. The
    earlier ones stay valid, since they may have arrived. All attempts are those of one step, which
    has the number of the first token, so that a retry policy counts them in all runs. The tokens of
    the workflow that this one is a fork of are passed over.
    """
    whole_id = frame.step_id(step_id)
    steps = frame.journal.history.steps
    first: int | None = None
    for number in count(1):
        is_handed_over = frame.is_recorded(_hand_over_id(whole_id, number))
        if (record := record_id(whole_id, number)) in steps:
            if is_made_for(frame.workflow_id, steps[record]):
                first = first or number
                if first == number and is_handed_over:
                    return
            continue
        first = first or number
        if (text := await _new_token(frame, whole_id, number)) is not None:
            # Bound to its token, which thus is no argument that a hook would see.
            bound = partial(hand_over, text)
            await step(frame, _hand_over_id(step_id, first), bound, (), retry, None)
            return


def _answer_name(frame: Frame, step_id: str) -> str:
    return answer_name(step_id, frame.journal.workflow.generation)


def _hand_over_id(step_id: str, number: int) -> str:
    return f"{step_id}/hand-over/{number}"


def _recorded(frame: Frame, step_id: str) -> Iterator[str]:
    """The ids of the tokens and the hand-overs that earlier runs have recorded."""
    steps = frame.journal.history.steps
    for number in takewhile(lambda number: record_id(step_id, number) in steps, count(1)):
        yield record_id(step_id, number)
        if (handed_over := _hand_over_id(step_id, number)) in steps:
            yield handed_over


async def _new_token(frame: Frame, step_id: str, number: int) -> str | None:
    """Record a new token, and return its text; None if another run has taken the number."""
    token = CallbackToken.draw(
        frame.workflow_id, step_id, number, frame.journal.workflow.generation
    )
    with FinalMistakes():
        frame.use_step(token.record_id)
    with frame.operations.operation("callback", step_id):
        recorded = await frame.record(frame.journal.save_value(token.record_id, token.record))
    return token.text if recorded == token.record else None


def _unpacked(frame: Frame, step_id: str, receipt: Receipt | None, output: Any, type: Any) -> Any:
    """What the handler gets for a record."""
    if receipt is None:
        raise unusable(frame, step_id, "no callback has recorded it")
    answer = Answer.read(output)
    if answer.missing is not None:
        kind = CallbackTimeout if answer.missing is Missing.ANSWER else CallbackSilent
        raise kind(frame.workflow_id, step_id, (_answer_name(frame, step_id),))
    if answer.error is not None:
        raise CallbackFailed(frame.workflow_id, step_id, answer.error)
    if frame.journal.conversion is None:
        return answer.payload
    try:
        return frame.journal.conversion.payload(
            frame.workflow_id, _answer_name(frame, step_id), type, answer.payload
        )
    except InvalidValue as refusal:
        aborting(frame, refusal)
        raise

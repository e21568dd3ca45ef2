"""Callbacks: a token is handed over, and somebody answers it."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Beat,
    CallbackExpired,
    CallbackFailed,
    CallbackSilent,
    CallbackTimeout,
    Claim,
    Context,
    InvalidToken,
    MessageTimeout,
    NewMessage,
    Resolution,
    Retry,
    Status,
    Step,
    Store,
    WorkflowEnded,
    WorkflowNotFound,
)
from bluestreak_core.testing import Environment, ManualClock, StoreWrapper
from tests.arrange import eventually
from tests.engine.arrange import (
    Fleet,
    aborted_by,
    on_memory,
    unread,
    workflow_of,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NAME = "callback/approve"


NOT_MADE_HERE = [
    *('["w","approve",1,"x"]', '["w","approve",1,null]', '["w","approve",1,[]]'),
    *('["w","approve",Infinity,0]', '["w","approve",1,Infinity]', '["w","approve",1.5,0]'),
    *('["w","approve","1",0]', '["w","approve",true,0]', '["w","approve",1,false]'),
]


def _encoded(place: str) -> str:
    return urlsafe_b64encode(place.encode()).decode().rstrip("=")


class Desk:
    """Takes the tokens that are handed over."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def take(self, token: str) -> int:
        self.tokens.append(token)
        return len(self.tokens)

    async def handle(self, ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", self.take)

    @property
    def token(self) -> str:
        (token,) = self.tokens
        return token


@pytest.fixture
def desk() -> Desk:
    return Desk()


# Answers ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("payload", [None, "yes", {"error": "of another kind", "n": [1, None]}])
async def test_the_handler_gets_the_payload(fleet: Fleet, desk: Desk, payload: Any) -> None:
    bluestreak = await fleet.staying(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
        answered = await bluestreak.resolve(desk.token, payload)
        assert answered == Resolution(is_first=True, payload=payload)
        assert await bluestreak.wait("w") == payload
    assert (await workflow_of(bluestreak)).claims == 1


@pytest.mark.asyncio
async def test_a_workflow_is_parked_until_it_is_answered(fleet: Fleet, desk: Desk) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        assert (await workflow_of(bluestreak)).waiting_for == (NAME,)
        first_line = str(await bluestreak.describe("w")).splitlines()[0]
        assert first_line.endswith(": waiting for callback 'approve'")
        await bluestreak.resolve(desk.token, "yes")
        assert await bluestreak.wait("w") == "yes"
    assert len(desk.tokens) == 1
    assert "received 'approve': answer 'yes'" in str(await bluestreak.describe("w"))


@pytest.mark.asyncio
async def test_an_error_is_raised_and_raised_again_in_each_replay(fleet: Fleet, desk: Desk) -> None:
    seen: list[CallbackFailed] = []

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.callback("approve", desk.take)
        except CallbackFailed as failed:
            seen.append(failed)
        if len(seen) < 3:
            raise ValueError
        return "compensated"

    bluestreak = await fleet.handling(handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await eventually(lambda: bool(desk.tokens))
        answered = await bluestreak.resolve(desk.token, error="out of\npaper")
        assert answered == Resolution(is_first=True, error="out of\npaper")
        assert await bluestreak.wait("w") == "compensated"
    described = str(await bluestreak.describe("w"))
    assert r"received 'approve': error 'out of\npaper'" in described
    assert [failed.args for failed in seen] == [("w", "approve", "out of\npaper")] * 3
    assert str(seen[0]) == r"workflow 'w': callback 'approve' failed: out of\npaper"


@pytest.mark.asyncio
@on_memory
async def test_an_error_that_is_not_caught_aborts_the_workflow(fleet: Fleet, desk: Desk) -> None:
    bluestreak = await fleet.handling(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await eventually(lambda: bool(desk.tokens))
        await bluestreak.resolve(desk.token, error="no")
        await aborted_by(bluestreak, CallbackFailed)


@pytest.mark.asyncio
async def test_the_first_answer_wins_and_the_next_ones_get_it(fleet: Fleet, desk: Desk) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    first = await bluestreak.resolve(desk.token, {"by": "ada"})
    assert first.is_first
    later = Resolution(is_first=False, payload={"by": "ada"})
    assert await bluestreak.resolve(desk.token, {"by": "bob"}) == later
    assert await bluestreak.resolve(desk.token, error="no") == later
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == {"by": "ada"}
    assert await bluestreak.resolve(desk.token, {"by": "cyd"}) == later


@pytest.mark.asyncio
async def test_of_a_hundred_answers_at_once_one_wins(fleet: Fleet, desk: Desk) -> None:
    bluestreak = await fleet.staying(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
        answers = await asyncio.gather(
            *(bluestreak.resolve(desk.token, number) for number in range(100))
        )
        winner = await bluestreak.wait("w")
    assert [answer.payload for answer in answers] == [winner] * 100
    assert [number for number, answer in enumerate(answers) if answer.is_first] == [winner]


@pytest.mark.asyncio
async def test_an_answer_may_come_before_the_workflow_waits(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        async def answer(token: str) -> None:
            assert (await bluestreak.resolve(token, "at once")).is_first

        return await ctx.callback("approve", answer, timeout=DAY)

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "at once"
    assert fleet.store.begun["park_until_message"] == 0
    assert (await bluestreak.describe("w")).attempts == ()


# Tokens -------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_only_the_hash_of_a_token_is_stored(fleet: Fleet, desk: Desk) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    timeline = await bluestreak.describe("w")
    token, handed_over = timeline.steps
    assert token.output.keys() == {"workflow_id", "sha256"}
    assert handed_over == Step(
        workflow_id="w", step_id="approve/hand-over/1", output=1, saved_at=handed_over.saved_at
    )
    secret = desk.token.partition(".")[2]
    assert len(secret) >= 43
    assert secret not in repr(timeline)


@pytest.mark.asyncio
async def test_a_token_that_belongs_to_no_callback_is_refused(fleet: Fleet, desk: Desk) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        for workflow_id in ("w", "v"):
            await bluestreak.start(workflow_id, "h")
        await fleet.store.until_returned("park_until_message", 2)
    first, second = desk.tokens
    place, _, secret = first.partition(".")
    wrong = [
        *("", ".", "no token", place, f"{place}.", f".{secret}", secret, f"{place}{secret}"),
        *(first[:-1], f"{first}x", first.swapcase(), "é" + first, f"{first}é", first[1:]),
        second.partition(".")[0] + "." + secret,
        "bnVsbA.x",
        "WzEsMl0.x",
        "WyIiLCIiLDFd.x",
        *(f"{_encoded(place)}.{secret}" for place in NOT_MADE_HERE),
    ]
    for token in wrong:
        for call in (bluestreak.resolve(token, "forged"), bluestreak.beat(token)):
            with pytest.raises(InvalidToken) as refused:
                await call
            assert str(refused.value) == "the token belongs to no callback"
            assert refused.value.args == ()
    assert fleet.store.begun["send"] == fleet.store.begun["beat"] == 0


@pytest.mark.asyncio
async def test_a_fork_hands_over_a_token_of_its_own(fleet: Fleet, desk: Desk) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        await bluestreak.fork("w", "f")
        await fleet.store.until_returned("park_until_message", 2)
        original, forked = desk.tokens
        await bluestreak.resolve(forked, "to the fork")
        assert await bluestreak.wait("f") == "to the fork"
        assert (await workflow_of(bluestreak)).status is Status.IDLE
        await bluestreak.resolve(original, "to the original")
        assert await bluestreak.wait("w") == "to the original"
    assert len(desk.tokens) == 2


@pytest.mark.asyncio
async def test_each_generation_is_answered_by_itself(fleet: Fleet, desk: Desk) -> None:
    async def handle(ctx: Context, answers: list[str]) -> list[str]:
        answers = [*answers, await ctx.callback("approve", desk.take)]
        return answers if len(answers) == 2 else await ctx.restart(answers)

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", [])
        await fleet.store.until_returned("park_until_message")
        await bluestreak.resolve(desk.token, "first")
        await fleet.store.until_returned("park_until_message", 2)
        before, token = desk.tokens
        with pytest.raises(InvalidToken):
            await bluestreak.resolve(before, "late")
        assert (await bluestreak.resolve(token, "second")).is_first
        assert await bluestreak.wait("w") == ["first", "second"]


@pytest.mark.asyncio
async def test_a_fork_has_the_answer_that_was_recorded(fleet: Fleet, desk: Desk) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        await bluestreak.resolve(desk.token, "yes")
        await bluestreak.wait("w")
        await bluestreak.fork("w", "f")
        assert await bluestreak.wait("f") == "yes"
    assert len(desk.tokens) == 1


# The workflow is moved from outside ---------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_answer_to_a_workflow_that_has_ended_is_refused(fleet: Fleet, desk: Desk) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        await bluestreak.cancel("w")
        with pytest.raises(WorkflowEnded, match="'w'"):
            await bluestreak.resolve(desk.token, "too late")
        with pytest.raises(WorkflowEnded, match="'w'"):
            await bluestreak.beat(desk.token)
        await bluestreak.retry("w")
        await fleet.store.until_returned("park_until_message", 2)
        assert (await bluestreak.resolve(desk.token, "in time")).is_first
        assert await bluestreak.wait("w") == "in time"


@pytest.mark.asyncio
async def test_the_answer_to_a_workflow_that_was_cancelled_then_is_given_back(
    fleet: Fleet, desk: Desk
) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    await bluestreak.resolve(desk.token, "yes")
    await bluestreak.cancel("w")
    answer = await bluestreak.resolve(desk.token, "no")
    assert answer == Resolution(is_first=False, payload="yes")


@pytest.mark.asyncio
async def test_an_answer_to_a_workflow_that_finished_without_it_is_refused(fleet: Fleet) -> None:
    tokens: list[str] = []

    async def handle(ctx: Context, input: None) -> None:
        waiting = asyncio.create_task(ctx.callback("approve", tokens.append))
        await ctx.receive("go on", "go on")
        waiting.cancel()

    bluestreak = await fleet.staying(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message", 2)
        await bluestreak.send("w", "go on")
        await bluestreak.wait("w")
    with pytest.raises(WorkflowEnded, match="'w'"):
        await bluestreak.resolve(tokens[0], "too late")


@pytest.mark.asyncio
async def test_a_token_of_a_deleted_workflow_belongs_to_no_callback(
    fleet: Fleet, clock: ManualClock, desk: Desk
) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        await bluestreak.cancel("w")
        clock.advance(DAY)
        await bluestreak.prune(ended_before=clock.now())
        with pytest.raises(InvalidToken):
            await bluestreak.resolve(desk.token, "too late")
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message", 2)
        with pytest.raises(InvalidToken):
            await bluestreak.resolve(desk.tokens[0], "to the one before")
        await bluestreak.resolve(desk.tokens[1], "yes")
        assert await bluestreak.wait("w") == "yes"


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("call", ["send", "beat"])
async def test_a_workflow_that_is_deleted_during_a_call_has_no_callback(
    fleet: Fleet, desk: Desk, call: str
) -> None:
    bluestreak = await fleet.parking(desk.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    fleet.store.failing[call] = WorkflowNotFound("w")
    answering = bluestreak.resolve if call == "send" else bluestreak.beat
    with pytest.raises(InvalidToken):
        await answering(desk.token)


# Time limits --------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["timeout", "deadline"])
async def test_a_callback_times_out(fleet: Fleet, clock: ManualClock, desk: Desk, by: str) -> None:
    limit: dict[str, Any] = {"timeout": DAY} if by == "timeout" else {"deadline": clock.now() + DAY}
    seen: list[TimeoutError] = []

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.callback("approve", desk.take, **limit)
        except TimeoutError as timeout:
            seen.append(timeout)
        if len(seen) < 2:
            raise ValueError
        return "gave up"

    bluestreak = await fleet.parking(handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        clock.advance(DAY)
        assert await bluestreak.wait("w") == "gave up"
    assert [(type(error), error.args) for error in seen] == [
        (CallbackTimeout, ("w", "approve", (NAME,)))
    ] * 2
    assert issubclass(CallbackTimeout, MessageTimeout)
    assert str(seen[0]) == f"workflow 'w': 'approve' got no answer {NAME!r} in time"
    for call in (bluestreak.resolve(desk.token, "too late"), bluestreak.beat(desk.token)):
        with pytest.raises(CallbackExpired, match="callback 'approve' has timed out"):
            await call
    assert await unread(fleet.store) == []
    assert len(desk.tokens) == 1


def test_a_description_names_the_callback_in_each_generation_and_that_nobody_answered(
    desk: Desk,
) -> None:
    async def handle(ctx: Context, number: int) -> None:
        await ctx.callback("approve", desk.take, timeout=DAY)
        await ctx.restart(number + 1)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h", 1)
        env.advance(HOUR)
        env.resolve(desk.token, "yes")
        env.advance(HOUR)
        first_line = str(env.call(env.bluestreak.describe("w"))).splitlines()[0]
        assert ": waiting for callback 'approve' until " in first_line
        env.advance(DAY)
        assert env.outcome("w").status is Status.ABORTED
        described = str(env.call(env.bluestreak.describe("w")))
        assert "received 'approve': no answer in time" in described


@pytest.mark.asyncio
async def test_an_answer_and_a_timeout_exclude_each_other(
    fleet: Fleet, clock: ManualClock, desk: Desk
) -> None:
    """Twenty callbacks time out while they are answered, each a little later."""

    async def handle(ctx: Context, input: None) -> str:
        try:
            return str(await ctx.callback("approve", desk.take, timeout=DAY))
        except CallbackTimeout:
            return "timeout"

    async def answer(turns: int, token: str) -> str:
        for _ in range(turns):
            await asyncio.sleep(0)
        try:
            answered = await bluestreak.resolve(token, token)
        except (CallbackExpired, WorkflowEnded):
            return "timeout"
        assert answered == Resolution(is_first=True, payload=token)
        return token

    bluestreak = await fleet.staying(handle)
    async with fleet.polling(bluestreak):
        for number in range(20):
            await bluestreak.start(f"w{number}", "h")
        await fleet.store.until_begun("wait_for_message", 20)
        clock.advance(DAY)
        told = await asyncio.gather(*(answer(*each) for each in enumerate(desk.tokens)))
        ends = [await bluestreak.wait(f"w{number}") for number in range(20)]
    assert sorted(ends) == sorted(told)


def test_callbacks_in_scopes_and_branches_have_ids_of_their_own() -> None:
    desk = Desk()

    async def ask(ctx: Context) -> Any:
        return await ctx.callback("approve", desk.take)

    async def handle(ctx: Context, input: None) -> Any:
        answers = await ctx.parallel("ask", {"ada": ask, "bob": ask})
        return [*answers.values(), await ask(ctx.scope("again"))]

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        for number, payload in ((1, "from bob"), (0, "from ada"), (2, "from both")):
            env.advance(60)
            env.crash()
            env.advance(60)
            env.resolve(desk.tokens[number], payload)
        outcome = env.wait("w")
    assert outcome.result == ["from ada", "from bob", "from both"]
    assert outcome.receipts["again/approve"].name == "callback/again/approve"
    assert len(desk.tokens) == 3


def test_a_race_of_callbacks_takes_the_first_answer() -> None:
    desk = Desk()

    async def handle(ctx: Context, input: None) -> Any:
        return list(
            await ctx.race(
                "first",
                ada=lambda: ctx.callback("ada", desk.take),
                bob=lambda: ctx.callback("bob", desk.take),
            )
        )

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(60)
        env.resolve(desk.tokens[1], "yes")
        assert env.wait("w").result == ["bob", "yes"]


def test_a_timeout_counts_from_the_first_wait_and_a_retry_begins_it_anew() -> None:
    tokens: list[str] = []

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", tokens.append, timeout=DAY)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(DAY / 2)
        env.crash()
        env.advance(DAY / 4)
        env.call(env.bluestreak.cancel("w"))
        env.advance(DAY)
        env.call(env.bluestreak.retry("w"))
        env.advance(DAY * 0.9)
        env.resolve(tokens[0], "yes")
        assert env.wait("w").result == "yes"
    assert len(tokens) == 1


# Crashes and failures of the hand-over ------------------------------------------------------------


def test_a_token_that_was_handed_over_before_a_crash_stays_valid() -> None:
    tokens: list[str] = []

    async def hand_over(token: str) -> None:
        tokens.append(token)
        if len(tokens) == 1:
            env.crash()
            await asyncio.sleep(0)

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", hand_over)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(60)
        assert len(tokens) == len(set(tokens)) == 2
        env.resolve(tokens[0], "by the first token")
        outcome = env.wait("w")
        assert outcome.result == "by the first token"
        again = env.resolve(tokens[1], "by the second token")
        assert again == Resolution(is_first=False, payload="by the first token")
    assert list(outcome.steps) == [
        *("approve/token/1", "approve/token/2", "approve/hand-over/1", "approve"),
    ]


def test_a_hand_over_that_fails_is_tried_again_with_the_handler() -> None:
    tokens: list[str] = []

    def hand_over(token: str) -> None:
        tokens.append(token)
        if len(tokens) < 3:
            raise OSError

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", hand_over)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(60)
        assert len(set(tokens)) == 3
        env.resolve(tokens[1], "yes")
        outcome = env.wait("w")
    assert (outcome.result, outcome.workflow.failures) == ("yes", 2)


@pytest.mark.parametrize("initial", [1, 3600])
def test_a_retry_policy_counts_the_attempts_of_all_runs(initial: float) -> None:
    """With pauses in memory, and with those in which the workflow is parked."""
    tokens: list[str] = []

    def hand_over(token: str) -> None:
        tokens.append(token)
        raise OSError("no route to the mail server")

    async def handle(ctx: Context, input: None) -> Any:
        retry = Retry(max_attempts=3, initial=initial, factor=1)
        return await ctx.callback("approve", hand_over, retry=retry)

    with Environment() as env:
        outcome = env.run(handle)
        assert outcome.status is Status.ABORTED
        (failed,) = outcome.workflow.failed_steps
        assert (failed.step_id, failed.attempts) == ("approve/hand-over/1", 3)
        assert len(tokens) == 3
        assert len(set(tokens)) == (1 if initial == 1 else 3)
        assert env.call(env.bluestreak.fork("workflow", "fork"))
        assert env.wait("fork").status is Status.ABORTED
        assert len(tokens) == 3


class _Overtaken(StoreWrapper):
    """A stale run records its token just before."""

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        if step_id == "approve/token/1":
            theirs = {"workflow_id": claim.workflow_id, "sha256": "of theirs"}
            await super().save_step(claim, step_id, theirs, now)
        return await super().save_step(claim, step_id, output, now)


def test_a_token_is_not_handed_over_where_another_run_has_recorded_one() -> None:
    tokens: list[str] = []

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", tokens.append)

    with Environment(worker_store=_Overtaken) as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(60)
        env.crash()
        env.advance(60)
        (token,) = tokens
        env.resolve(token, "yes")
        outcome = env.wait("w")
    assert outcome.result == "yes"
    assert list(outcome.steps) == [
        *("approve/token/1", "approve/token/2", "approve/hand-over/1", "approve"),
    ]


# Signs of life ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_beats_keep_a_callback_waiting_and_a_silence_ends_it(
    fleet: Fleet, clock: ManualClock, desk: Desk
) -> None:
    seen: list[TimeoutError] = []

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.callback("approve", desk.take, heartbeat=HOUR)
        except TimeoutError as timeout:
            seen.append(timeout)
        if len(seen) < 2:
            raise ValueError
        return "gave up"

    began = clock.now()
    bluestreak = await fleet.parking(handle, wait_retry_interval=0)
    returned = fleet.store.returned
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        assert (await workflow_of(bluestreak)).timeout_at == began + HOUR
        clock.advance(HOUR / 2)
        assert await bluestreak.beat(desk.token) is True
        assert (await workflow_of(bluestreak)).timeout_at == began + HOUR
        clock.advance(HOUR / 2)
        await fleet.store.until_returned("park_until_message", 2)
        assert (await workflow_of(bluestreak)).timeout_at == began + HOUR * 1.5
        clock.advance(HOUR / 2)
        assert await bluestreak.wait("w") == "gave up"
        assert returned["park_until_message"] == 2
    workflow = await workflow_of(bluestreak)
    assert workflow.beats == (Beat(step_id="approve", at=began + HOUR / 2),)
    assert [(type(error), error.args) for error in seen] == [
        (CallbackSilent, ("w", "approve", (NAME,)))
    ] * 2
    assert str(seen[0]) == f"workflow 'w': 'approve' got no sign of life for {NAME!r} in time"
    for call in (bluestreak.resolve(desk.token, "too late"), bluestreak.beat(desk.token)):
        with pytest.raises(CallbackExpired):
            await call


class Halted(StoreWrapper):
    """The store of a process that is halted after it has looked for an answer."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.has_looked, self.go_on = asyncio.Event(), asyncio.Event()

    @override
    async def find_message(self, workflow_id: str, message_id: str) -> NewMessage | None:
        message = await super().find_message(workflow_id, message_id)
        self.has_looked.set()
        await self.go_on.wait()
        return message


@pytest.mark.asyncio
async def test_a_beat_that_a_restart_overtakes_does_not_prolong_the_next_generation(
    fleet: Fleet, clock: ManualClock, desk: Desk
) -> None:
    async def handle(ctx: Context, generation: int) -> str:
        with suppress(CallbackSilent):
            await ctx.callback("approve", desk.take, heartbeat=HOUR)
        return "silent" if generation else await ctx.restart(1)

    began, halted = clock.now(), Halted(fleet.store)
    bluestreak, client = await fleet.parking(handle), await fleet.engine(halted)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 0)
        await fleet.store.until_returned("park_until_message")
        late = asyncio.create_task(client.beat(desk.token))
        await halted.has_looked.wait()
        clock.advance(HOUR)
        await fleet.store.until_returned("park_until_message", 2)
        clock.advance(HOUR / 2)
        halted.go_on.set()
        await late
        workflow = await workflow_of(bluestreak)
        assert (workflow.generation, workflow.heard_at("approve")) == (1, began)
        clock.advance(HOUR / 2)
        assert await bluestreak.wait("w") == "silent"
    assert fleet.store.returned["park_until_message"] == 2


@pytest.mark.asyncio
async def test_beats_are_seen_by_a_run_that_waits_in_memory(
    fleet: Fleet, clock: ManualClock, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", desk.take, heartbeat=HOUR, timeout=DAY)

    bluestreak = await fleet.staying(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
        for looks in (1, 2):
            clock.advance(HOUR * 0.9)
            assert await bluestreak.beat(desk.token)
            await fleet.store.until_begun("wait_for_message", looks)
        await bluestreak.resolve(desk.token, "done")
        assert await bluestreak.wait("w") == "done"
        assert await bluestreak.beat(desk.token) is False
    assert (await workflow_of(bluestreak)).claims == 1


def test_a_retry_begins_a_silence_anew() -> None:
    desk = Desk()

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", desk.take, heartbeat=HOUR)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(60)
        env.beat(desk.token)
        env.call(env.bluestreak.cancel("w"))
        env.advance(DAY)
        env.call(env.bluestreak.retry("w"))
        env.advance(HOUR * 0.9)
        env.resolve(desk.token, "yes")
        assert env.wait("w").result == "yes"


def test_the_timeout_ends_a_callback_that_still_beats() -> None:
    desk = Desk()

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.callback("approve", desk.take, heartbeat=HOUR, timeout=DAY)
        except CallbackTimeout as timeout:
            return type(timeout).__name__
        raise AssertionError

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        began = env.now
        env.advance(1)
        while env.now < began + DAY - HOUR / 2:
            assert env.beat(desk.token)
            env.advance(HOUR / 2)
        outcome = env.wait("w")
        assert outcome.result == "CallbackTimeout"
        assert outcome.workflow.finished_at == began + DAY


def test_the_timeouts_of_callbacks_side_by_side_are_their_own() -> None:
    """A beat is for one of them, and the other one goes silent."""
    desks = {"a": Desk(), "b": Desk()}
    silent_at: list[datetime] = []

    async def handle(ctx: Context, input: None) -> Any:
        async def ask(name: str) -> Any:
            try:
                return await ctx.callback(name, desks[name].take, heartbeat=HOUR)
            except CallbackSilent:
                silent_at.append(env.now)
                return "silent"

        return list(await asyncio.gather(ask("a"), ask("b")))

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        began = env.now
        for _ in range(6):
            env.advance(HOUR / 2)
            env.beat(desks["a"].token)
        env.resolve(desks["a"].token, "done")
        assert env.wait("w").result == ["done", "silent"]
    assert silent_at[0] == began + HOUR


def test_the_first_silence_of_each_callback_begins_with_its_wait() -> None:
    desk = Desk()

    async def handle(ctx: Context, input: None) -> list[Any]:
        return [await ctx.callback(name, desk.take, heartbeat=HOUR) for name in "ab"]

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        for number in range(2):
            env.advance(HOUR * 0.9)
            env.resolve(desk.tokens[number], number)
        assert env.wait("w").result == [0, 1]


@pytest.mark.parametrize("paused", [False, True])
def test_a_silence_goes_on_while_nobody_runs_the_workflow(*, paused: bool) -> None:
    desk = Desk()

    async def handle(ctx: Context, input: None) -> str:
        try:
            return str(await ctx.callback("approve", desk.take, heartbeat=HOUR))
        except CallbackSilent:
            return "silent"

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(60)
        if paused:
            env.call(env.bluestreak.pause("w"))
            env.advance(HOUR / 2)
            env.beat(desk.token)
            env.advance(HOUR * 0.9)
            env.call(env.bluestreak.resume("w"))
        else:
            env.advance(HOUR / 2)
            env.crash()
        left = env.now
        assert env.wait("w").result == "silent"
        assert env.now - left == HOUR / 10 if paused else env.now - left <= HOUR / 2


def test_an_answer_that_comes_before_the_silence_is_noticed_counts() -> None:
    desk = Desk()

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", desk.take, heartbeat=HOUR)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(60)
        env.call(env.bluestreak.pause("w"))
        env.advance(DAY)
        env.resolve(desk.token, "at last")
        env.call(env.bluestreak.resume("w"))
        assert env.wait("w").result == "at last"


def test_a_silence_that_is_recorded_is_final() -> None:
    """The worker dies before it has received what it has decided; then it is too late to beat."""
    desk = Desk()

    async def handle(ctx: Context, input: None) -> str:
        try:
            return str(await ctx.callback("approve", desk.take, heartbeat=HOUR))
        except CallbackSilent:
            return "silent"

    class Dying(StoreWrapper):
        @override
        async def send(self, message: NewMessage) -> bool:
            is_new = await super().send(message)
            if is_new:
                env.crash()
                await asyncio.sleep(0)
            return is_new

    with Environment(worker_store=Dying) as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(HOUR + timedelta(seconds=1))
        for call in (env.beat, env.resolve):
            with pytest.raises(CallbackExpired):
                call(desk.token)
        assert env.wait("w").result == "silent"

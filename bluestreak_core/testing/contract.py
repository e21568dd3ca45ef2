"""The Store protocol as a test suite, which every adapter subclasses."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from types import NoneType
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import (
    ClaimLost,
    TransitionRefused,
    UnstorableValue,
    ValueTooLarge,
    WorkflowNotFound,
)
from bluestreak_core.machine import Event
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimEntry,
    ErrorRecord,
    FailedStep,
    Failure,
    History,
    NewWorkflow,
    Status,
    Workflow,
)
from bluestreak_core.store import Store
from bluestreak_core.values import MAX_DEPTH, MAX_VALUE_BYTES

T = TypeVar("T")

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = 10 * SECOND
ENDINGS = [
    event
    for event in machine.TRANSITIONS[Status.RUNNING]
    if event not in (Event.CLAIM, *machine.CONTROL)
]
CONTROLLED = [
    (status, event)
    for status, row in machine.TRANSITIONS.items()
    for event in machine.CONTROL
    if event in row
]
REFUSED = [
    (status, event)
    for status in Status
    for event in machine.CONTROL
    if (status, event) not in CONTROLLED
]
ERROR = ErrorRecord(type="ValueError", message="no such card", traceback="Traceback: ...")


class _Colour(StrEnum):
    RED = "red"


class _Level(IntEnum):
    HIGH = 3


class _Point(NamedTuple):
    x: int
    y: int


NAIVE = datetime(2020, 1, 2, 3, 4, 5, 678_901)  # noqa: DTZ001 - read as UTC

# What goes in, and what comes back.
VALUES: Sequence[tuple[Any, Any]] = (
    (None, None),
    (True, True),
    (0, 0),
    (-(2**63), -(2**63)),
    (2**63 - 1, 2**63 - 1),
    (2**31, 2**31),
    (1.5, 1.5),
    (float("inf"), float("inf")),
    ("", ""),
    ("na\0me \U0001f426", "na\0me \U0001f426"),
    (b"\0\xff", b"\0\xff"),
    (UUID(int=7), UUID(int=7)),
    ([], []),
    ({}, {}),
    ((1, (2, 3)), [1, [2, 3]]),
    (_Point(1, 2), [1, 2]),
    ({"a": {"b": [1, {"c": None}]}}, {"a": {"b": [1, {"c": None}]}}),
    ({"b": 1, "a": 2}, {"b": 1, "a": 2}),
    ({"$set": {"a.b": 1}, "": 2}, {"$set": {"a.b": 1}, "": 2}),
    (_Colour.RED, "red"),
    (_Level.HIGH, 3),
    ({_Colour.RED: 1}, {"red": 1}),
    (NAIVE, datetime(2020, 1, 2, 3, 4, 5, 678_000, UTC)),
    (
        datetime(2020, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))),
        datetime(2020, 1, 2, 1, tzinfo=UTC),
    ),
    (datetime(1900, 1, 1, 0, 0, 0, 999_999, UTC), datetime(1900, 1, 1, 0, 0, 0, 999_000, UTC)),
)


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def _cycle() -> Any:
    value: list[Any] = [1]
    value.append(value)
    return {"loop": value}


# What is refused: the value, the place inside it and the type found there.
UNSTORABLE: Mapping[str, tuple[Any, str, str]] = {
    "set": ({1}, "", "set"),
    "object": ({"a": [0, object()]}, "['a'][1]", "object"),
    "function": ([len], "[0]", "builtin_function_or_method"),
    "class": ({"a": int}, "['a']", "type"),
    "large int": ({"n": 2**63}, "['n']", "int"),
    "huge int": (2**70, "", "int"),
    "small int": (-(2**63) - 1, "", "int"),
    "int key": ({"a": {1: 2}}, "['a'][1]", "int"),
    "bytes key": ({b"k": 1}, "[b'k']", "bytes"),
    "key with NUL": ({"a\0": 1}, "['a\\x00']", "str"),
    "lone surrogate": (["\ud800"], "[0]", "str"),
    "lone surrogate key": ({"\ud800": 1}, "['\\ud800']", "str"),
    "cycle": (_cycle(), "['loop'][1]", "list"),
    "timedelta": (timedelta(1), "", "timedelta"),
    "date": (NOW.date(), "", "date"),
    "complex": (1j, "", "complex"),
    "bytearray": (bytearray(b"x"), "", "bytearray"),
    "iterator": (iter([]), "", "list_iterator"),
    "exception": (ValueError("no"), "", "ValueError"),
}


@pytest.mark.asyncio
class StoreContract:
    """What every store promises, one test a rule.

    Subclass it and give it a fixture named `store`: a new, empty, initialised store.

        class TestMyStore(StoreContract):
            @pytest_asyncio.fixture
            async def store(self):
                store = MyStore()
                await store.init()
                yield store
                await store.close()

    The tests are coroutines marked for pytest-asyncio. They tell the store the time; nothing in
    them waits.
    """

    # Starting and looking ----------------------------------------------------------------------

    async def test_a_created_workflow_is_idle_and_due(self, store: Store) -> None:
        assert await store.create(_new("w", input={"a": 1}))
        assert await _found(store, "w") == Workflow(
            workflow_id="w",
            handler_id="h",
            input={"a": 1},
            status=Status.IDLE,
            timeout_at=NOW,
            created_at=NOW,
        )

    async def test_an_existing_id_is_not_created_again(self, store: Store) -> None:
        await store.create(_new("w", input=1))
        before = await _found(store, "w")
        assert not await store.create(_new("w", handler_id="other", input=2))
        assert await _found(store, "w") == before

    async def test_a_delayed_workflow_is_due_when_it_is_to_start(self, store: Store) -> None:
        new = replace(_new("w"), start_at=NOW + SECOND)
        await store.create(new)
        assert await _found(store, "w") == machine.create(new)
        assert list(await store.claim("worker", NOW, LEASE, 10, None)) == []
        assert len(await store.claim("worker", NOW + SECOND, LEASE, 10, None)) == 1

    async def test_many_are_created_and_those_that_exist_left_alone(self, store: Store) -> None:
        await store.create(_new("w1", input="first"))
        new = [_new(f"w{number % 3}", input=number) for number in range(6)]
        assert await store.create_many(new) == [True, False, True, False, False, False]
        assert [(await _found(store, f"w{n}")).input for n in range(3)] == [0, "first", 2]
        assert await store.create_many(new) == [False] * 6
        assert await store.create_many([]) == []

    async def test_a_thousand_and_more_are_created_at_once(self, store: Store) -> None:
        new = [_new(f"w{number:04}") for number in range(1001)]
        assert await store.create_many(new) == [True] * 1001
        assert await _found(store, "w1000") == machine.create(new[-1])

    async def test_of_many_none_is_created_where_one_cannot_be_stored(self, store: Store) -> None:
        with pytest.raises(UnstorableValue, match="input of workflow 'w2'"):
            await store.create_many([_new("w1"), _new("w2", input={1})])
        assert await store.find_workflow("w1") is None

    async def test_what_does_not_exist_is_none(self, store: Store) -> None:
        await store.create(_new("w"))
        assert await store.find_workflow("x") is None
        assert await store.find_step("w", "s") is None
        assert await store.find_nap("w", "n") is None

    async def test_init_and_close_may_be_repeated(self, store: Store) -> None:
        await store.create(_new("w"))
        await store.init()
        await store.close()
        await store.close()
        await store.init()
        assert await store.find_workflow("w") is not None

    async def test_ids_of_any_text_are_kept_apart(self, store: Store) -> None:
        ids = ["a", "A", "a ", "$a", "a.b", "{}", "é", "e\u0301", "x" * 512, "🐦" * 512]
        for place, workflow_id in enumerate(ids):
            assert await store.create(_new(workflow_id, input=place))
        assert [(await _found(store, one)).input for one in ids] == list(range(len(ids)))

    # Claiming ----------------------------------------------------------------------------------

    async def test_a_claim_marks_the_workflow(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        workflow = await _found(store, "w")
        assert claim.workflow == workflow
        assert workflow == Workflow(
            workflow_id="w",
            handler_id="h",
            input=None,
            status=Status.RUNNING,
            timeout_at=NOW + LEASE,
            claims=1,
            claim_token=claim.token,
            worker="worker",
            created_at=NOW,
            started_at=NOW,
            claim_log=(ClaimEntry(worker="worker", claimed_at=NOW, after_crash=False),),
        )

    async def test_nothing_due_is_no_claim(self, store: Store) -> None:
        assert list(await store.claim("worker", NOW, LEASE, 10, None)) == []

    async def test_a_workflow_is_claimed_when_it_is_due_and_not_before(self, store: Store) -> None:
        await store.create(_new("w", created_at=NOW + SECOND))
        before = await _found(store, "w")
        assert list(await store.claim("worker", NOW, LEASE, 10, None)) == []
        assert await _found(store, "w") == before
        assert len(await store.claim("worker", NOW + SECOND, LEASE, 10, None)) == 1

    async def test_at_most_limit_are_claimed_the_longest_due_first(self, store: Store) -> None:
        for name, age in (("b", 2), ("d", 0), ("a", 3), ("c", 1)):
            await store.create(_new(name, created_at=NOW - age * SECOND))
        first = await store.claim("worker", NOW, LEASE, 2, None)
        second = await store.claim("worker", NOW, LEASE, 10, None)
        assert [claim.workflow_id for claim in first] == ["a", "b"]
        assert [claim.workflow_id for claim in second] == ["c", "d"]

    async def test_an_expired_lease_is_not_starved_by_new_work(self, store: Store) -> None:
        await _claimed(store, "expired")
        later = NOW + LEASE
        for name in "abc":
            await store.create(_new(name, created_at=later + SECOND))
        (claim,) = await store.claim("worker", later + SECOND, LEASE, 1, None)
        assert claim.workflow_id == "expired"

    async def test_only_the_given_handlers_are_claimed(self, store: Store) -> None:
        await store.create(_new("w1", handler_id="h1"))
        await store.create(_new("w2", handler_id="h2"))
        claims = await store.claim("worker", NOW, LEASE, 10, {"h2", "h3"})
        assert [claim.workflow_id for claim in claims] == ["w2"]
        assert list(await store.claim("worker", NOW, LEASE, 10, [])) == []
        assert (await _found(store, "w1")).status is Status.IDLE
        assert len(await store.claim("worker", NOW, LEASE, 10, None)) == 1

    async def test_a_claimed_workflow_is_not_claimed_again(self, store: Store) -> None:
        await _claimed(store, "w")
        assert list(await store.claim("other", NOW + LEASE - SECOND, LEASE, 10, None)) == []

    async def test_an_expired_lease_is_taken_over_and_counts_a_crash(self, store: Store) -> None:
        first = await _claimed(store, "w")
        (second,) = await store.claim("other", NOW + LEASE, LEASE, 10, None)
        assert second.token != first.token
        assert (second.number, second.workflow.crashes) == (2, 1)
        assert second.workflow.worker == "other"
        assert second.workflow.started_at == NOW
        assert second.workflow.claim_log == (
            ClaimEntry(worker="worker", claimed_at=NOW, after_crash=False),
            ClaimEntry(worker="other", claimed_at=NOW + LEASE, after_crash=True),
        )

    async def test_a_workflow_was_started_by_its_earliest_claim(self, store: Store) -> None:
        await store.release(await _claimed(store, "w"), NOW - 2 * SECOND)
        earlier = NOW - SECOND  # clocks of servers disagree, and the other one is asked now
        (again,) = await store.claim("worker", earlier, LEASE, 1, None)
        assert again.workflow.started_at == earlier
        assert await _found(store, "w") == again.workflow

    async def test_a_failed_workflow_is_claimed_at_its_retry_instant(self, store: Store) -> None:
        await store.fail(await _claimed(store, "w"), _failure(NOW + SECOND), NOW)
        assert list(await store.claim("worker", NOW, LEASE, 10, None)) == []
        (claim,) = await store.claim("worker", NOW + SECOND, LEASE, 10, None)
        assert (claim.workflow.failures, claim.workflow.crashes) == (1, 0)

    async def test_racing_claims_never_share_a_workflow(self, store: Store) -> None:
        for number in range(30):
            await store.create(_new(f"w{number}"))
        taken: list[str] = []
        while claims := await _race(*(_claim_some(store, f"worker {n}") for n in range(4))):
            taken += [claim.workflow_id for claim in claims]
        assert sorted(taken) == sorted(f"w{number}" for number in range(30))

    async def test_the_claim_log_keeps_the_newest_entries(self, store: Store) -> None:
        await store.create(_new("w"))
        for _ in range(machine.MAX_CLAIM_LOG + 5):
            (claim,) = await store.claim("worker", NOW, LEASE, 1, None)
            await store.release(claim, NOW)
        workflow = await _found(store, "w")
        assert len(workflow.claim_log) == machine.MAX_CLAIM_LOG
        assert workflow.claims == machine.MAX_CLAIM_LOG + 5

    # History -----------------------------------------------------------------------------------

    async def test_a_history_is_what_each_workflow_has_recorded(self, store: Store) -> None:
        one, two, three = [await _claimed(store, name) for name in ("w1", "w2", "w3")]
        await store.save_step(one, "a", [1], NOW)
        await store.save_step(one, "b", None, NOW)
        await store.save_step(two, "a", 2, NOW)
        await store.save_nap(two, "n", NOW + SECOND, NOW)
        assert await store.history([one, two, three]) == {
            "w1": History(steps={"a": [1], "b": None}),
            "w2": History(steps={"a": 2}, naps={"n": NOW + SECOND}),
            "w3": History(),
        }

    async def test_a_long_history_is_complete(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        steps = {f"step {number}": number for number in range(300)}
        for step_id, output in steps.items():
            await store.save_step(claim, step_id, output, NOW)
        assert await store.history([claim]) == {"w": History(steps=steps)}

    async def test_a_history_of_no_claims_is_empty(self, store: Store) -> None:
        assert await store.history([]) == {}

    # Renewing ----------------------------------------------------------------------------------

    async def test_renewing_moves_the_lease_and_nothing_else(self, store: Store) -> None:
        claims = [await _claimed(store, name) for name in ("w1", "w2")]
        before = await _found(store, "w1")
        assert await store.renew(claims, NOW + SECOND, LEASE) == []
        after = await _found(store, "w1")
        assert after.timeout_at == NOW + SECOND + LEASE
        assert machine.renew(before, NOW + SECOND, LEASE) == after
        assert await store.renew(claims, NOW + SECOND, LEASE) == []

    async def test_a_renewal_that_arrives_late_does_not_shorten_the_lease(
        self, store: Store
    ) -> None:
        claim = await _claimed(store, "w")
        assert await store.renew([claim], NOW + 2 * SECOND, LEASE) == []
        before = await _found(store, "w")
        assert await store.renew([claim], NOW + SECOND, LEASE) == []
        assert await _found(store, "w") == before

    async def test_renewing_revives_an_expired_lease_that_nobody_took(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        assert await store.renew([claim], NOW + 5 * LEASE, LEASE) == []
        assert list(await store.claim("other", NOW + 5 * LEASE, LEASE, 10, None)) == []

    async def test_renewing_tells_which_claims_are_lost(self, store: Store) -> None:
        stale, owner = await _superseded(store, "w1")
        kept = await _claimed(store, "w2")
        ended = await _claimed(store, "w3")
        await store.finish(ended, None, NOW)
        later = NOW + 2 * LEASE
        assert await store.renew([stale, kept, ended, owner], later, LEASE) == [stale, ended]
        assert (await _found(store, "w1")).timeout_at == later + LEASE
        assert (await _found(store, "w2")).timeout_at == later + LEASE
        assert (await _found(store, "w3")).status is Status.FINISHED

    async def test_renewing_a_stale_claim_leaves_its_successor_alone(self, store: Store) -> None:
        stale = await _claimed(store, "w1")
        await store.create(_new("w2"))
        claims = await store.claim("other", NOW + LEASE, LEASE, 2, None)
        (successor,) = [claim for claim in claims if claim.workflow_id == "w1"]
        (owner,) = [claim for claim in claims if claim.workflow_id == "w2"]
        assert await store.renew([stale, owner], NOW + 2 * LEASE, LEASE) == [stale]
        assert await _found(store, "w1") == successor.workflow
        assert (await _found(store, "w2")).timeout_at == NOW + 3 * LEASE

    async def test_renewing_nothing_is_nothing(self, store: Store) -> None:
        assert await store.renew([], NOW, LEASE) == []

    # Recording ---------------------------------------------------------------------------------

    async def test_a_step_is_recorded(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        assert await store.save_step(claim, "s", {"a": (1, 2)}, NOW) == {"a": [1, 2]}
        step = await store.find_step("w", "s")
        assert step is not None
        assert (step.workflow_id, step.step_id) == ("w", "s")
        assert (step.output, step.saved_at) == ({"a": [1, 2]}, NOW)

    async def test_the_first_record_of_a_step_wins(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        await store.save_step(claim, "s", "first", NOW)
        before = await store.find_step("w", "s")
        assert await store.save_step(claim, "s", "second", NOW + SECOND) == "first"
        assert await store.find_step("w", "s") == before

    async def test_racing_attempts_of_a_step_get_one_output(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        outputs = await _gather(*(store.save_step(claim, "s", n, NOW) for n in range(5)))
        step = await store.find_step("w", "s")
        assert step is not None
        assert set(outputs) == {step.output}

    async def test_a_stale_caller_gets_the_recorded_step(self, store: Store) -> None:
        stale, owner = await _superseded(store, "w")
        await store.save_step(owner, "s", "owner's", NOW)
        assert await store.save_step(stale, "s", "stale", NOW) == "owner's"

    async def test_a_stale_caller_may_record_first(self, store: Store) -> None:
        stale, owner = await _superseded(store, "w")
        before = await _found(store, "w")
        assert await store.save_step(stale, "s", "stale", NOW) == "stale"
        assert await store.save_step(owner, "s", "owner's", NOW) == "stale"
        assert await _found(store, "w") == before

    async def test_one_step_id_serves_many_workflows(self, store: Store) -> None:
        one, two = await _claimed(store, "w1"), await _claimed(store, "w2")
        assert await store.save_step(one, "s", 1, NOW) == 1
        assert await store.save_step(two, "s", 2, NOW) == 2

    async def test_a_nap_is_recorded(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        wake_up_at = NOW + timedelta(days=3653)
        assert await store.save_nap(claim, "n", wake_up_at, NOW) == wake_up_at
        nap = await store.find_nap("w", "n")
        assert nap is not None
        assert (nap.workflow_id, nap.nap_id) == ("w", "n")
        assert (nap.wake_up_at, nap.saved_at) == (wake_up_at, NOW)

    async def test_the_first_record_of_a_nap_wins(self, store: Store) -> None:
        stale, owner = await _superseded(store, "w")
        await store.save_nap(owner, "n", NOW + SECOND, NOW)
        before = await store.find_nap("w", "n")
        assert await store.save_nap(stale, "n", NOW + 2 * SECOND, NOW) == NOW + SECOND
        assert await store.save_nap(owner, "n", NOW + 3 * SECOND, NOW) == NOW + SECOND
        assert await store.find_nap("w", "n") == before

    async def test_a_recorded_step_resets_crashes(self, store: Store) -> None:
        _, owner = await _superseded(store, "w")
        assert (await _found(store, "w")).crashes == 1
        await store.save_step(owner, "s", 1, NOW)
        assert (await _found(store, "w")).crashes == 0

    async def test_a_recorded_nap_resets_crashes(self, store: Store) -> None:
        _, owner = await _superseded(store, "w")
        await store.save_nap(owner, "n", NOW, NOW)
        assert (await _found(store, "w")).crashes == 0

    async def test_an_attempt_is_recorded_and_is_no_nap_and_no_step(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        attempt = _attempt(1)
        assert await store.save_attempt(claim, attempt) == attempt
        assert await store.history([claim]) == {"w": History(attempts={"s": attempt})}
        assert await store.find_step("w", "s") is None
        assert await store.find_nap("w", "s") is None
        assert await store.save_step(claim, "s", "done", NOW) == "done"
        assert await store.save_nap(claim, "s", NOW, NOW) == NOW

    async def test_the_first_record_of_an_attempt_wins(self, store: Store) -> None:
        stale, owner = await _superseded(store, "w")
        first = _attempt(1)
        await store.save_attempt(owner, first)
        later = replace(first, retry_at=None, saved_at=NOW + SECOND)
        assert await store.save_attempt(stale, later) == first
        assert await store.save_attempt(owner, later) == first

    async def test_a_history_has_the_latest_attempt_of_each_step(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        for number in (2, 10, 1):
            await store.save_attempt(claim, _attempt(number))
        last = replace(_attempt(3), step_id="t", retry_at=None)
        await store.save_attempt(claim, last)
        history = (await store.history([claim]))["w"]
        assert history == History(attempts={"s": _attempt(10), "t": last})

    async def test_a_history_has_no_attempts_of_earlier_rounds(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        await store.save_attempt(claim, _attempt(4))
        await store.fail(claim, _failure(None), NOW)
        await store.control("w", Event.RETRY, NOW)
        (again,) = await store.claim("worker", NOW, LEASE, 1, None)
        assert await store.history([again]) == {"w": History()}
        second = replace(_attempt(1), round=1)
        await store.save_attempt(again, second)
        assert await store.history([again]) == {"w": History(attempts={"s": second})}

    async def test_a_recorded_attempt_resets_crashes(self, store: Store) -> None:
        _, owner = await _superseded(store, "w")
        await store.save_attempt(owner, _attempt(1))
        assert (await _found(store, "w")).crashes == 0

    async def test_a_step_that_is_given_up_is_kept_with_its_workflow(self, store: Store) -> None:
        _, owner = await _superseded(store, "w")
        before = await _found(store, "w")
        failed = [FailedStep(step_id=s, error=ERROR, attempts=3, failed_at=NOW) for s in "ab"]
        for one in failed:
            await store.fail_step(owner, one)
        after = await _found(store, "w")
        assert (after.failed_steps, after.crashes) == (tuple(failed), 0)
        assert after == machine.fail_step(machine.fail_step(before, failed[0]), failed[1])
        await store.fail_step(owner, replace(failed[0], attempts=4, failed_at=NOW + SECOND))
        assert await _found(store, "w") == after
        (again,) = await store.claim("worker", NOW + 2 * LEASE, LEASE, 1, None)
        assert again.workflow.failed_steps == tuple(failed)

    async def test_only_the_owner_gives_a_step_up(self, store: Store) -> None:
        stale, owner = await _superseded(store, "w")
        failed = FailedStep(step_id="s", error=ERROR, attempts=3, failed_at=NOW)
        with pytest.raises(ClaimLost, match="claim 1 was superseded by claim 2"):
            await store.fail_step(stale, failed)
        assert await _found(store, "w") == owner.workflow
        await store.finish(owner, None, NOW)
        with pytest.raises(ClaimLost, match="has ended, the workflow is 'finished'"):
            await store.fail_step(owner, failed)

    # Ending a claim ----------------------------------------------------------------------------

    async def test_parking_gives_the_claim_back_until_then(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        before = await _found(store, "w")
        await store.park(claim, NOW + 5 * LEASE)
        assert await _found(store, "w") == machine.park(before, NOW + 5 * LEASE)
        assert list(await store.claim("other", NOW + 5 * LEASE - SECOND, LEASE, 1, None)) == []
        (again,) = await store.claim("other", NOW + 5 * LEASE, LEASE, 1, None)
        assert again.workflow.crashes == 0

    async def test_releasing_gives_the_claim_back_at_once(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        before = await _found(store, "w")
        await store.release(claim, NOW + SECOND)
        assert await _found(store, "w") == machine.release(before, NOW + SECOND)
        (again,) = await store.claim("other", NOW + SECOND, LEASE, 1, None)
        assert again.workflow.crashes == 0

    async def test_finishing_records_the_result(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        before = await _found(store, "w")
        await store.finish(claim, {"a": (1,)}, NOW + SECOND)
        after = await _found(store, "w")
        assert after == machine.finish(before, {"a": [1]}, NOW + SECOND)
        assert (after.timeout_at, after.finished_at) == (NOW + SECOND, NOW + SECOND)

    async def test_failing_records_the_error_and_the_retry(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        before = await _found(store, "w")
        failure = _failure(NOW + 2 * SECOND)
        await store.fail(claim, failure, NOW + SECOND)
        after = await _found(store, "w")
        assert after == machine.fail(before, failure, NOW + SECOND)
        assert (after.status, after.failures, after.error) == (Status.FAILED, 1, ERROR)
        assert (after.timeout_at, after.finished_at) == (NOW + 2 * SECOND, None)

    async def test_failing_for_good_aborts(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        before = await _found(store, "w")
        await store.fail(claim, _failure(None), NOW + SECOND)
        after = await _found(store, "w")
        assert after == machine.fail(before, _failure(None), NOW + SECOND)
        assert (after.status, after.failures, after.error) == (Status.ABORTED, 1, ERROR)
        assert (after.timeout_at, after.finished_at) == (NOW + SECOND, NOW + SECOND)

    @pytest.mark.parametrize("event", [Event.FINISH, Event.ABORT])
    async def test_an_ended_workflow_is_never_claimed(self, store: Store, event: Event) -> None:
        claim = await _claimed(store, "w")
        await _end(store, claim, event)
        assert list(await store.claim("other", NOW + 100 * LEASE, LEASE, 10, None)) == []

    @pytest.mark.parametrize("event", ENDINGS)
    async def test_a_repeated_ending_changes_nothing(self, store: Store, event: Event) -> None:
        claim = await _claimed(store, "w")
        await _end(store, claim, event)
        before = await _found(store, "w")
        await _end(store, claim, event)
        assert await _found(store, "w") == before

    @pytest.mark.parametrize("event", [Event.PARK, Event.RELEASE, Event.FAIL])
    async def test_an_ending_repeated_after_the_next_claim_changes_nothing(
        self, store: Store, event: Event
    ) -> None:
        claim = await _claimed(store, "w")
        await _end(store, claim, event)
        (owner,) = await store.claim("other", NOW + LEASE, LEASE, 1, None)
        await _end(store, claim, event)
        assert await _found(store, "w") == owner.workflow

    async def test_claims_that_end_together_share_no_fate(self, store: Store) -> None:
        for number in range(20):
            await store.create(_new(f"w{number}"))
        stale = await store.claim("worker", NOW, LEASE, 10, None)
        owners = await store.claim("other", NOW + LEASE, LEASE, 20, None)
        endings = [store.finish(claim, claim.number, NOW) for claim in (*stale, *owners)]
        outcomes = await asyncio.gather(*endings, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ClaimLost] * 10 + [NoneType] * 20
        for claim in owners:
            assert (await _found(store, claim.workflow_id)).result == claim.number

    async def test_records_made_together_share_no_fate(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        await store.save_step(claim, "s1", "first", NOW)
        saves = [store.save_step(claim, f"s{n}", object() if n == 2 else n, NOW) for n in range(4)]
        outcomes = await asyncio.gather(*saves, return_exceptions=True)
        assert [outcomes[0], outcomes[1], outcomes[3]] == [0, "first", 3]
        assert isinstance(outcomes[2], UnstorableValue)
        assert (await store.history([claim]))["w"].steps == {"s0": 0, "s1": "first", "s3": 3}

    @pytest.mark.parametrize("event", ENDINGS)
    async def test_a_stale_claim_cannot_end_its_successor(self, store: Store, event: Event) -> None:
        stale, owner = await _superseded(store, "w")
        before = await _found(store, "w")
        with pytest.raises(ClaimLost, match=r"workflow 'w': claim 1 was superseded by claim 2"):
            await _end(store, stale, event)
        assert await _found(store, "w") == before
        await store.finish(owner, "undisturbed", NOW)
        assert (await _found(store, "w")).result == "undisturbed"

    @pytest.mark.parametrize("event", ENDINGS)
    async def test_a_stale_claim_cannot_end_what_its_successor_ended(
        self, store: Store, event: Event
    ) -> None:
        stale, owner = await _superseded(store, "w")
        await _end(store, owner, event)
        before = await _found(store, "w")
        with pytest.raises(ClaimLost):
            await _end(store, stale, event)
        assert await _found(store, "w") == before

    @pytest.mark.parametrize("first", ENDINGS)
    async def test_a_claim_ends_once(self, store: Store, first: Event) -> None:
        claim = await _claimed(store, "w")
        await _end(store, claim, first)
        before = await _found(store, "w")
        for second in ENDINGS:
            if machine.target(second) is not machine.target(first):
                with pytest.raises(ClaimLost, match="has ended"):
                    await _end(store, claim, second)
                assert await _found(store, "w") == before

    async def test_a_claim_of_a_workflow_that_never_was_is_lost(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        ghost = Claim(token=claim.token, workflow=machine.create(_new("ghost")))
        with pytest.raises(ClaimLost, match="'ghost'"):
            await store.finish(ghost, None, NOW)
        assert await store.find_workflow("ghost") is None
        assert await store.renew([ghost, claim], NOW, LEASE) == [ghost]

    # From outside ------------------------------------------------------------------------------

    @pytest.mark.parametrize(("status", "event"), CONTROLLED)
    async def test_an_event_from_outside_follows_its_arrow(
        self, store: Store, status: Status, event: Event
    ) -> None:
        await _bring(store, "w", status)
        before = await _found(store, "w")
        await store.control("w", event, NOW + SECOND, "because")
        after = await _found(store, "w")
        assert after == machine.control(before, event, NOW + SECOND, "because")
        assert after.status is machine.target(event)

    @pytest.mark.parametrize(("status", "event"), REFUSED)
    async def test_an_event_from_outside_is_refused_where_it_has_no_arrow(
        self, store: Store, status: Status, event: Event
    ) -> None:
        await _bring(store, "w", status)
        before = await _found(store, "w")
        with pytest.raises(TransitionRefused, match=f"'{event}' is refused while '{status}'"):
            await store.control("w", event, NOW + SECOND)
        assert await _found(store, "w") == before

    async def test_there_is_no_control_of_what_does_not_exist(self, store: Store) -> None:
        for event in machine.CONTROL:
            with pytest.raises(WorkflowNotFound, match="'w'"):
                await store.control("w", event, NOW)

    @pytest.mark.parametrize("taken", [Event.CANCEL, Event.PAUSE])
    @pytest.mark.parametrize("event", ENDINGS)
    async def test_whoever_had_the_claim_has_lost_it(
        self, store: Store, taken: Event, event: Event
    ) -> None:
        claim = await _claimed(store, "w")
        await store.control("w", taken, NOW)
        before = await _found(store, "w")
        assert await store.renew([claim], NOW, LEASE) == [claim]
        with pytest.raises(ClaimLost, match=f"has ended, the workflow is '{before.status}'"):
            await _end(store, claim, event)
        assert await _found(store, "w") == before

    async def test_a_paused_or_cancelled_workflow_is_never_claimed(self, store: Store) -> None:
        for name, event in (("w1", Event.PAUSE), ("w2", Event.CANCEL)):
            await store.create(_new(name))
            await store.control(name, event, NOW)
        assert list(await store.claim("worker", NOW + 100 * LEASE, LEASE, 10, None)) == []

    async def test_a_resumed_workflow_is_due_when_it_was_to_be(self, store: Store) -> None:
        await store.park(await _claimed(store, "w"), NOW + 3 * SECOND)
        await store.control("w", Event.PAUSE, NOW + SECOND)
        await store.control("w", Event.RESUME, NOW + 2 * SECOND)
        assert list(await store.claim("worker", NOW + 2 * SECOND, LEASE, 1, None)) == []
        assert len(await store.claim("worker", NOW + 3 * SECOND, LEASE, 1, None)) == 1

    async def test_one_that_was_paused_while_it_ran_is_due_when_it_is_resumed(
        self, store: Store
    ) -> None:
        await _claimed(store, "w")
        await store.control("w", Event.PAUSE, NOW)
        await store.control("w", Event.RESUME, NOW)
        (again,) = await store.claim("worker", NOW, LEASE, 1, None)
        assert (again.number, again.workflow.crashes) == (2, 0)

    async def test_a_retried_workflow_keeps_its_records_and_is_due(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        await store.save_step(claim, "s", "kept", NOW)
        failed = FailedStep(step_id="t", error=ERROR, attempts=3, failed_at=NOW)
        await store.fail_step(claim, failed)
        await store.fail(claim, _failure(None), NOW)
        await store.control("w", Event.RETRY, NOW + SECOND)
        (again,) = await store.claim("worker", NOW + SECOND, LEASE, 1, None)
        assert (again.workflow.failures, again.workflow.failed_steps) == (0, ())
        assert (again.workflow.retries, again.workflow.error) == (1, None)
        assert await store.history([again]) == {"w": History(steps={"s": "kept"})}

    # Values ------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("given", "stored"), VALUES, ids=repr)
    async def test_a_value_is_the_same_on_every_path(
        self, store: Store, given: Any, stored: Any
    ) -> None:
        await store.create(_new("w", input=given))
        (claim,) = await store.claim("worker", NOW, LEASE, 1, None)
        first = await store.save_step(claim, "s", given, NOW)
        replayed = (await store.history([claim]))["w"].steps["s"]
        step = await store.find_step("w", "s")
        await store.finish(claim, given, NOW)
        workflow = await _found(store, "w")
        assert step is not None
        for value in (claim.workflow.input, first, replayed, step.output, workflow.result):
            _assert_same(value, stored)

    async def test_nothing_stored_is_the_callers_object(self, store: Store) -> None:
        value = {"list": [1]}
        await store.create(_new("w", input=value))
        (claim,) = await store.claim("worker", NOW, LEASE, 1, None)
        output = await store.save_step(claim, "s", value, NOW)
        value["list"].append(2)
        claim.workflow.input["list"].append(3)
        output["list"].append(4)
        (await store.history([claim]))["w"].steps["s"]["list"].append(5)
        assert (await _found(store, "w")).input == {"list": [1]}
        assert (await store.history([claim]))["w"].steps["s"] == {"list": [1]}

    @pytest.mark.parametrize("name", UNSTORABLE)
    async def test_an_unstorable_input_is_refused(self, store: Store, name: str) -> None:
        value, path, type_name = UNSTORABLE[name]
        with pytest.raises(UnstorableValue, match="input of workflow 'w'") as refused:
            await store.create(_new("w", input=value))
        assert (refused.value.path, refused.value.type_name) == (path, type_name)
        assert await store.find_workflow("w") is None

    @pytest.mark.parametrize("name", UNSTORABLE)
    async def test_an_unstorable_output_is_refused(self, store: Store, name: str) -> None:
        value, path, type_name = UNSTORABLE[name]
        claim = await _claimed(store, "w")
        with pytest.raises(UnstorableValue, match="output of step 's' of workflow 'w'") as refused:
            await store.save_step(claim, "s", value, NOW)
        assert (refused.value.path, refused.value.type_name) == (path, type_name)
        assert await store.find_step("w", "s") is None

    @pytest.mark.parametrize("name", UNSTORABLE)
    async def test_an_unstorable_result_is_refused(self, store: Store, name: str) -> None:
        value, path, type_name = UNSTORABLE[name]
        claim = await _claimed(store, "w")
        before = await _found(store, "w")
        with pytest.raises(UnstorableValue, match="result of workflow 'w'") as refused:
            await store.finish(claim, value, NOW)
        assert (refused.value.path, refused.value.type_name) == (path, type_name)
        assert await _found(store, "w") == before

    async def test_a_value_may_be_nested_up_to_the_limit(self, store: Store) -> None:
        await store.create(_new("w", input=_nested(MAX_DEPTH)))
        assert (await _found(store, "w")).input == _nested(MAX_DEPTH)

    @pytest.mark.parametrize("depth", [300, 5000])
    async def test_a_value_nested_too_deep_is_refused(self, store: Store, depth: int) -> None:
        with pytest.raises(UnstorableValue, match="deep"):
            await store.create(_new("w", input=_nested(depth)))
        assert await store.find_workflow("w") is None

    async def test_a_value_may_be_as_large_as_the_limit(self, store: Store) -> None:
        largest = "x" * (MAX_VALUE_BYTES - 5)
        await store.create(_new("w", input=largest))
        (claim,) = await store.claim("worker", NOW, LEASE, 1, None)
        assert claim.workflow.input == largest
        assert await store.save_step(claim, "s", largest, NOW) == largest

    async def test_a_value_that_is_too_large_is_refused(self, store: Store) -> None:
        claim = await _claimed(store, "w")
        before = await _found(store, "w")
        large = "x" * (MAX_VALUE_BYTES - 4)
        with pytest.raises(ValueTooLarge) as refused:
            await store.create(_new("w2", input=large))
        assert (refused.value.size, refused.value.limit) == (MAX_VALUE_BYTES + 1, MAX_VALUE_BYTES)
        with pytest.raises(ValueTooLarge, match="output of step 's'"):
            await store.save_step(claim, "s", large, NOW)
        with pytest.raises(ValueTooLarge, match="result of workflow 'w'"):
            await store.finish(claim, large, NOW)
        assert await store.find_workflow("w2") is None
        assert await store.find_step("w", "s") is None
        assert await _found(store, "w") == before

    async def test_a_result_has_the_room_that_the_input_leaves(self, store: Store) -> None:
        half = "x" * (MAX_VALUE_BYTES // 2 + 100_000)
        await store.create(_new("w", input=half))
        (claim,) = await store.claim("worker", NOW, LEASE, 1, None)
        with pytest.raises(ValueTooLarge, match="result of workflow 'w'") as refused:
            await store.finish(claim, half, NOW)
        assert refused.value.size > refused.value.limit
        assert (await _found(store, "w")).status is Status.RUNNING
        await store.fail(claim, _failure(None), NOW)
        assert (await _found(store, "w")).status is Status.ABORTED

    # Hints -------------------------------------------------------------------------------------

    async def test_hints_return(self, store: Store) -> None:
        await store.create(_new("w"))
        await store.wait_for_work(timedelta(0))
        await store.wait_for_end("w", timedelta(0))
        await store.wait_for_end("no such workflow", timedelta(0))
        long_after = datetime(9000, 1, 1, tzinfo=UTC)
        assert not await store.wait_for_control("worker", long_after, timedelta(0))


# What the tests above share ---------------------------------------------------------------------


def _new(
    workflow_id: str, handler_id: str = "h", input: Any = None, created_at: datetime = NOW
) -> NewWorkflow:
    return NewWorkflow(
        workflow_id=workflow_id, handler_id=handler_id, input=input, created_at=created_at
    )


def _failure(retry_at: datetime | None) -> Failure:
    return Failure(error=ERROR, retry_at=retry_at)


def _attempt(number: int) -> Attempt:
    return Attempt(
        workflow_id="w",
        step_id="s",
        round=0,
        number=number,
        error=ERROR,
        retry_at=NOW + number * SECOND,
        saved_at=NOW,
    )


async def _bring(store: Store, workflow_id: str, status: Status) -> None:
    """A workflow in this state."""
    if status is Status.IDLE:
        await store.create(_new(workflow_id))
        return
    claim = await _claimed(store, workflow_id)
    match status:
        case Status.FAILED:
            await store.fail(claim, _failure(NOW + 2 * SECOND), NOW)
        case Status.ABORTED:
            await store.fail(claim, _failure(None), NOW)
        case Status.FINISHED:
            await store.finish(claim, "result", NOW)
        case Status.PAUSED:
            await store.control(workflow_id, Event.PAUSE, NOW)
        case Status.CANCELLED:
            await store.control(workflow_id, Event.CANCEL, NOW, "reason")


async def _found(store: Store, workflow_id: str) -> Workflow:
    workflow = await store.find_workflow(workflow_id)
    assert workflow is not None
    return workflow


async def _claimed(store: Store, workflow_id: str) -> Claim:
    """A claim made at NOW, with nothing else due."""
    await store.create(_new(workflow_id))
    claims = await store.claim("worker", NOW, LEASE, 1, None)
    assert [claim.workflow_id for claim in claims] == [workflow_id]
    return claims[0]


async def _superseded(store: Store, workflow_id: str) -> tuple[Claim, Claim]:
    """A stale claim, and the one of the worker that took over when its lease had run out."""
    stale = await _claimed(store, workflow_id)
    (owner,) = await store.claim("other", NOW + LEASE, LEASE, 1, None)
    return stale, owner


async def _claim_some(store: Store, worker: str) -> Sequence[Claim]:
    return await store.claim(worker, NOW, LEASE, 3, None)


async def _gather(*calls: Coroutine[Any, Any, T]) -> list[T]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def _race(*calls: Coroutine[Any, Any, Sequence[Claim]]) -> list[Claim]:
    return [claim for claims in await _gather(*calls) for claim in claims]


async def _end(store: Store, claim: Claim, event: Event) -> None:
    match event:
        case Event.PARK:
            await store.park(claim, NOW + 3 * SECOND)
        case Event.RELEASE:
            await store.release(claim, NOW + 3 * SECOND)
        case Event.FINISH:
            await store.finish(claim, "result", NOW + 3 * SECOND)
        case Event.FAIL:
            await store.fail(claim, _failure(NOW + 4 * SECOND), NOW + 3 * SECOND)
        case Event.ABORT:
            await store.fail(claim, _failure(None), NOW + 3 * SECOND)
        case _:
            raise AssertionError(f"{event} does not end a claim")


def _assert_same(value: Any, expected: Any) -> None:
    """Equal, and of the same plain type all through; an int may be the driver's own subclass."""
    assert value == expected
    assert isinstance(value, type(expected))
    if isinstance(expected, dict):
        assert list(value) == list(expected)
        assert all(type(key) is str for key in value)
    if isinstance(expected, datetime):
        assert value.tzinfo is UTC

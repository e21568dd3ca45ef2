"""How every store creates workflows and finds what is there; a part of `StoreContract`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import UnstorableValue
from bluestreak_core.model import ClaimRequest, Status, Workflow
from bluestreak_core.store import Store
from bluestreak_core.testing.contract.arrange import LEASE, NOW, SECOND, found, new
from bluestreak_core.testing.contract.rule import Rules, rule


class StartingContract(Rules):
    """The tests of `init`, `create`, `create_many` and the `find` calls."""

    @rule("Store.create")
    async def test_a_created_workflow_is_idle_and_due(self, store: Store) -> None:
        assert await store.create(new("w", input={"a": 1}))
        assert await found(store, "w") == Workflow(
            workflow_id="w",
            handler_id="h",
            input={"a": 1},
            status=Status.IDLE,
            timeout_at=NOW,
            created_at=NOW,
        )

    @rule("Store.create")
    async def test_a_created_workflow_keeps_its_trace(self, store: Store) -> None:
        traced = replace(new("w"), trace="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
        await store.create(traced)
        assert await found(store, "w") == machine.create(traced)
        [claim] = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        assert claim.workflow.trace == traced.trace

    @rule("Store.create")
    async def test_an_existing_id_is_not_created_again(self, store: Store) -> None:
        await store.create(new("w", input=1))
        before = await found(store, "w")
        assert not await store.create(new("w", handler_id="other", input=2))
        assert await found(store, "w") == before

    @rule("Store.create")
    async def test_a_delayed_workflow_is_due_when_it_is_to_start(self, store: Store) -> None:
        delayed = replace(new("w"), start_at=NOW + SECOND)
        await store.create(delayed)
        assert await found(store, "w") == machine.create(delayed)
        assert (
            list(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10)))
            == []
        )
        assert (
            len(
                await store.claim(
                    ClaimRequest(worker="worker", now=NOW + SECOND, lease=LEASE, limit=10)
                )
            )
            == 1
        )

    @rule("Store.create_many")
    async def test_many_are_created_and_those_that_exist_left_alone(self, store: Store) -> None:
        await store.create(new("w1", input="first"))
        many = [new(f"w{number % 3}", input=number) for number in range(6)]
        assert await store.create_many(many) == [True, False, True, False, False, False]
        assert [(await found(store, f"w{n}")).input for n in range(3)] == [0, "first", 2]
        assert await store.create_many(many) == [False] * 6
        assert await store.create_many([]) == []

    @rule("Store.create_many")
    async def test_a_thousand_and_more_are_created_at_once(self, store: Store) -> None:
        many = [new(f"w{number:04}") for number in range(1001)]
        assert await store.create_many(many) == [True] * 1001
        assert await found(store, "w1000") == machine.create(many[-1])

    @rule("Store.create_many")
    async def test_of_many_none_is_created_where_one_cannot_be_stored(self, store: Store) -> None:
        with pytest.raises(UnstorableValue, match="input of workflow 'w2'"):
            await store.create_many([new("w1"), new("w2", input={1})])
        assert await store.find_workflow("w1") is None

    @rule("Store.find_workflow")
    async def test_what_does_not_exist_is_none(self, store: Store) -> None:
        await store.create(new("w"))
        assert await store.find_workflow("x") is None
        assert await store.find_step("w", "s") is None
        assert await store.find_nap("w", "n") is None

    @rule("Store.init")
    async def test_init_and_close_may_be_repeated(self, store: Store) -> None:
        await store.create(new("w"))
        await store.init()
        await store.close()
        await store.close()
        await store.init()
        assert await store.find_workflow("w") is not None

    @rule("#ids")
    async def test_ids_of_any_text_are_kept_apart(self, store: Store) -> None:
        ids = ["a", "A", "a ", "$a", "a.b", "{}", "é", "e\u0301", "x" * 512, "🐦" * 512]
        for place, workflow_id in enumerate(ids):
            assert await store.create(new(workflow_id, input=place))
        assert [(await found(store, workflow_id)).input for workflow_id in ids] == list(
            range(len(ids))
        )

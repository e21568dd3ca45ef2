"""How every store with mailboxes hands messages to steps; a part of `MessageContract`."""

from __future__ import annotations

import pytest

from bluestreak_core.model import History, NoMessage, Receipt, Step
from bluestreak_core.store import MAX_VALUE_BYTES, SupportsMessages, SupportsSearch, supports
from bluestreak_core.testing.contract.arrange import (
    LEASE,
    MS,
    NAMES,
    NOW,
    PAID,
    REFUSED,
    SECOND,
    Messaging,
    all_received,
    claimed,
    found,
    id_of,
    looked,
    message,
    received,
    superseded,
)
from bluestreak_core.testing.contract.rule import Rules, rule

ODD_IDS = ["a", "A", "a ", "$a", "a.b", "{}", "é", "e\u0301", "x" * 512, "🐦" * 512]


class ReceivingContract(Rules):
    """The tests of `receive`."""

    @rule("SupportsMessages.receive")
    async def test_a_message_is_received_as_a_step(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        assert await store.send(message(payload={"a": (1, 2)}, sent_at=NOW + 7 * MS))
        step = await store.receive(claim, "s", [PAID], NOW + 9 * MS, give_up=False)
        receipt = Receipt(message_id="m", name=PAID, sent_at=NOW + 7 * MS)
        assert step == Step(
            workflow_id="w",
            step_id="s",
            output={"a": [1, 2]},
            saved_at=NOW + 9 * MS,
            receipt=receipt,
        )
        assert await store.find_step("w", "s") == step
        history = History(steps={"s": {"a": [1, 2]}}, receipts={"s": receipt})
        assert await store.history([claim]) == {"w": history}
        if supports(store, SupportsSearch):
            assert list((await store.records("w")).steps) == [step]

    @rule("SupportsMessages.receive")
    async def test_a_message_is_received_once(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.send(message())
        await received(store, claim, "s1")
        assert await looked(store, claim, "s2") == NoMessage(mail=1)
        assert await store.find_step("w", "s2") is None

    @rule("SupportsMessages.receive")
    async def test_a_repeated_receive_returns_the_record_and_takes_nothing(
        self, store: Messaging
    ) -> None:
        claim = await claimed(store, "w")
        for message_id in ("m1", "m2"):
            await store.send(message(message_id))
        step = await received(store, claim, "s1")
        assert await store.receive(claim, "s1", [PAID], NOW + SECOND, give_up=False) == step
        assert await store.receive(claim, "s1", [REFUSED], NOW + SECOND, give_up=True) == step
        assert await store.find_step("w", "s1") == step
        assert await all_received(store, claim, PAID) == ["m2"]

    @rule("SupportsMessages.receive")
    async def test_a_step_that_was_saved_receives_nothing(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.save_step(claim, "s1", "saved", NOW)
        await store.send(message())
        saved = Step(workflow_id="w", step_id="s1", output="saved", saved_at=NOW)
        assert await looked(store, claim, "s1") == saved
        assert await store.receive(claim, "s1", [REFUSED], NOW, give_up=True) == saved
        assert (await store.history([claim]))["w"].receipts == {}
        assert await all_received(store, claim, PAID) == ["m"]

    @rule("Store.save_step", SupportsMessages)
    async def test_a_step_that_has_received_is_not_saved_anew(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.send(message(payload="received"))
        step = await received(store, claim, "s")
        assert await store.save_step(claim, "s", "saved", NOW + SECOND) == "received"
        assert await store.find_step("w", "s") == step

    @rule("SupportsMessages.receive")
    async def test_messages_are_received_in_the_order_in_which_they_were_sent(
        self, store: Messaging
    ) -> None:
        claim = await claimed(store, "w")
        for message_id in ("c", "a", "d"):
            await store.send(message(message_id))
        await store.send(message("b", sent_at=NOW + MS))
        assert await all_received(store, claim, PAID) == ["c", "a", "d", "b"]

    @rule("SupportsMessages.receive")
    async def test_of_several_names_the_first_sent_is_received_first(
        self, store: Messaging
    ) -> None:
        claim = await claimed(store, "w")
        for message_id, name in (("b", REFUSED), ("c", PAID), ("a", REFUSED)):
            await store.send(message(message_id, name))
        step = await received(store, claim, "s", *NAMES)
        assert step.receipt == Receipt(message_id="b", name=REFUSED, sent_at=NOW)
        assert await all_received(store, claim, *NAMES) == ["c", "a"]

    @rule("SupportsMessages.receive")
    async def test_messages_of_other_names_are_left(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        for message_id, name in (("m1", REFUSED), ("m2", "Paid"), ("m3", PAID)):
            await store.send(message(message_id, name))
        assert await all_received(store, claim, PAID) == ["m3"]
        assert await all_received(store, claim, "Paid", REFUSED) == ["m1", "m2"]

    @rule("SupportsMessages.receive")
    async def test_a_receive_without_a_message_records_nothing(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        assert await looked(store, claim, "s") == NoMessage(mail=0)
        for message_id in ("m1", "m2"):
            await store.send(message(message_id, REFUSED))
        before = await found(store, "w")
        assert await looked(store, claim, "s") == NoMessage(mail=2)
        assert await found(store, "w") == before
        assert await store.history([claim]) == {"w": History()}

    @rule("SupportsMessages.receive")
    async def test_a_step_that_has_timed_out_receives_nothing_later(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        step = await store.receive(claim, "s", [PAID], NOW, give_up=True)
        assert step == Step(
            workflow_id="w", step_id="s", output=None, saved_at=NOW, receipt=Receipt()
        )
        await store.send(message())
        assert await looked(store, claim, "s") == step
        assert await store.receive(claim, "s", [PAID], NOW + SECOND, give_up=True) == step
        assert await store.find_step("w", "s") == step
        history = History(steps={"s": None}, receipts={"s": Receipt()})
        assert await store.history([claim]) == {"w": history}
        assert await all_received(store, claim, PAID) == ["m"]

    @rule("SupportsMessages.receive")
    async def test_a_step_does_not_time_out_if_there_is_a_message(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.send(message(payload=None))
        step = await store.receive(claim, "s", [PAID], NOW, give_up=True)
        assert isinstance(step, Step)
        assert (step.output, id_of(step)) == (None, "m")

    @pytest.mark.parametrize("name", NAMES)
    @rule("SupportsMessages.receive")
    async def test_a_receive_that_is_recorded_resets_crashes(
        self, store: Messaging, name: str
    ) -> None:
        _, owner = await superseded(store, "w")
        await store.send(message())
        await looked(store, owner, "s1", REFUSED)
        assert (await found(store, "w")).crashes == 1
        await store.receive(owner, "s2", [name], NOW, give_up=True)
        assert (await found(store, "w")).crashes == 0

    @rule("#stale-callers", SupportsMessages)
    async def test_a_stale_receive_leaves_the_crashes_alone(self, store: Messaging) -> None:
        stale, owner = await superseded(store, "w")
        await store.send(message())
        before = await found(store, "w")
        await received(store, stale, "s1")
        await store.receive(stale, "s2", [PAID], NOW, give_up=True)
        assert await found(store, "w") == before
        assert await store.renew([owner], NOW + LEASE, LEASE) == []

    @rule("#stale-callers", SupportsMessages)
    async def test_a_stale_caller_and_its_successor_receive_the_same_message(
        self, store: Messaging
    ) -> None:
        stale, owner = await superseded(store, "w")
        for message_id in ("m1", "m2", "m3"):
            await store.send(message(message_id))
        by_stale = await received(store, stale, "s1")
        assert await received(store, owner, "s1") == by_stale
        by_owner = await received(store, owner, "s2")
        assert await received(store, stale, "s2") == by_owner
        assert [id_of(by_stale), id_of(by_owner)] == ["m1", "m2"]
        assert await all_received(store, owner, PAID) == ["m3"]

    @rule("SupportsMessages.receive")
    async def test_a_message_is_no_step_and_no_nap(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.send(message("x", "x", "payload"))
        assert await store.find_step("w", "x") is None
        assert await store.find_nap("w", "x") is None
        assert await store.history([claim]) == {"w": History()}
        assert await store.save_step(claim, "x", "saved", NOW) == "saved"
        assert await store.save_nap(claim, "x", NOW + LEASE, NOW) == NOW + LEASE
        assert (await received(store, claim, "s", "x")).output == "payload"
        history = (await store.history([claim]))["w"]
        assert history.steps == {"x": "saved", "s": "payload"}
        assert (history.naps, list(history.receipts)) == ({"x": NOW + LEASE}, ["s"])

    @rule("#ids", SupportsMessages)
    async def test_messages_of_any_id_and_name_are_kept_apart(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        for odd in ODD_IDS:
            assert await store.send(message(odd, odd))
        for odd in reversed(ODD_IDS):
            assert id_of(await received(store, claim, odd, odd)) == odd

    @rule("#values", SupportsMessages)
    async def test_a_payload_may_be_as_large_as_the_limit(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        largest = "x" * (MAX_VALUE_BYTES - 5)
        assert await store.send(message(payload=largest))
        assert (await received(store, claim, "s")).output == largest

    @rule("#values", SupportsMessages)
    async def test_no_payload_is_the_callers_object(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        payload = {"list": [1]}
        await store.send(message(payload=payload))
        payload["list"].append(2)
        first = await received(store, claim, "s")
        assert first.output == {"list": [1]}
        first.output["list"].append(3)
        again = await received(store, claim, "s")
        assert again.output == {"list": [1]}
        again.output["list"].append(4)
        assert (await store.history([claim]))["w"].steps == {"s": {"list": [1]}}

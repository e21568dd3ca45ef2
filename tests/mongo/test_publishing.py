"""What is published takes none of the room that a document needs to be claimed and ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bluestreak_core import Claim, Status, ValueTooLarge
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.store import MAX_VALUE_BYTES
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import LEASE, NOW, PUBLISHED, SECOND, Application, claimed, failure

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

LARGE = 60 * 1024


@pytest.fixture
def store(application: Application) -> MongoStore:
    return application.store


async def is_claimed_and_cancelled(store: MongoStore) -> Claim:
    """Twice, since a claim that takes over is logged, too."""
    for number in (1, 2):
        at = NOW + number * (LEASE + SECOND)
        (claim,) = await store.claim(ClaimRequest(worker="w" * 200, now=at, lease=LEASE, limit=1))
    await store.control("w", Transition.CANCEL, NOW + 9 * LEASE, "reason " * 100)
    workflow = await store.find_workflow("w")
    assert workflow is not None
    assert workflow.status is Status.CANCELLED
    return claim


async def test_a_value_that_leaves_no_room_beside_the_input_is_refused(store: MongoStore) -> None:
    claim = await claimed(store, input="x" * (MAX_VALUE_BYTES - LARGE))
    with pytest.raises(ValueTooLarge, match="what workflow 'w' has published takes") as caught:
        await store.publish(claim, [replace(PUBLISHED, value="y" * LARGE)])
    fitting = caught.value.limit - (caught.value.size - LARGE)
    assert LARGE - 1000 < fitting < LARGE
    await store.publish(claim, [replace(PUBLISHED, value="y" * fitting)])
    await store.publish(claim, [replace(PUBLISHED, value="z" * fitting)])  # in its place
    with pytest.raises(ValueTooLarge):
        await store.publish(claim, [replace(PUBLISHED, value="y" * (fitting + 1))])
    await store.fail(claim, failure(retry=True), NOW)
    await is_claimed_and_cancelled(store)


async def test_an_input_that_leaves_no_room_beside_what_is_published_is_refused(
    store: MongoStore,
) -> None:
    claim = await claimed(store)
    await store.publish(claim, [replace(PUBLISHED, value="y" * LARGE)])
    with pytest.raises(ValueTooLarge, match="input of workflow 'w' takes") as caught:
        await store.restart(claim, "x" * (MAX_VALUE_BYTES - 100), (), NOW)
    assert MAX_VALUE_BYTES - LARGE - 1000 < caught.value.limit < MAX_VALUE_BYTES - LARGE
    await store.restart(claim, "x" * (MAX_VALUE_BYTES - LARGE - 1000), (), NOW)
    again = await is_claimed_and_cancelled(store)
    assert again.workflow.generation == 1

"""A document that the server refuses is the affair of its workflow, and of nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from pymongo.database import Database

from bluestreak_core import (
    Bluestreak,
    Claim,
    Context,
    CorruptDocument,
    Status,
    UnstorableValue,
    WorkflowAborted,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_mongo import MongoStore
from tests.arrange import eventually
from tests.mongo.arrange import (
    CALLS,
    LEASE,
    NOW,
    SECOND,
    Application,
    Document,
    claimed,
    failure,
    new,
    polling,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


@pytest.fixture
def empty_database(fresh_database: Database[Document]) -> str:
    """One whose indexes and validators nobody else meets."""
    return fresh_database.name


NO_PLACE = "nowhere"
"""What an index on places cannot hold."""


async def _return_no_place(session: object) -> str:
    return NO_PLACE


def refuse(raw: Database[Document], collection: str, **document: Any) -> None:
    """Have the server refuse what has all of these fields."""
    condition = {"$nor": [{"$and": [{name: value} for name, value in document.items()]}]}
    raw.command("collMod", collection, validator=condition)


def stored(raw: Database[Document]) -> dict[str, list[Document]]:
    return {name: list(raw[name].find()) for name in ("workflows", "steps", "naps")}


Call = Callable[[MongoStore, Claim], Awaitable[object]]

PLACES: dict[str, tuple[str, str, Call]] = {
    "input of workflow 'v'": (
        *("workflows", "input"),
        lambda store, _: store.create(new("v", input=NO_PLACE)),
    ),
    "input of workflow 'u'": (
        *("workflows", "input"),
        lambda store, _: store.create_many([new("v2"), new("u", input=NO_PLACE), new("v3")]),
    ),
    "result of workflow 'w'": (
        *("workflows", "result"),
        lambda store, claim: store.finish(claim, NO_PLACE, NOW),
    ),
    "output of step 's' of workflow 'w'": (
        *("steps", "output"),
        lambda store, claim: store.save_step(claim, "s", NO_PLACE, NOW),
    ),
    "output of step 't' of workflow 'w'": (
        *("steps", "output"),
        lambda store, claim: store.transact(claim, "t", _return_no_place, lambda: NOW),
    ),
}
"""Values for which there is an index on places, by what they are called."""


@pytest.mark.parametrize("what", PLACES)
async def test_a_value_that_an_index_cannot_hold_is_unstorable(
    application: Application, raw: Database[Document], what: str
) -> None:
    collection, field, call = PLACES[what]
    claim = await claimed(application.store)
    raw[collection].create_index([(field, "2dsphere")])
    with pytest.raises(UnstorableValue, match="geo element must be an array or object") as refused:
        await call(application.store, claim)
    assert (refused.value.what, refused.value.type_name) == (what, "str")
    values = [document.get(field) for several in stored(raw).values() for document in several]
    assert NO_PLACE not in values
    await application.store.finish(claim, None, NOW)


VALIDATED: dict[str, tuple[str, Document]] = {
    "save_nap": ("naps", {"napId": "n"}),
    "save_attempt": ("naps", {"workflowId": "w"}),
    "fail_step": ("workflows", {"failedSteps.stepId": "s"}),
}


@pytest.mark.parametrize("call", VALIDATED)
async def test_a_record_that_a_validator_refuses_is_unstorable(
    application: Application, raw: Database[Document], call: str
) -> None:
    collection, refused = VALIDATED[call]
    claim = await claimed(application.store)
    refuse(raw, collection, **refused)
    before = stored(raw)
    with pytest.raises(UnstorableValue, match=r"of workflow 'w'.*Document failed validation"):
        await CALLS[call](application.store, claim)
    assert stored(raw) == before


async def test_values_that_are_written_together_are_refused_each_by_itself(
    application: Application, raw: Database[Document]
) -> None:
    names = [f"w{number}" for number in range(20)]
    await application.store.create_many([new(name) for name in names])
    claims = await application.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=20)
    )
    raw.steps.create_index([("output", "2dsphere")])
    raw.workflows.create_index([("result", "2dsphere")])
    place = {"type": "Point", "coordinates": [1, 2]}
    bad = {"w7", "w13"}

    def value(claim: Claim) -> Any:
        return NO_PLACE if claim.workflow_id in bad else place

    for write in (
        lambda claim: application.store.save_step(claim, "s", value(claim), NOW),
        lambda claim: application.store.finish(claim, value(claim), NOW),
    ):
        outcomes = await asyncio.gather(*map(write, claims), return_exceptions=True)
        kinds = {
            claim.workflow_id: type(outcome)
            for claim, outcome in zip(claims, outcomes, strict=True)
        }
        assert {name for name, kind in kinds.items() if kind is UnstorableValue} == bad
    assert raw.steps.count_documents({}) == raw.workflows.count_documents({"status": "finished"})
    assert raw.steps.count_documents({}) == 18


async def test_a_workflow_that_cannot_be_changed_does_not_keep_others_from_being_renewed(
    application: Application, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    await application.store.create_many([new(f"w{number}") for number in range(3)])
    claims = await application.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=3)
    )
    refuse(raw, "workflows", workflowId="w1")
    lost = await application.store.renew(claims, NOW + SECOND, LEASE)
    assert [claim.workflow_id for claim in lost] == ["w1"]
    renewed = raw.workflows.find({"timeoutAt": NOW + SECOND + LEASE})
    assert sorted(update["workflowId"] for update in renewed) == ["w0", "w2"]
    assert "its lease cannot be renewed" in caplog.text


ENDINGS: dict[str, Call] = {
    "park": lambda store, claim: store.park(claim, NOW),
    "release": lambda store, claim: store.release(claim, NOW),
    "fail": lambda store, claim: store.fail(claim, failure(retry=False), NOW),
    "cancel": lambda store, _: store.control("w", Transition.CANCEL, NOW),
}


@pytest.mark.parametrize("call", ENDINGS)
async def test_an_ending_that_is_refused_whatever_it_holds_names_its_document(
    application: Application, raw: Database[Document], call: str
) -> None:
    claim = await claimed(application.store)
    refuse(raw, "workflows", workflowId="w")
    before = stored(raw)
    with pytest.raises(CorruptDocument, match=r"document 'w': .* failed validation"):
        await ENDINGS[call](application.store, claim)
    assert stored(raw) == before


async def test_an_error_that_cannot_be_stored_is_left_out(
    application: Application, raw: Database[Document]
) -> None:
    claim = await claimed(application.store)
    refuse(raw, "workflows", **{"error.message": failure(retry=False).error.message})
    await application.store.fail(claim, failure(retry=False), NOW)
    workflow = await application.store.find_workflow("w")
    assert workflow is not None
    assert (workflow.status, workflow.error) == (Status.ABORTED, None)
    assert workflow.finished_at == NOW


# The worker --------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def bluestreak(mongodb_url: str, empty_database: str) -> AsyncIterator[Bluestreak]:
    async with Bluestreak(MongoStore(mongodb_url, database=empty_database)) as bluestreak:
        yield bluestreak


async def test_a_workflow_with_a_refused_value_is_aborted_at_once_and_its_worker_goes_on(
    bluestreak: Bluestreak, raw: Database[Document]
) -> None:
    raw.steps.create_index([("output", "2dsphere")])
    raw.workflows.create_index([("result", "2dsphere")])
    places = {"good": {"type": "Point", "coordinates": [1, 2]}}
    called: list[str] = []

    def look_up(name: str) -> Any:
        called.append(name)
        return places.get(name, NO_PLACE)

    @bluestreak.handler("visit")
    async def visit(ctx: Context, name: str) -> Any:
        return await ctx.step("look up", look_up, name)

    @bluestreak.handler("return")
    async def release(ctx: Context, name: str) -> Any:
        return look_up(name)

    async with polling(bluestreak):
        for handler in ("visit", "return"):
            await bluestreak.start(f"{handler} bad", handler, "bad")
            with pytest.raises(WorkflowAborted, match=r"UnstorableValue: .* extract geo keys"):
                await bluestreak.wait(f"{handler} bad")
            await bluestreak.start(f"{handler} good", handler, "good")
            assert await bluestreak.wait(f"{handler} good") == places["good"]
    assert called == ["bad", "good"] * 2
    aborted = await bluestreak.find_workflow("visit bad")
    assert aborted is not None
    assert (aborted.claims, aborted.failures) == (1, 1)


async def test_a_workflow_whose_end_is_refused_is_left_to_its_lease_and_its_worker_goes_on(
    bluestreak: Bluestreak, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    @bluestreak.handler("h")
    async def handle(ctx: Context, input: str) -> str:
        if input == "bad":
            refuse(raw, "workflows", workflowId="bad")
        return input

    async with polling(bluestreak):
        await bluestreak.start("bad", "h", "bad")
        await eventually(lambda: "its run wrote nothing more" in caplog.text)
        await bluestreak.start("good", "h", "good")
        assert await bluestreak.wait("good") == "good"
    assert raw.workflows.count_documents({"workflowId": "bad", "status": "running"}) == 1

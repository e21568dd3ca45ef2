"""What the server does for a claim, as it explains it: nothing for finished and for parked work."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pymongo.database import Database

from bluestreak_core import machine
from bluestreak_core.model import ClaimRequest
from tests.mongo.arrange import LEASE, NOW, SECOND, Application, Document, new
from tests.mongo.explain import explained, stages

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

DUE = 20
LIMIT = 10
STATUSES = len(machine.claimable())
"""An index scan looks at a key more for each state that it has to leave."""


@pytest.fixture
def stored(raw: Database[Document]) -> None:
    """Thousands that are not to be claimed: ended, parked, waiting for a retry, and running."""
    others = {
        "finished": NOW - timedelta(days=30),
        "aborted": NOW - timedelta(days=30),
        "idle": NOW + timedelta(days=30),
        "failed": NOW + SECOND,
        "running": NOW + LEASE,
    }
    raw.workflows.insert_many(
        {
            "workflowId": f"{status}-{number}",
            "handlerId": "h",
            "failures": 0,
            "status": status,
            "timeoutAt": timeout_at,
        }
        for status, timeout_at in others.items()
        for number in range(1000)
    )


async def claim_commands(application: Application, raw: Database[Document]) -> list[Document]:
    application.sent.commands.clear()
    await application.store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=LIMIT))
    return application.sent.named("find", "update")


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("parked", [False, True], ids=["new", "parked"])
async def test_a_claim_looks_at_as_many_workflows_as_it_takes(
    application: Application, raw: Database[Document], *, parked: bool
) -> None:
    for number in range(DUE):
        await application.store.create(new(f"w{number}"))
    if parked:
        for claim in await application.store.claim(
            ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=DUE)
        ):
            await application.store.park(claim, NOW)
    before: Any = list(raw.workflows.find())
    commands = await claim_commands(application, raw)
    raw.workflows.delete_many({})
    raw.workflows.insert_many(before)  # so that they are explained as they were carried out
    assert len(commands) == (3 if parked else 2)
    for command in commands:
        explanation = explained(raw, command)
        assert stages(explanation).isdisjoint({"COLLSCAN", "SORT"})
        statistics = explanation["executionStats"]
        assert statistics["totalDocsExamined"] <= LIMIT
        assert statistics["totalKeysExamined"] <= 2 * LIMIT + STATUSES


@pytest.mark.usefixtures("stored")
async def test_a_claim_in_vain_looks_at_no_workflow(
    application: Application, raw: Database[Document]
) -> None:
    (look,) = await claim_commands(application, raw)
    statistics = explained(raw, look)["executionStats"]
    assert statistics["totalDocsExamined"] == 0
    assert statistics["totalKeysExamined"] <= STATUSES


@pytest.mark.usefixtures("stored")
async def test_the_next_instant_that_something_is_due_costs_one_look(
    application: Application, raw: Database[Document]
) -> None:
    await application.store.wait_for_work(timedelta(0))
    application.sent.commands.clear()
    await application.store.wait_for_work(timedelta(0))
    (look,) = application.sent.named("find")
    assert look["sort"] == {"timeoutAt": 1}
    look["filter"]["timeoutAt"]["$lte"] = NOW + timedelta(days=60)
    explanation = explained(raw, look)
    assert stages(explanation).isdisjoint({"COLLSCAN", "SORT"})
    assert explanation["executionStats"]["totalDocsExamined"] <= 2
    await application.store.close()


@pytest.mark.usefixtures("stored")
async def test_to_look_for_what_will_never_be_due_looks_at_nothing_else(
    application: Application, raw: Database[Document]
) -> None:
    raw.workflows.insert_many(
        [
            {"workflowId": "x", "status": "stuck", "timeoutAt": NOW},
            {"workflowId": "y", "status": "idle", "timeoutAt": "tomorrow"},
        ]
    )
    await application.store.wait_for_work(timedelta(0))
    *looks, _ = application.sent.named("find")
    assert len(looks) == 2
    for look in looks:
        statistics = explained(raw, look)["executionStats"]
        assert statistics["nReturned"] == statistics["totalDocsExamined"] == 1
        assert statistics["totalKeysExamined"] <= 2 + 2 * STATUSES
    await application.store.close()

"""What a caller passes is data: stored and read as it is, and never a part of a command."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
from bson import Code, DBRef, Regex, Timestamp
from pymongo.database import Database

from bluestreak_core import Bluestreak, Context, Status, UnstorableValue, WorkflowAborted
from bluestreak_mongo.schema import (
    claim_entry,
    document,
    error,
    failed_step,
    nap,
    record,
    step,
    worker,
    workflow,
)
from tests.mongo.arrange import Application, Document, polling

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.usefixtures("unmeasured")]

OPERATORS = [
    # Of filters, of updates, of pipelines, and of commands.
    *("$eq", "$gt", "$ne", "$in", "$nin", "$or", "$nor", "$not", "$exists", "$type", "$expr"),
    *("$where", "$regex", "$text", "$jsonSchema", "$elemMatch", "$all", "$size", "$comment"),
    *(
        "$set",
        "$unset",
        "$inc",
        "$min",
        "$rename",
        "$currentDate",
        "$setOnInsert",
        "$push",
        "$pull",
    ),
    *("$each", "$slice", "$position", "$sort", "$bit", "$[]", "$[element]", "$", "$0"),
    *("$match", "$function", "$accumulator", "$lookup", "$out", "$merge", "$replaceRoot", "$$NOW"),
    *("$literal", "$db", "$clusterTime", "$readPreference", "$query", "$orderby", "$ref", "$id"),
]

SHAPES: dict[str, Any] = {
    "an operator": lambda operator: {operator: 1},
    "an operator on a document": lambda operator: {operator: {"status": "finished", "a.b": 1}},
    "an operator on a list": lambda operator: {operator: [{"$set": {"status": "finished"}}]},
    "an operator inside": lambda operator: [{"a": [{operator: {operator: ""}}]}],
    "the name of an operator": lambda operator: operator,
    "names of operators": lambda operator: [operator, f"${operator}", f"$status{operator}"],
}

OTHERS: dict[str, Any] = {
    "dotted keys": {"a.b": 1, ".": 2, "a.": 3, ".a": 4, "..": {"a.0.b": 5}},
    "empty keys": {"": {"": ""}},
    "keys of ours": {"_id": 1, "workflowId": "w2", "status": "finished", "claim": {"$ne": None}},
    "an update": {"$set": {"status": "finished"}, "$unset": {"claim": 1}},
    "a pipeline": [{"$set": {"status": "finished"}}, {"$out": "workflows"}],
    "expressions": ["$status", "$$ROOT", "$$NOW", "$$CLUSTER_TIME", "$workflowId", "$$REMOVE"],
    "numbered keys": {"0": {"1": {"$": 1}}},
    "JavaScript": ["'; return true; '", Code("sleep(1000)"), {"$where": Code("true")}],
    "patterns": [Regex(".*"), {"$regex": ".*", "$options": "i"}],
    "a prototype": {"__proto__": {"status": "finished"}, "constructor": {}},
    "extended JSON": {"$oid": "0" * 24, "$date": "2030-01-01", "$numberLong": "1"},
    "a reference by half": {"$ref": "workflows"},
    "timestamps inside": [Timestamp(0, 0), {"t": Timestamp(0, 0)}],
    "nulls": [None, {"status": None}, "\0", "a\0$set"],
}

VALUES: dict[str, dict[str, Any]] = {"others": OTHERS} | {
    shape: {operator: make(operator) for operator in OPERATORS} for shape, make in SHAPES.items()
}

IDS = [
    *OPERATORS,
    *("a.b", ".", "..", "$a.$b", "$$ROOT.status", "claimLog.0.worker", "workflowId", "_id"),
    *('{"$gt": ""}', "{$ne: null}", "[$gt]", "'; return true; //", "__proto__", "../../etc/passwd"),
    *("%24gt", "\\u0024gt", "\r\n", "\N{SNAKE}", "%s %d {0} {x}", " ", "null", "undefined", "NaN"),
]

OURS = {
    name
    for module in (claim_entry, document, error, failed_step, nap, record, step, worker, workflow)
    for field, name in vars(module).items()
    if field.isupper() and type(name) is str
}


def check_filter(filter: Document) -> None:
    """Fields and operators of ours, and behind them nothing but plain values."""
    for field, value in filter.items():
        assert field in OURS | {"_id"}, filter
        compared = value if isinstance(value, dict) else {"$eq": value}
        assert compared.keys() <= {"$eq", "$in", "$nin", "$lte", "$gt", "$gte", "$type", "$not"}
        for operand in compared.values():
            for plain in operand if isinstance(operand, list) else [operand]:
                assert not isinstance(plain, list | Regex | Code), filter
                assert not isinstance(plain, dict) or plain.keys() == {"$gte"}, filter


def check_update(update: Document) -> None:
    """A document of operators of ours, on whole fields of ours."""
    assert isinstance(update, dict), update
    assert update.keys() <= {"$set", "$unset", "$inc", "$min", "$push"}, update
    for changes in update.values():
        assert changes.keys() <= OURS, update
    for field, pushed in update.get("$push", {}).items():
        assert (field, pushed.keys()) == ("claimLog", {"$each", "$slice"})


def check_commands(application: Application) -> None:
    """That nothing but values of ours is anywhere where the server looks for operators."""
    sent = application.sent
    for command in sent.named("find"):
        check_filter(command["filter"])
    for command in sent.named("update"):
        for update in command["updates"]:
            check_filter(update["q"])
            check_update(update["u"])
    for command in sent.named("findAndModify"):
        check_filter(command["query"])
        check_update(command["update"])
    for command in sent.named("insert"):
        for inserted in command["documents"]:
            assert inserted.keys() <= OURS | {"_id"}
    known = {"find", "update", "findAndModify", "insert", "aggregate", "getMore", "killCursors"}
    known |= {"createIndexes"}  # by the first worker, for its own collection
    assert set(sent.names) <= known
    for command in sent.named("aggregate"):
        assert command["pipeline"][0].keys() == {"$changeStream"}


def engine(application: Application) -> Bluestreak:
    bluestreak = Bluestreak(application.store, wait_retry_interval=0, max_failures=1)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: Any) -> Any:
        seen = await ctx.step("s", lambda: input)
        assert seen == input
        found = await bluestreak.find_workflow(ctx.workflow_id)
        assert found is not None
        if not found.failures:
            raise ValueError(repr(input))  # so that it is read back, too
        return seen

    return bluestreak


@pytest.mark.parametrize("shape", VALUES)
async def test_a_value_is_stored_and_read_as_it_is(
    application: Application, raw: Database[Document], shape: str
) -> None:
    values = VALUES[shape] | {"bystander": None}
    given = copy.deepcopy(values)
    bluestreak = engine(application)
    await bluestreak.init()
    async with polling(bluestreak):
        for workflow_id, value in given.items():
            await bluestreak.start(workflow_id, "h", value)
        results = {workflow_id: await bluestreak.wait(workflow_id) for workflow_id in values}
    assert results == given == values
    for collection, field in (("workflows", "input"), ("workflows", "result"), ("steps", "output")):
        found = list(raw[collection].find())
        assert {document["workflowId"]: document[field] for document in found} == values
        assert set().union(*found) <= OURS | {"_id"}
    check_commands(application)


async def test_an_id_is_a_name_and_nothing_else(
    application: Application, raw: Database[Document]
) -> None:
    bluestreak = Bluestreak(application.store, wait_retry_interval=0, unknown_handler="skip")

    async def handle(ctx: Context, input: None) -> str:
        await ctx.sleep(ctx.workflow_id, timedelta(0))
        return await ctx.step(ctx.workflow_id, lambda: ctx.workflow_id)

    for name in IDS:
        bluestreak.register_handler(name, handle)
    await bluestreak.init()
    async with polling(bluestreak):
        for name in IDS:
            assert await bluestreak.start(name, name)
            assert not await bluestreak.start(name, name)
        assert [await bluestreak.wait(name) for name in IDS] == IDS
    for name in IDS:
        workflow = await bluestreak.find_workflow(name)
        step, nap = await bluestreak.find_step(name, name), await bluestreak.find_nap(name, name)
        assert workflow is not None
        assert step is not None
        assert nap is not None
        assert (workflow.handler_id, step.step_id, step.output, nap.nap_id) == (
            name,
            name,
            name,
            name,
        )
    assert raw.workflows.count_documents({}) == raw.steps.count_documents({}) == len(IDS)
    check_commands(application)


async def test_an_error_is_text(application: Application, raw: Database[Document]) -> None:
    bluestreak = Bluestreak(application.store, max_failures=0)
    hostile = type("$set", (ValueError,), {"__module__": "$where"})

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        raise hostile({"$set": {"status": "finished"}}, "$$NOW")

    await bluestreak.init()
    async with polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=r"\$where.\$set: .*\$\$NOW") as aborted:
            await bluestreak.wait("w")
    found = raw.workflows.find_one()
    assert found is not None
    assert found["error"]["type"] == aborted.value.error_type == "$where.$set"
    assert (found["status"], set(map(type, found["error"].values()))) == (Status.ABORTED, {str})
    check_commands(application)


async def test_what_would_be_read_as_a_reference_is_one(application: Application) -> None:
    bluestreak = engine(application)
    await bluestreak.init()
    async with polling(bluestreak):
        await bluestreak.start("w", "h", {"$ref": "workflows", "$id": {"$gt": ""}})
        assert await bluestreak.wait("w") == DBRef("workflows", {"$gt": ""})
    check_commands(application)


@pytest.mark.parametrize("kind", ["input", "output", "result"])
async def test_a_timestamp_that_the_server_would_replace_is_refused(
    application: Application, kind: str
) -> None:
    bluestreak = Bluestreak(application.store)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> Any:
        if kind == "output":
            await ctx.step("s", lambda: Timestamp(0, 0))
        return Timestamp(0, 0)

    await bluestreak.init()
    if kind == "input":
        with pytest.raises(UnstorableValue, match=r"^input of workflow 'w': Timestamp cannot be"):
            await bluestreak.start("w", "h", Timestamp(0, 0))
        return
    async with polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=rf"UnstorableValue: {kind} of .*Timestamp"):
            await bluestreak.wait("w")

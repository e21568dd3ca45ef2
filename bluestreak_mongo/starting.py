"""Creating workflows, one by one or in bulk."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo.errors import DuplicateKeyError

from bluestreak_core import machine
from bluestreak_core.model import NewWorkflow
from bluestreak_core.store import Hints
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.bulk import Groups, insert_each
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.outcome import check_written
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf

_INSERTED_AT_ONCE = 1000


class Starting:
    """Creates workflows; the methods are those of the Store protocol."""

    def __init__(self, database: Database, groups: Groups, rules: BsonRules, hints: Hints) -> None:
        self._database = database
        self._groups = groups
        self._rules = rules
        self._hints = hints

    async def create(self, new: NewWorkflow) -> bool:
        """See `Store.create`."""
        document, size = new_document(new, self._rules)
        outcome = await self._groups.workflows.call(document, size)
        if isinstance(outcome, DuplicateKeyError):
            return False
        check_written(outcome, document[wf.INPUT], _input_of(new.workflow_id))
        self._hints.due(new.start_at or new.created_at)
        return True

    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        """See `Store.create_many`."""
        documents: dict[str, Document] = {}
        is_first: list[bool] = []
        for workflow in new:
            document, _ = new_document(workflow, self._rules)
            is_first.append(workflow.workflow_id not in documents)
            documents.setdefault(workflow.workflow_id, document)
        created = await self._insert_all(list(documents.values()))
        for workflow in new:
            if workflow.workflow_id in created:
                self._hints.due(workflow.start_at or workflow.created_at)
        return [
            first and workflow.workflow_id in created
            for workflow, first in zip(new, is_first, strict=True)
        ]

    @writes
    async def _insert_all(self, documents: Sequence[Document]) -> set[str]:
        """Insert workflows, a thousand at once; the ids of those that were not there before."""
        created: set[str] = set()
        for start in range(0, len(documents), _INSERTED_AT_ONCE):
            part = documents[start : start + _INSERTED_AT_ONCE]
            outcomes = await insert_each(self._database.workflows, part)
            for document, outcome in zip(part, outcomes, strict=True):
                if outcome is None:
                    created.add(document[wf.WORKFLOW_ID])
                elif not isinstance(outcome, DuplicateKeyError):
                    what = _input_of(document[wf.WORKFLOW_ID])
                    check_written(outcome, document[wf.INPUT], what)
        return created


def new_document(new: NewWorkflow, rules: BsonRules) -> tuple[Document, int]:
    """The document of a new workflow, and the size of its input.

    Raises `UnstorableValue` or `ValueTooLarge` for an input that cannot be stored.
    """
    value, size = rules.round_trip(new.input, _input_of(new.workflow_id))
    return wf.from_workflow(machine.create(new)) | {wf.INPUT: value}, size


def _input_of(workflow_id: str) -> str:
    return f"input of workflow {workflow_id!r}"

"""The indexes of the collections."""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel

from bluestreak_core.model import Status
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.document import NAPS, STEPS, WORKFLOWS, Index
from bluestreak_mongo.schema.nap import NAP_ID
from bluestreak_mongo.schema.step import STEP_ID

RARE = (Status.FAILED, Status.ABORTED, Status.PAUSED, Status.CANCELLED)
"""The states that a workflow is never in if all goes well."""

BY_ID: Index = [(wf.WORKFLOW_ID, ASCENDING)]
BY_STEP: Index = [(wf.WORKFLOW_ID, ASCENDING), (STEP_ID, ASCENDING)]
BY_NAP: Index = [(wf.WORKFLOW_ID, ASCENDING), (NAP_ID, ASCENDING)]
BY_DUE: Index = [(wf.STATUS, ASCENDING), (wf.TIMEOUT_AT, ASCENDING)]
BY_CREATED: Index = [(wf.CREATED_AT, ASCENDING), (wf.WORKFLOW_ID, ASCENDING)]
BY_HANDLER: Index = [(wf.HANDLER_ID, ASCENDING), *BY_CREATED]
BY_RARE_STATUS: Index = [(wf.STATUS, ASCENDING), *BY_CREATED, (wf.HANDLER_ID, ASCENDING)]

KEYS = {
    collection: tuple(field for field, _ in index)
    for collection, index in ((WORKFLOWS, BY_ID), (STEPS, BY_STEP), (NAPS, BY_NAP))
}
"""The fields that identify a document, by collection."""

INDEXES = {
    # The JavaScript library creates the unique ones and BY_DUE as well. None of the others changes
    # when a workflow is claimed, or when it finishes: that would cost every workflow a good deal.
    WORKFLOWS: [
        IndexModel(BY_ID, unique=True),
        IndexModel(BY_DUE),
        IndexModel(BY_CREATED),
        IndexModel(BY_HANDLER),
        IndexModel(
            BY_RARE_STATUS,
            partialFilterExpression={wf.STATUS: {"$in": [status.value for status in RARE]}},
        ),
    ],
    STEPS: [IndexModel(BY_STEP, unique=True)],
    NAPS: [IndexModel(BY_NAP, unique=True)],
}
"""The indexes that `init` creates, by collection."""

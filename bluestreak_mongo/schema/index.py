"""The indexes of the collections."""

from __future__ import annotations

from pymongo import ASCENDING, IndexModel

from bluestreak_core.model import Status
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.document import MESSAGES, NAPS, STEPS, WORKFLOWS, Index
from bluestreak_mongo.schema.message import MESSAGE_ID, NAME, PLACE, UNREAD
from bluestreak_mongo.schema.nap import NAP_ID
from bluestreak_mongo.schema.record import WORKFLOW_CREATED_AT
from bluestreak_mongo.schema.step import STEP_ID
from bluestreak_mongo.schema.worker import BLUESTREAK_VERSION, UNTIL

PARENT_ID = f"{wf.PARENT}.{wf.WORKFLOW_ID}"

RARE = (Status.FAILED, Status.ABORTED, Status.PAUSED, Status.CANCELLED)
"""The states that a workflow is never in if all goes well."""

BY_ID: Index = [(wf.WORKFLOW_ID, ASCENDING)]
BY_STEP: Index = [(wf.WORKFLOW_ID, ASCENDING), (STEP_ID, ASCENDING)]
BY_NAP: Index = [(wf.WORKFLOW_ID, ASCENDING), (NAP_ID, ASCENDING)]
BY_MESSAGE: Index = [
    (wf.WORKFLOW_ID, ASCENDING),
    (WORKFLOW_CREATED_AT, ASCENDING),
    (MESSAGE_ID, ASCENDING),
]
BY_UNREAD: Index = [
    (wf.WORKFLOW_ID, ASCENDING),
    (WORKFLOW_CREATED_AT, ASCENDING),
    (NAME, ASCENDING),
    (PLACE, ASCENDING),
    ("_id", ASCENDING),
]
BY_DUE: Index = [(wf.STATUS, ASCENDING), (wf.TIMEOUT_AT, ASCENDING)]
BY_CREATED: Index = [(wf.CREATED_AT, ASCENDING), (wf.WORKFLOW_ID, ASCENDING)]
BY_HANDLER: Index = [(wf.HANDLER_ID, ASCENDING), *BY_CREATED]
BY_RARE_STATUS: Index = [(wf.STATUS, ASCENDING), *BY_CREATED, (wf.HANDLER_ID, ASCENDING)]
BY_WAITING: Index = [(wf.WAITING_FOR, ASCENDING), *BY_CREATED]
BY_PARENT: Index = [(PARENT_ID, ASCENDING), *BY_CREATED]
BY_UNSETTLED: Index = [(wf.UNSETTLED, ASCENDING), (wf.STATUS, ASCENDING)]

KEYS = {
    collection: tuple(field for field, _ in index)
    for collection, index in (
        (WORKFLOWS, BY_ID),
        (STEPS, BY_STEP),
        (NAPS, BY_NAP),
        (MESSAGES, BY_MESSAGE),
    )
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
        IndexModel(BY_WAITING, partialFilterExpression={wf.WAITING_FOR: {"$exists": True}}),
        IndexModel(BY_PARENT, partialFilterExpression={PARENT_ID: {"$exists": True}}),
        # This one does change, but holds only those whose end concerns others.
        IndexModel(BY_UNSETTLED, partialFilterExpression={wf.UNSETTLED: True}),
    ],
    STEPS: [
        IndexModel(BY_STEP, unique=True),
        # By this, no two steps receive the same message.
        IndexModel(
            BY_MESSAGE, unique=True, partialFilterExpression={MESSAGE_ID: {"$exists": True}}
        ),
    ],
    NAPS: [IndexModel(BY_NAP, unique=True)],
    MESSAGES: [
        IndexModel(BY_MESSAGE, unique=True),
        IndexModel(BY_UNREAD, partialFilterExpression={UNREAD: True}),
    ],
}
"""The indexes that `init` creates, by collection."""

WORKER_INDEXES = [
    IndexModel(
        [(UNTIL, ASCENDING)],
        expireAfterSeconds=0,
        # An application that has a collection of this name must not lose a document.
        partialFilterExpression={BLUESTREAK_VERSION: {"$exists": True}},
    )
]
"""The indexes of the workers, which the first of them creates that registers."""

"""The parent of a workflow, as a part of its document."""

from __future__ import annotations

from bluestreak_core.model import OnParentEnd, Parent
from bluestreak_mongo.schema.document import WORKFLOW_ID, Document
from bluestreak_mongo.schema.reader import Reader

CREATED_AT = "createdAt"
ON_END = "onEnd"


def from_parent(parent: Parent) -> Document:
    """The document of a parent."""
    return {
        WORKFLOW_ID: parent.workflow_id,
        CREATED_AT: parent.created_at,
        ON_END: parent.on_end.value,
    }


def read_parent(read: Reader) -> Parent:
    """The parent in a document."""
    return Parent(
        workflow_id=read.text(WORKFLOW_ID),
        created_at=read.optional_instant(CREATED_AT),
        on_end=OnParentEnd(read.one_of(ON_END, tuple(OnParentEnd))),
    )

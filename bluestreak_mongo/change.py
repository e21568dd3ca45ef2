"""The changes of workflows that a change stream reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson

from bluestreak_core import machine
from bluestreak_core.model import Status
from bluestreak_mongo.bson_rules import CODEC
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf

DUE = {status.value for status in machine.waiting()}
"""The states of workflows that are due at an instant."""

ENDED = {status.value for status in Status if status.ended}

HELD = {status.value for status in machine.held()}
"""The states of workflows that a worker has claimed."""

TAKEN = {status.value for status in machine.taking()}
"""The states in which a claim may have been taken from a worker."""


def _changed(field: str) -> Document:
    """A field's value in an event: in a new document, or among the changes of an old one."""
    return {"$ifNull": [f"$fullDocument.{field}", f"$updateDescription.updatedFields.{field}"]}


PIPELINE: list[Document] = [
    {
        "$project": {
            "documentKey._id": 1,
            wf.STATUS: _changed(wf.STATUS),
            wf.TIMEOUT_AT: _changed(wf.TIMEOUT_AT),
            wf.WORKER: _changed(wf.WORKER),
            wf.MAIL: _changed(wf.MAIL),
        }
    },
    {
        "$match": {
            "$or": [
                {wf.STATUS: {"$in": sorted(DUE | ENDED | TAKEN | HELD)}},
                {wf.MAIL: {"$gt": 0}},
            ]
        }
    },
]
"""What a change stream sends of each change: little, and nothing of values."""


def key_of(document: Mapping[str, Any]) -> bytes:
    """A document's `_id`, which may be anything, as an event names it."""
    return bson.encode({"_id": document["_id"]}, codec_options=CODEC)

"""The last sign of life of a callback, as an entry of its workflow's list of them."""

from __future__ import annotations

from bluestreak_core.model import Beat
from bluestreak_mongo.schema.reader import Reader
from bluestreak_mongo.schema.step import STEP_ID

AT = "at"


def read_beat(read: Reader) -> Beat:
    """The entry in a document."""
    return Beat(step_id=read.text(STEP_ID), at=read.instant(AT))

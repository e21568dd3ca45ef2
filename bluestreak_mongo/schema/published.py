"""A published value, as an entry of its workflow's list of them."""

from __future__ import annotations

from bluestreak_core.model import Published
from bluestreak_mongo.schema.document import Document
from bluestreak_mongo.schema.reader import Reader

NAME = "name"
NUMBER = "number"
VALUE = "value"
AT = "at"
GENERATION = "generation"


def from_published(latest: Published) -> Document:
    """The document of an entry."""
    entry = {NAME: latest.name, NUMBER: latest.number, VALUE: latest.value, AT: latest.at}
    return entry | {GENERATION: latest.generation} if latest.generation else entry


def read_published(read: Reader) -> Published:
    """The entry in a document."""
    return Published(
        name=read.text(NAME),
        number=read.count(NUMBER),
        value=read.value(VALUE),
        at=read.instant(AT),
        generation=read.count(GENERATION),
    )

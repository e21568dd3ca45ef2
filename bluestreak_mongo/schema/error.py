"""An error, inside a workflow, a failed attempt or a step that was given up."""

from __future__ import annotations

from bluestreak_core.model import ErrorRecord
from bluestreak_mongo.schema.document import Document
from bluestreak_mongo.schema.reader import Reader

TYPE = "type"
MESSAGE = "message"
TRACEBACK = "traceback"


def from_error(error: ErrorRecord) -> Document:
    """The document of an error."""
    return {TYPE: error.type, MESSAGE: error.message, TRACEBACK: error.traceback}


def read_error(read: Reader) -> ErrorRecord:
    """The error in a document."""
    return ErrorRecord(
        type=read.text(TYPE), message=read.text(MESSAGE), traceback=read.text(TRACEBACK)
    )

"""The store is unwell, or does not serve us."""

from __future__ import annotations

from bluestreak_core.errors.family import StoreError
from bluestreak_core.errors.text import cut, one_line


class StoreUnavailable(StoreError):
    """The store cannot answer now; the call may or may not have been carried out. Try again."""


class StoreRefused(StoreError):
    """The store answered no: credentials, privileges, version, or a command that it cannot run."""


class CorruptDocument(StoreError):
    """A stored document is not what Bluestreak or its JavaScript counterpart writes."""

    def __init__(self, collection: str, document_id: object, field: str, reason: str) -> None:
        super().__init__(collection, document_id, field, reason)
        self.collection = collection
        self.document_id = document_id
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        name = cut(repr(self.document_id), limit=600)
        reason = one_line(self.reason)
        return f"{one_line(self.collection)} document {name}: {self.field!r} {reason}"

"""The store is unwell, or refuses the call."""

from __future__ import annotations

from bluestreak_core.errors.family import StoreError
from bluestreak_core.errors.text import cut, one_line


class StoreUnavailable(StoreError):
    """The store cannot answer now. The call may have taken effect or not; it is safe to repeat."""


class StoreRefused(StoreError):
    """The store refuses until somebody changes something: credentials, privileges or a version."""


class CorruptDocument(StoreError):
    """A stored document differs from what Bluestreak and the JavaScript library write."""

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

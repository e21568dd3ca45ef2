"""Reading the fields of a document, whichever library wrote it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import CorruptDocument
from bluestreak_core.model import Status
from bluestreak_mongo.schema.document import WORKFLOW_ID

MAX_COUNT = 2**53
"""The last whole number that a double counts up to."""


class Reader:
    """Reads fields by their types, and refuses what neither library writes.

    Each method raises `CorruptDocument` for a field of another type. `path` leads from the `whole`
    document to this one, where this one is inside.
    """

    __slots__ = ("_collection", "_document", "_path", "_whole")

    def __init__(
        self,
        collection: str,
        document: Mapping[str, Any],
        path: str = "",
        whole: Mapping[str, Any] | None = None,
    ) -> None:
        self._collection = collection
        self._document = document
        self._path = path
        self._whole = document if whole is None else whole

    def has(self, field: str) -> bool:
        """Whether there is such a field, and it is not null."""
        return self._document.get(field) is not None

    def value(self, field: str) -> Any:
        """Any value of an application; None if there is none."""
        return self._document.get(field)

    def text(self, field: str) -> str:
        """A string."""
        value: object = self._document.get(field)
        if type(value) is not str:  # BSON's code is a subclass of it
            self._refuse(field, "is not a string")
        return value

    def flag(self, field: str) -> bool:
        """True or false."""
        value = self._document.get(field)
        if not isinstance(value, bool):
            self._refuse(field, "is neither true nor false")
        return value

    def count(self, field: str, least: int = 0) -> int:
        """A count, which JavaScript may have stored as a double; 0 if there is none."""
        value = self._document.get(field, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(field, "is no number")
        # NaN is refused by the first
        if not least <= value <= MAX_COUNT or value != int(value):
            self._refuse(field, f"is {value!r}, which is no count")
        return int(value)

    def instant(self, field: str) -> datetime:
        """A date."""
        value = self._document.get(field)
        if not isinstance(value, datetime):
            self._refuse(field, "is not a date")
        return in_milliseconds(value)

    def status(self, field: str) -> Status:
        """A state of a workflow."""
        value = self._document.get(field)
        try:
            return Status(value or "")
        except ValueError:
            self._refuse(field, f"is {value!r:.80}")

    def one_of(self, field: str, known: Collection[str]) -> str:
        """One of some strings."""
        value = self.text(field)
        if value not in known:
            self._refuse(field, f"is {value!r:.80}")
        return value

    def optional_text(self, field: str) -> str | None:
        """A string or nothing."""
        return self.text(field) if self.has(field) else None

    def optional_instant(self, field: str) -> datetime | None:
        """A date or nothing."""
        return self.instant(field) if self.has(field) else None

    def texts(self, field: str) -> tuple[str, ...]:
        """The strings in an array; none if there is no such field."""
        values = self._document.get(field, [])
        if not isinstance(values, list) or not all(type(value) is str for value in values):
            self._refuse(field, "is not an array of strings")
        return tuple(values)

    def inside(self, field: str) -> Reader:
        """The document in a field."""
        return self._inside(field, self._document.get(field))

    def each_inside(self, field: str) -> Iterator[Reader]:
        """The documents in an array; none if there is no such field."""
        entries = self._document.get(field, [])
        if not isinstance(entries, list):
            self._refuse(field, "is not an array")
        for entry in entries:
            yield self._inside(field, entry)

    def _inside(self, field: str, value: object) -> Reader:
        if not isinstance(value, Mapping):
            self._refuse(field, "has no document where one belongs")
        return Reader(self._collection, value, f"{self._path}{field}.", self._whole)

    def _refuse(self, field: str, reason: str) -> NoReturn:
        name = self._whole.get(WORKFLOW_ID, self._whole.get("_id"))
        raise CorruptDocument(self._collection, name, self._path + field, reason)

"""Which workflows a list is about, as its address says it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from starlette.datastructures import QueryParams

from bluestreak_core import Client, InvalidArgument, WorkflowSummary

_UNITS = {"m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters of `Client.list`, as texts; an empty one does not filter.

    `since` is an instant, such as 2026-11-30, or an age, such as 2h.
    """

    status: tuple[str, ...] = ()
    handler: str = ""
    prefix: str = ""
    waiting_for: str = ""
    parent: str = ""
    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, query: QueryParams) -> Self:
        """The filters in an address."""
        statuses = tuple(filter(None, query.getlist("status")))
        texts = {each.name: query.get(each.name, "").strip() for each in fields(cls)[1:]}
        return cls(status=statuses, **texts)

    @property
    def query(self) -> dict[str, Any]:
        """The parameters of an address."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def list(
        self, client: Client, *, now: datetime, limit: int | None, after: str | None = None
    ) -> AsyncIterator[WorkflowSummary]:
        """The workflows."""
        created = (_instant("since", self.since, now), _instant("until", self.until, now))
        return client.list(
            status=list(self.status) or None,
            handler_id=self.handler or None,
            id_prefix=self.prefix or None,
            waiting_for=self.waiting_for or None,
            parent=self.parent or None,
            created=None if created == (None, None) else created,
            limit=limit,
            after=after or None,
        )


def _instant(name: str, text: str, now: datetime) -> datetime | None:
    """An instant, or one that was so long ago; naive ones are UTC."""
    if not text:
        return None
    try:
        if text[-1] in _UNITS:
            return now - timedelta(seconds=float(text[:-1]) * _UNITS[text[-1]])
        instant = datetime.fromisoformat(text)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(name, text, "expected such as 2026-11-30, or 2h or 3d ago") from None

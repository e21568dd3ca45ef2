"""Arguments and options that several commands have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

from bluestreak_cli.failure import CommandError
from bluestreak_cli.instant import read_instant
from bluestreak_core import Client, Status, WorkflowSummary

WorkflowId = Annotated[str, typer.Argument(metavar="ID", help="The id of the workflow.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _filter(flag: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=help, metavar=metavar, rich_help_panel="Which workflows")


FILTERS: Mapping[str, Any] = {
    "status": Annotated[
        list[Status] | None,
        _filter("--status", f"In this state; repeatable: {', '.join(Status)}.", "STATUS"),
    ],
    "handler_id": Annotated[str | None, _filter("--handler", "Of this handler.", "ID")],
    "id_prefix": Annotated[str | None, _filter("--prefix", "Whose id begins so.", "TEXT")],
    "waiting_for": Annotated[
        str | None, _filter("--waiting-for", "Parked until this message comes.", "NAME")
    ],
    "parent": Annotated[str | None, _filter("--parent", "Children of this workflow.", "ID")],
    "created_from": Annotated[
        str | None, _filter("--created-from", "Created then or later: 2026-11-30, or 2d.", "TIME")
    ],
    "created_until": Annotated[str | None, _filter("--created-until", "Created before.", "TIME")],
}
"""The options of `Filters`, by its fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which workflows a command is about, as `Client.list` takes it."""

    status: list[Status] | None = None
    handler_id: str | None = None
    id_prefix: str | None = None
    waiting_for: str | None = None
    parent: str | None = None
    created_from: str | None = None
    created_until: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it is about all workflows."""
        return self == Filters()

    def list(
        self, client: Client, *, limit: int | None = None, after: str | None = None
    ) -> AsyncIterator[WorkflowSummary]:
        """The workflows."""
        return client.list(
            status=self.status,
            handler_id=self.handler_id,
            id_prefix=self.id_prefix,
            waiting_for=self.waiting_for,
            parent=self.parent,
            created=self._created(),
            limit=limit,
            after=after,
        )

    def _created(self) -> tuple[datetime | None, datetime | None] | None:
        if self.created_from is None and self.created_until is None:
            return None
        return (
            _instant(self.created_from, "--created-from"),
            _instant(self.created_until, "--created-until"),
        )


def check_limit(limit: int) -> None:
    """Refuse a limit that is none."""
    if limit < 1:
        raise CommandError(f"--limit {limit} is less than 1", "give a positive number")


def _instant(text: str | None, option: str) -> datetime | None:
    return None if text is None else read_instant(text, option)

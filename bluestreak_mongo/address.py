"""What is read of a workflow to send it a message, or to wait for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from bluestreak_core.model import Claim, Status
from bluestreak_mongo.schema import WORKFLOWS, Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.reader import Reader
from bluestreak_mongo.schema.record import Owner

ADDRESS_FIELDS: Document = dict.fromkeys(
    (
        *(wf.WORKFLOW_ID, wf.STATUS, wf.CREATED_AT, wf.RESTARTED_AT, wf.PRUNED_AT),
        *(wf.MAIL, wf.WAITING_FOR, wf.CLAIM),
    ),
    1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A workflow as the sender of a message sees it."""

    key: Any
    """The `_id` of its document, which no later workflow of the same id has."""
    workflow_id: str
    status: Status
    created_at: datetime | None
    restarted_at: datetime | None
    is_pruned: bool
    mail: int
    waiting_for: tuple[str, ...]
    claim_token: str | None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """The address in a document with the `ADDRESS_FIELDS`."""
        read = Reader(WORKFLOWS, document)
        return cls(
            key=document["_id"],
            workflow_id=read.text(wf.WORKFLOW_ID),
            status=read.status(wf.STATUS),
            created_at=read.optional_instant(wf.CREATED_AT),
            restarted_at=read.optional_instant(wf.RESTARTED_AT),
            is_pruned=read.has(wf.PRUNED_AT),
            mail=read.count(wf.MAIL),
            waiting_for=read.texts(wf.WAITING_FOR),
            claim_token=read.optional_text(wf.CLAIM),
        )

    def is_held_by(self, claim: Claim) -> bool:
        """Whether a claim was in force when this was read."""
        return self.status is Status.RUNNING and self.claim_token == claim.token

    @property
    def owner(self) -> Owner:
        """To whom its messages belong."""
        return Owner.of_mail(self.workflow_id, self.created_at)

    @property
    def owner_of_records(self) -> Owner:
        """To whom the steps belong that receive them."""
        return Owner.stored(self.workflow_id, self.created_at, self.restarted_at)

    @property
    def may_be_parked(self) -> bool:
        """Whether a message may wake it: it waits for one, or may do so since it was read."""
        return bool(self.waiting_for) or self.status is Status.RUNNING

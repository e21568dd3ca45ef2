"""What happened to the stored documents, in the order in which it happened.

The server's log of operations holds each change that the set has kept; what a primary wrote and had
to take back after a partition is not in it. So nothing that was there for a moment is missed, and
nobody who did it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bluestreak_core.model import Status
from bluestreak_mongo.schema import NAPS, STEPS, WORKFLOWS
from bluestreak_mongo.schema import workflow as wf

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a workflow's document says about who may move it."""

    status: Status
    claim: str | None
    worker: str | None
    timeout_at: datetime
    failures: int

    @property
    def pid(self) -> int | None:
        """The process that made the last claim."""
        return None if self.worker is None else pid_of(self.worker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A write to a workflow's document; `before` is None where it created the document."""

    workflow_id: str
    at: datetime
    before: State | None
    after: State

    @property
    def is_claim(self) -> bool:
        return self.before is not None and self.before.claim != self.after.claim

    @property
    def is_takeover(self) -> bool:
        """A claim of what another one still held, when its lease had run out."""
        return self.is_claim and self.before is not None and self.before.status is Status.RUNNING

    @property
    def is_move(self) -> bool:
        """What ends a claim."""
        return (
            self.before is not None
            and not self.is_claim
            and self.before.status is not self.after.status
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """An operation that nothing in this library does."""

    collection: str
    operation: str
    key: object


def pid_of(worker: str) -> int:
    """The process id in a worker's name."""
    return int(worker.rsplit("-", 2)[1])


def read(operations: Iterable[Document]) -> Iterator[Change | Odd]:
    """The changes of workflows, and whatever else was done than to insert steps and naps."""
    documents: dict[object, dict[str, Any]] = {}
    for operation in operations:
        collection = operation["ns"].partition(".")[2]
        kind, key = operation["op"], operation["o2"]["_id"] if "o2" in operation else None
        if kind == "c" or (kind == "i" and collection in (STEPS, NAPS)):
            continue
        if collection != WORKFLOWS or kind not in ("i", "u"):
            yield Odd(collection=collection, operation=kind, key=key)
            continue
        before = documents.get(key)
        after = dict(operation["o"]) if before is None else changed(before, operation["o"])
        documents[key] = after
        yield Change(
            workflow_id=after[wf.WORKFLOW_ID],
            at=operation["wall"],
            before=None if before is None else _state(before),
            after=_state(after),
        )


def changed(document: Document, update: Document) -> dict[str, Any]:
    """A document after an update, but for changes inside of arrays."""
    after = dict(document)
    for part in ("i", "u"):
        after |= update["diff"].get(part, {})
    for field in update["diff"].get("d", {}):
        after.pop(field, None)
    return after


def _state(document: Document) -> State:
    return State(
        status=Status(document[wf.STATUS]),
        claim=document.get(wf.CLAIM),
        worker=document.get(wf.WORKER),
        timeout_at=document[wf.TIMEOUT_AT],
        failures=document[wf.FAILURES],
    )

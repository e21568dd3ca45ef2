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

from bluestreak_core.machine import CONTROL, TRANSITIONS
from bluestreak_core.model import Status
from bluestreak_mongo.schema import MESSAGES, NAPS, STEPS, WORKERS, WORKFLOWS
from bluestreak_mongo.schema import workflow as wf
from tests.chaos.ledger import EFFECTS_DATABASE

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a workflow's document says about who may move it."""

    status: Status
    claim: str | None
    worker: str | None
    timeout_at: datetime
    failures: int
    is_waiting: bool = False
    """Whether it is parked until a message comes."""
    is_pruned: bool = False
    """Whether it is marked for deletion."""

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
        return (
            self.before is not None
            and self.after.claim is not None
            and self.before.claim != self.after.claim
        )

    @property
    def is_control(self) -> bool:
        """What comes from outside, and needs no claim; so does the end of a fork's making."""
        return self.before is not None and self.after.status in {
            TRANSITIONS[self.before.status].get(event) for event in CONTROL
        }

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
            and not self.is_control
            and self.before.status is not self.after.status
        )

    @property
    def is_wake(self) -> bool:
        """What a message does to a workflow that was parked until it comes."""
        before, after = self.before, self.after
        return (
            before is not None
            and before.is_waiting
            and not after.is_waiting
            and after.timeout_at <= before.timeout_at
            and before.status is after.status
            and before.status in (Status.IDLE, Status.PAUSED)
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
    """The changes of workflows, and whatever else was done than to record and to prune."""
    documents: dict[object, dict[str, Any]] = {}
    owners: dict[tuple[str, object], str] = {}
    doomed: set[str] = set()
    """Workflows whose records may be deleted: those to be pruned, and those that have restarted."""
    for operation in _each(operations):
        collection = operation["ns"].partition(".")[2]
        kind, key = operation["op"], _key(operation)
        if kind == "c" or collection == WORKERS or (kind == "u" and collection == MESSAGES):
            continue
        if kind == "d" and owners.get((collection, key)) in doomed:
            continue
        if kind == "i" and collection in (STEPS, NAPS, MESSAGES):
            owners[collection, key] = operation["o"][wf.WORKFLOW_ID]
            continue
        if collection != WORKFLOWS or kind not in ("i", "u"):
            yield Odd(collection=collection, operation=kind, key=key)
            continue
        before = documents.get(key)
        after = dict(operation["o"]) if before is None else changed(before, operation["o"])
        documents[key] = after
        owners[collection, key] = workflow_id = after[wf.WORKFLOW_ID]
        if wf.PRUNED_AT in after or wf.GENERATION in after:
            doomed.add(workflow_id)
        yield Change(
            workflow_id=workflow_id,
            at=operation["wall"],
            before=None if before is None else _state(before),
            after=_state(after),
        )


def _each(operations: Iterable[Document]) -> Iterator[Document]:
    """The operations, with those of a transaction one by one."""
    for operation in operations:
        if "applyOps" in operation["o"]:
            for part in operation["o"]["applyOps"]:
                if not part["ns"].startswith(f"{EFFECTS_DATABASE}."):
                    yield {**part, "wall": operation["wall"]}
        else:
            yield operation


def _key(operation: Document) -> object:
    """The `_id` of the document that was changed; of a deleted one it is all that there is."""
    found = operation["o"] if operation["op"] == "d" else operation.get("o2", {})
    return found.get("_id", operation["o"].get("_id"))


def changed(document: Document, update: Document) -> dict[str, Any]:
    """A document after an update, but for changes inside of arrays."""
    if "diff" not in update:
        return dict(update)
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
        is_waiting=wf.WAITING_FOR in document,
        is_pruned=wf.PRUNED_AT in document,
    )

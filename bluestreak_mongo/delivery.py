"""Counting messages in the workflows that they were sent to, many in one write.

Whether a message wakes its workflow is decided by an update for each workflow, which costs the
server several times what it takes to count. So workflows that wait for no message are counted up
together, and the server says how many it has found in that state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, UpdateMany, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, PyMongoError, WriteError

from bluestreak_core.adapter import Outcome
from bluestreak_mongo import transitions
from bluestreak_mongo.driver import translated
from bluestreak_mongo.routing import first_failure
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.document import Index

_Key = tuple[str, datetime | None]
"""The id of a workflow, and when it was created."""

_BY_KEY: Index = [("_id", ASCENDING)]
"""In an index by state, a workflow that moves meanwhile may be found, and so counted, twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message that has been put into a mailbox; `created_at` is that of its workflow."""

    workflow_id: str
    created_at: datetime | None
    name: str
    sent_at: datetime
    document_key: Any = None
    """The `_id` of its workflow's document, for `count_each`."""

    @property
    def key(self) -> _Key:
        """Which workflow it was sent to, as opposed to a later one of the same id."""
        return self.workflow_id, self.created_at


class Unreachable(Exception):
    """A workflow has finished or is gone, so that nothing is delivered to it any more."""


async def count_each(
    workflows: AsyncCollection[Document], deliveries: Sequence[Delivery]
) -> list[Outcome]:
    """Like `deliver_each`, for workflows that were awake when they were read: few updates for many.

    A workflow that has been parked since may have to be woken, and one that is gone or finished has
    to be told apart, and there may be no answer. Then all are delivered as `deliver_each` does:
    those that were counted already are counted again.
    """
    keys = {delivery.key: delivery.document_key for delivery in deliveries}
    by_count: dict[int, list[Any]] = {}
    for key, count in Counter(delivery.key for delivery in deliveries).items():
        by_count.setdefault(count, []).append(keys[key])
    bulk = [
        UpdateMany(transitions.reachable_awake(same), transitions.count(count), hint=_BY_KEY)
        for count, same in by_count.items()
    ]
    try:
        matched = (await workflows.bulk_write(bulk, ordered=False)).matched_count
    except PyMongoError:
        matched = 0
    if matched == len(keys):
        return [None] * len(deliveries)
    return await deliver_each(workflows, deliveries)


async def deliver_each(
    workflows: AsyncCollection[Document], deliveries: Sequence[Delivery]
) -> list[Outcome]:
    """Count messages, and wake those who wait for them: one update for each workflow.

    The outcome is `Unreachable` where that has come too late. Repeats do no harm.
    """
    parcels: dict[_Key, list[Delivery]] = {}
    for delivery in deliveries:
        parcels.setdefault(delivery.key, []).append(delivery)
    try:
        outcomes = await _carry_out(workflows, parcels)
    except PyMongoError as error:
        return [translated(error) for _ in deliveries]
    return [_copy_of(outcomes[delivery.key]) for delivery in deliveries]


async def _carry_out(
    workflows: AsyncCollection[Document], parcels: Mapping[_Key, Sequence[Delivery]]
) -> dict[_Key, Outcome]:
    bulk = [
        UpdateOne(
            transitions.reachable(*key),
            transitions.deliver(
                [delivery.name for delivery in parcel],
                max(delivery.sent_at for delivery in parcel),
            ),
        )
        for key, parcel in parcels.items()
    ]
    outcomes: dict[_Key, Outcome] = dict.fromkeys(parcels)
    try:
        matched = (await workflows.bulk_write(bulk, ordered=False)).matched_count
    except BulkWriteError as error:
        if error.details["writeConcernErrors"]:
            raise first_failure(error) from error
        keys = list(parcels)
        for refused in error.details["writeErrors"]:
            outcomes[keys[refused["index"]]] = WriteError(refused["errmsg"], refused["code"])
        matched = error.details["nMatched"]
    delivered = [key for key, outcome in outcomes.items() if outcome is None]
    if matched < len(delivered):
        for key in await _unreachable(workflows, delivered):
            outcomes[key] = Unreachable()
    return outcomes


async def _unreachable(workflows: AsyncCollection[Document], keys: Sequence[_Key]) -> list[_Key]:
    """Those that nothing is delivered to any more.

    One of them may have finished after the delivery, which its sender finds out.
    """
    reachable = {"$or": [transitions.reachable(*key) for key in keys]}
    found = workflows.find(reachable, {wf.WORKFLOW_ID: 1, wf.CREATED_AT: 1})
    left = {(each[wf.WORKFLOW_ID], each.get(wf.CREATED_AT)) async for each in found}
    return [key for key in keys if key not in left]


def _copy_of(outcome: Outcome) -> Outcome:
    """An error that no other caller shares."""
    return None if outcome is None else copy(outcome)

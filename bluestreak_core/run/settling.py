"""Settling the end of a workflow: its parent is woken, and its children are cancelled.

A workflow whose end concerns others is `unsettled` from the moment at which it becomes a child or
is about to have one. The flag is cleared after its end, once the parent is woken and the children
are cancelled. The run or the caller that ended the workflow does this at once. If that process
dies, the flag stays, and a worker completes the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, Protocol, TypeGuard, TypeVar

from bluestreak_core import machine
from bluestreak_core.errors import StoreError, TransitionRefused, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.model import Standing
from bluestreak_core.run.log import fields_of_standing
from bluestreak_core.store import Store, SupportsChildren, supports

T = TypeVar("T")
logger = logging.getLogger(__name__)

PARENT_ENDED = "its parent has ended"
"""The reason for which a child is cancelled then."""

NOT_NEEDED = "its parent goes on without it"
"""The reason for which a child is cancelled that is skipped."""

_CHILD = "child/"

AT_ONCE = 100
"""How many workflows are looked for, and moved, at once."""


class KnowsChildren(Store, SupportsChildren, Protocol):
    """A store that knows the children of a workflow."""


def name_of_child(workflow_id: str) -> str:
    """The name that a parent waits for until a child has ended, as it does for a message."""
    return f"{_CHILD}{workflow_id}"


def child_of_name(name: str) -> str | None:
    """The id of the child that a name of `name_of_child` is about; None for that of a message."""
    return name.removeprefix(_CHILD) if name.startswith(_CHILD) else None


def knows_children(store: Store) -> TypeGuard[KnowsChildren]:
    """Whether a store has the power `SupportsChildren`."""
    return supports(store, SupportsChildren)


async def settle(store: Store, seen: Standing, *, has_children: bool = True) -> None:
    """See to the parent and the children of a workflow that was seen to have ended.

    Does nothing if it has not, or is settled. `has_children=False` spares the look for them. An
    error of the store is logged: a worker does it later.
    """
    try:
        await _settle_all(store, [seen], has_children=has_children)
    except StoreError as error:
        logger.warning(
            "workflow %r has ended, and its parent and children are seen to later: %r",
            *(seen.workflow_id, error),
            extra=fields_of_standing(seen),
        )


async def settle_by_id(store: Store, workflow_id: str) -> None:
    """`settle` for a workflow that was not seen yet."""
    if not knows_children(store):
        return
    try:
        seen = await store.find_standing(workflow_id)
    except StoreError as error:
        logger.warning(
            "the parent and children of workflow %r are seen to later: %r",
            *(workflow_id, error),
            extra={"workflow_id": workflow_id},
        )
        return
    if seen is not None:
        await settle(store, seen)


async def settle_left(store: Store) -> None:
    """Settle all that dead processes have left. Raises what the store raises."""
    if not knows_children(store):
        return
    done: set[tuple[str, int]] = set()
    limit = AT_ONCE
    while True:
        found = await store.find_unsettled(limit)
        left = [seen for seen in found if (seen.workflow_id, seen.controls) not in done]
        done.update((seen.workflow_id, seen.controls) for seen in left)
        for seen in left:
            await settle(store, seen)
        if len(found) < limit:
            return
        # What could not be settled is found again, and must not keep the rest from being found.
        limit = AT_ONCE + len(found) - len(left)


async def _settle_all(store: Store, seen: list[Standing], *, has_children: bool) -> None:
    """Settle workflows, and then those of their children that this ends, and so on down.

    A loop, since a family may have more generations than Python allows calls within calls.
    """
    if not knows_children(store):
        return
    while due := [ended for ended in seen if ended.status.ended and ended.unsettled]:
        parts = [due[start : start + AT_ONCE] for start in range(0, len(due), AT_ONCE)]
        seen = []
        for part in parts:
            ends = [_settle_one(store, ended, has_children=has_children) for ended in part]
            for children in await gathered(ends):
                seen += children
        has_children = True


async def _settle_one(
    store: KnowsChildren, ended: Standing, *, has_children: bool
) -> list[Standing]:
    """Settle one workflow; the children that had to be cancelled for that."""
    if ended.parent is not None:
        name = name_of_child(ended.workflow_id)
        parent = ended.parent
        await store.nudge(parent.workflow_id, parent.created_at, name, store.clock.now())
    children = await _end_children(store, ended) if has_children else []
    await store.settle(ended)
    return children


async def _end_children(store: KnowsChildren, ended: Standing) -> list[Standing]:
    cancelled: dict[str, None] = {}
    while True:
        found = await store.find_children(ended.workflow_id, ended.created_at, AT_ONCE)
        live = [child_id for child_id in found if child_id not in cancelled]
        # It may have been retried since, and would miss a child that is cancelled now.
        if not live or not machine.is_settled_by(
            await store.find_standing(ended.workflow_id), ended
        ):
            break
        await gathered(_cancel(store, child_id) for child_id in live)
        cancelled.update(dict.fromkeys(live))
        if len(found) < AT_ONCE:
            break
    standings = await gathered(store.find_standing(child_id) for child_id in cancelled)
    return [standing for standing in standings if standing is not None]


async def _cancel(store: Store, child_id: str) -> None:
    now = store.clock.now()
    try:
        await store.control(child_id, Transition.CANCEL, now, PARENT_ENDED)
    except (TransitionRefused, WorkflowNotFound):
        pass  # it has ended by itself
    else:
        logger.info(
            "workflow %r was cancelled: %s",
            *(child_id, PARENT_ENDED),
            extra={"workflow_id": child_id},
        )


async def gathered(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of concurrent calls, once all of them have ended. Raises their first error."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results

"""Creating workflows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bluestreak_core.argument import Duration, check_id, has_real_type, to_instant, to_timedelta
from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import InvalidArgument, WorkflowConflict
from bluestreak_core.model import NewWorkflow, Workflow
from bluestreak_core.run import Handler
from bluestreak_core.run.known_handlers import KnownHandlers
from bluestreak_core.store import SupportsTransactions
from bluestreak_core.store.values import same_value


@dataclass(frozen=True, slots=True)
class Start:
    """One workflow for `start_many`; the fields are the arguments of `start`."""

    workflow_id: str
    handler: str | Handler
    input: Any = None
    delay: Duration | None = field(default=None, kw_only=True)
    at: datetime | None = field(default=None, kw_only=True)


class Starting:
    """The calls of a client that create workflows; see `Client`."""

    def __init__(self, store: OpenStore, handlers: KnownHandlers) -> None:
        self._store = store
        self._handlers = handlers

    async def start(self, start: Start, *, strict: bool, session: Any) -> bool:
        """Create one workflow, in the session's transaction if there is one."""
        store = self._store.get("start()")
        new = self._new(start)
        if session is None:
            created = await store.create(new)
        else:
            transactional = await self._store.transactional("start(session=)")
            created = await transactional.create_in(session, new)
        if strict and not created:
            await self._check_same(new, session)
        return created

    async def start_many(self, starts: Iterable[Start]) -> list[bool]:
        """Create many workflows."""
        store = self._store.get("start_many()")
        if has_real_type(starts, str) or not isinstance(starts, Iterable):
            raise InvalidArgument("starts", starts, "expected several Start")
        return await store.create_many(
            [self._new(start, f"starts[{place}]: ") for place, start in enumerate(starts)]
        )

    def _new(self, start: Start, where: str = "") -> NewWorkflow:
        if not has_real_type(start, Start):
            raise InvalidArgument(where.removesuffix(": "), start, "expected a Start")
        now = self._store.clock.now()
        start_at = _start_at(start, now, where)
        workflow_id = check_id(f"{where}workflow id", start.workflow_id)
        handler_id, stored_input = self._handlers.to_store(
            workflow_id, start.handler, start.input, where
        )
        return NewWorkflow(
            workflow_id=workflow_id,
            handler_id=handler_id,
            input=stored_input,
            created_at=now,
            start_at=start_at if start_at is not None and start_at > now else None,
        )

    async def _check_same(self, new: NewWorkflow, session: Any) -> None:
        """Refuse a workflow if its id belongs to another one."""
        found = await self._find(new.workflow_id, session)
        if found is None:
            return
        if found.handler_id != new.handler_id:
            raise WorkflowConflict(new.workflow_id, "handler")
        # The input of a restarted workflow is not the one that it was started with.
        if not found.generation and not same_value(found.input, new.input):
            raise WorkflowConflict(new.workflow_id, "input")

    async def _find(self, workflow_id: str, session: Any) -> Workflow | None:
        if session is None:
            return await self._store.get("start()").find_workflow(workflow_id)
        store = self._store.require(SupportsTransactions, "start(session=)")
        return await store.find_in(session, workflow_id)


def _start_at(start: Start, now: datetime, where: str) -> datetime | None:
    """When a workflow is to start; None is now."""
    if start.delay is not None and start.at is not None:
        raise InvalidArgument(f"{where}at", start.at, "expected a delay or an instant, not both")
    if start.delay is not None:
        return in_milliseconds(now + to_timedelta(f"{where}delay", start.delay))
    if start.at is None:
        return None
    return to_instant(f"{where}at", start.at)

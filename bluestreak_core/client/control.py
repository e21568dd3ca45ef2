"""Changing workflows from outside."""

from __future__ import annotations

from typing import Any

from bluestreak_core.argument import check_id, check_reason
from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.errors import TransitionRefused
from bluestreak_core.machine import Transition
from bluestreak_core.run.settling import settle_by_id
from bluestreak_core.store import SupportsForks


class Control:
    """The calls of a client that cancel, pause, resume, retry and fork; see `Client`."""

    def __init__(self, store: OpenStore) -> None:
        self._store = store

    async def cancel(self, workflow_id: str, reason: str | None, session: Any) -> bool:
        """Cancel a workflow, in the transaction of a session if given; False if it had ended."""
        reason = check_reason(reason)
        try:
            if session is None:
                await self.change(workflow_id, Transition.CANCEL, reason)
                await settle_by_id(self._store.get("cancel()"), check_id("", workflow_id))
            else:
                await self._cancel_in(session, workflow_id, reason)
        except TransitionRefused:
            return False
        return True

    async def change(self, workflow_id: str, event: Transition, reason: str | None = None) -> None:
        """Carry out one of the transitions of `machine.CONTROL`, whose names are the calls'."""
        store = self._store.get(f"{event.value}()")
        workflow_id = check_id("workflow id", workflow_id)
        await store.control(workflow_id, event, self._store.clock.now(), reason)

    async def fork(self, workflow_id: str, new_id: str, before: str | None) -> bool:
        """Create a workflow with the records of another one."""
        store = self._store.require(SupportsForks, "fork()")
        workflow_id = check_id("workflow id", workflow_id)
        new_id = check_id("new id", new_id)
        before = None if before is None else check_id("before", before)
        return await store.fork(workflow_id, new_id, before, self._store.clock.now())

    async def _cancel_in(self, session: Any, workflow_id: str, reason: str | None) -> None:
        self._store.check("cancel()")
        workflow_id = check_id("workflow id", workflow_id)
        now = self._store.clock.now()
        store = await self._store.transactional("cancel(session=)")
        await store.control_in(session, workflow_id, Transition.CANCEL, now, reason)

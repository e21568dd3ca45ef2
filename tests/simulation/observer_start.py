"""Starts, forks, and what a transaction sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from typing_extensions import override

from bluestreak_core import (
    NewWorkflow,
    Workflow,
)
from tests.simulation import store_invariant as invariant
from tests.simulation.observation import Observation


class Starts(Observation):
    """Starts, forks, and what a transaction sees of them."""

    @override
    async def create(self, new: NewWorkflow) -> bool:
        created = await super().create(new)
        self._note_start("create", new, is_new=created)
        return created

    @override
    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        created = await super().create_many(new)
        for workflow, is_new in zip(new, created, strict=True):
            self._note_start("create_many", workflow, is_new=is_new)
        return created

    @override
    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        created = await super().create_in(session, new)
        self._record.note(f"create_in {new.workflow_id} -> {created}")
        if created:
            self._record.written[session][new.workflow_id] = "created"
            await self._check_isolated(new.workflow_id, None)
            session.after_commit(lambda: self._note_start("commit", new, is_new=True))
        return created

    @override
    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        found = await super().find_in(session, workflow_id)
        self._record.note(f"find_in {workflow_id} -> {found and found.status}")
        invariant.transactions_see_their_own_writes(self._record, session, workflow_id, found)
        return found

    def _note_start(self, call: str, new: NewWorkflow, *, is_new: bool) -> None:
        self._record.note(f"{call} {new.workflow_id} -> {is_new}")
        if is_new:
            invariant.ids_are_new_once(self._record, new.workflow_id)
            self._record.created.add(new.workflow_id)
            self._record.begins[new.workflow_id] = new.start_at or new.created_at
            if new.parent is not None:
                self._record.accepted.add(new.workflow_id)

    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        forked = await super().fork(workflow_id, new_id, before, now)
        self._record.note(f"fork {workflow_id} to {new_id} before {before} -> {forked}")
        if forked:
            invariant.ids_are_new_once(self._record, new_id)
            self._record.created.add(new_id)
            await self._note_copies(workflow_id, new_id, before)
        return forked

    async def _note_copies(self, workflow_id: str, new_id: str, before: str | None) -> None:
        records = await self._memory.records(new_id)
        copies: dict[str, Any] = {f"step {step.step_id}": step.output for step in records.steps}
        copies |= {f"nap {nap.nap_id}": nap.wake_up_at for nap in records.naps}
        invariant.forks_have_what_was_recorded(self._record, workflow_id, new_id, before, copies)
        for what, stored in copies.items():
            self._record.outputs[new_id, what] = stored
            self._record.copied.add((new_id, what))
        for step in records.steps:
            if step.receipt is not None:
                self._record.receipts[new_id, step.step_id] = step.receipt
        for failed in (await self._found(new_id)).failed_steps:
            self._record.given_up.add((new_id, failed.step_id))

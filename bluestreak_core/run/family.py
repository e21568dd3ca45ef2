"""The parent and the children of a workflow, as its run sees them."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from bluestreak_core import machine
from bluestreak_core.errors import (
    CorruptDocument,
    StoreUnavailable,
    TransitionRefused,
    WorkflowNotFound,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    NewWorkflow,
    OnParentEnd,
    Parent,
    Standing,
    Status,
)
from bluestreak_core.run.lease import Lease
from bluestreak_core.run.log import fields
from bluestreak_core.run.settling import PARENT_ENDED, settle, settle_by_id
from bluestreak_core.store import Store, SupportsChildren, require

logger = logging.getLogger(__name__)

_PAUSE = timedelta(seconds=1)
"""After a wait for an end that the store could not carry out."""


class Family:
    """The relatives of one claimed workflow.

    Each call is repeated until the store answers. If the lease runs out first, or has been lost
    already, the call raises `ClaimLost`.
    """

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self.workflow = lease.claim.workflow
        """The workflow, as the claim found it."""
        self.clock = store.clock
        """The store's clock."""
        self._has_adopted = False

    @property
    def children(self) -> SupportsChildren:
        """The store, if it knows children. Raises `Unsupported`."""
        return require(self._store, SupportsChildren, "ctx.child")

    def as_parent(self, on_end: OnParentEnd) -> Parent:
        """This workflow as the parent of a new one."""
        workflow = self.workflow
        return Parent(
            workflow_id=workflow.workflow_id, created_at=workflow.created_at, on_end=on_end
        )

    def check_supported(self) -> None:
        """Raise `Unsupported` unless the store knows children."""
        _ = self.children

    async def start(self, child: NewWorkflow) -> bool:
        """Create a child; False if there is a workflow of its id."""
        if not (self.workflow.unsettled or self._has_adopted):
            store = self.children
            await self._lease.until_answered(lambda: store.adopt(self._lease.claim))
        self._has_adopted = True
        return await self._lease.until_answered(lambda: self._store.create(child))

    async def find(self, workflow_id: str) -> Standing | None:
        """A child, or None."""
        return await self._lease.until_answered(lambda: self._store.find_standing(workflow_id))

    async def find_mail(self) -> int:
        """The workflow's own count of messages, which also counts the ends of its children."""
        store = self.children
        return await self._lease.until_answered(lambda: store.find_mail(self.workflow.workflow_id))

    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> None:
        """Return when a child may have ended since then, or after the time."""
        try:
            await self._store.wait_for_end(workflow_id, since, timeout)
        except StoreUnavailable:  # the next look finds out whether it still is
            await self.clock.sleep(min(timeout, _PAUSE))

    async def retry(self, workflow_id: str) -> None:
        """Let a child run again that was cancelled because this workflow had ended before.

        Raises `ClaimLost` if it has ended again, which is then why the child was cancelled.
        """
        store = self.children
        await self._lease.until_answered(lambda: store.adopt(self._lease.claim))
        self._has_adopted = True
        await self._control(workflow_id, Transition.RETRY, None)

    def is_child(self, found: Standing) -> bool:
        """Whether a workflow is a child of this one."""
        return found.parent is not None and machine.is_parent(found.parent, self.workflow)

    async def cancel(self, found: Standing, reason: str) -> None:
        """Cancel a workflow and see to its relatives, if it is a child and has not ended."""
        if self.is_child(found) and found.status in machine.sources(Transition.CANCEL):
            await self._control(found.workflow_id, Transition.CANCEL, reason)
            await settle_by_id(self._store, found.workflow_id)

    async def is_orphan(self) -> bool:
        """Whether this child must not run, since its parent has ended.

        Asked at each claim, of a child that is to end with its parent. Settling that end cancels
        the children that exist then. This finds the others: a run that had lost its claim without
        noticing may have started or retried them since.
        """
        parent = self.workflow.parent
        if parent is None or parent.on_end is OnParentEnd.ABANDON:
            return False
        try:
            found = await self.find(parent.workflow_id)
        except CorruptDocument:  # it cannot have ended
            return False
        return found is None or found.status.ended or not machine.is_parent(parent, found)

    async def cancel_orphan(self) -> None:
        """Cancel this workflow, and see to its relatives.

        Raises `ClaimLost` if it has to compensate before it ends.
        """
        await self._control(self.workflow.workflow_id, Transition.CANCEL, PARENT_ENDED)
        if self.workflow.compensates:
            self._lease.lose("was stopped")
            self._lease.check()
        logger.info(
            "workflow %r was cancelled: %s",
            *(self.workflow.workflow_id, PARENT_ENDED),
            extra=fields(self.workflow),
        )
        await settle_by_id(self._store, self.workflow.workflow_id)

    async def settle(self, status: Status) -> None:
        """See to the relatives, now that the run has ended the workflow in this status."""
        if not (self.workflow.unsettled or self._has_adopted):
            return
        ended = replace(self.workflow.standing, status=status, unsettled=True)
        has_children = self._has_adopted or not machine.is_first_run(self.workflow)
        await settle(self._store, ended, has_children=has_children)

    async def _control(self, workflow_id: str, event: Transition, reason: str | None) -> None:
        now = self.clock.now()
        # It may have been moved meanwhile, perhaps by an earlier try of this call.
        with suppress(TransitionRefused, WorkflowNotFound):
            await self._lease.until_answered(
                lambda: self._store.control(workflow_id, event, now, reason)
            )

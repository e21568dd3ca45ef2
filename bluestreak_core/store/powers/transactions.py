"""The power to commit together with the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Claim,
    NewWorkflow,
    Workflow,
)


@runtime_checkable
class SupportsTransactions(Protocol):
    """A store that can commit its writes together with the application's own."""

    async def check_transactions(self, call: str) -> None:
        """Raise `Unsupported`, with the name of the call, if the server has no transactions."""
        ...

    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        """Call `fn(session)`, record what it returns as the step's output, and return the output.

        Commit in one transaction what `fn` wrote in the session, the record of the step and
        `crashes = 0`, only if the claim is in force; or write nothing. To try again, roll back and
        call `fn` anew.

        If the step is recorded already, or gets recorded meanwhile, return that output and keep
        nothing of this call. A caller that is stale at the start gets `ClaimLost` without a call
        of `fn`; one that becomes stale gets `ClaimLost`, or what `fn` raises.
        """
        ...

    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        """`create` as a part of the caller's transaction.

        Raise the driver's errors unchanged: the caller's retry loop depends on them. Raise
        `InvalidArgument` unless `session` is one of this store, with a transaction in progress.
        """
        ...

    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        """`find_workflow` as the caller's transaction sees it, like `create_in`."""
        ...

    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        """`control` as a part of the caller's transaction, like `create_in`."""
        ...

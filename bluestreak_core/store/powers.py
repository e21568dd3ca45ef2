"""What only some stores can do. Each power is a protocol, which a call asks for by `require`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

from bluestreak_core.errors import Unsupported
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, NewWorkflow, Status, Workflow
from bluestreak_core.store.query import (
    CountBy,
    ListPosition,
    Pruned,
    Query,
    Records,
    WorkflowSummary,
)

P = TypeVar("P")


@runtime_checkable
class SupportsForks(Protocol):
    """A store that can begin a workflow with the records of another one."""

    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        """Create a workflow with the handler and the input of another one, and with its steps, naps
        and given-up steps, as far as they were recorded before the step `before`; all of them where
        that is None. Idle, due now, with `forked_from` set. Failed attempts are not copied.

        False, and nothing is changed, when the new id exists. Raises `WorkflowNotFound`, and
        `StepNotRecorded` where `before` is neither recorded nor given up.

        A fork that was broken off leaves at most a workflow that nobody claims, and that can only
        be cancelled; a repeat completes it, and returns True.
        """
        ...


@runtime_checkable
class SupportsTransactions(Protocol):
    """A store whose writes can be committed together with the application's own."""

    async def check_transactions(self, call: str) -> None:
        """Raise `Unsupported`, naming the call, where there are no transactions after all."""
        ...

    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        """Call `fn(session)`, and commit what it wrote in the session together with the record of
        the step, if the claim is in force then; or nothing of it. The recorded output is returned.

        `fn` may be called several times, each time after all that was written has been taken back.
        Where the step is recorded already, or is meanwhile, that output is returned, and nothing of
        this call is left. Who is stale beforehand gets `ClaimLost`, and `fn` is not called; who is
        by the end of it gets that too, or what `fn` raises. A recorded step sets `crashes` to 0.
        """
        ...

    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        """`create`, as a part of the caller's transaction. The driver's errors are raised as they
        are, since the caller's retries tell them apart. Raises `InvalidArgument` for what is no
        session of this store with a transaction under way.
        """
        ...

    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        """`find_workflow`, as the caller's transaction sees it, like `create_in`."""
        ...

    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        """`control`, as a part of the caller's transaction, like `create_in`."""
        ...


class Renewer(Protocol):
    """Renews leases by blocking calls, of one thread that is not the event loop's.

    It needs nothing of the event loop, which is blocked when it is called.
    """

    def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        """`Store.renew`, as a blocking call. It connects when it is first called.

        It takes no longer than the time between two renewals, a third of the lease, and raises
        `StoreUnavailable` when that is over.
        """
        ...

    def close(self) -> None:
        """Let go of what `renew` opened, without waiting long. Repeated calls do nothing."""
        ...


@runtime_checkable
class SupportsThreadRenewal(Protocol):
    """A store that can renew leases while the event loop is blocked."""

    def renewer(self) -> Renewer | None:
        """A new renewer, which the caller closes; None where this very store has none."""
        ...


@runtime_checkable
class SupportsSearch(Protocol):
    """A store that can look at all of its workflows. None of it loads an input or a result."""

    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        """The first `limit` workflows that are meant and stand behind a position, in order.

        Fewer only where there are no more, and none twice, whatever changes while they are read.
        Stored documents that cannot be read are passed over.
        """
        ...

    async def count(self, by: CountBy) -> Mapping[str, int]:
        """How many workflows there are by status or by handler id; only what there is.

        What is marked for deletion may be counted until it is gone.
        """
        ...

    async def records(self, workflow_id: str) -> Records:
        """All steps, naps and failed attempts of one workflow.

        Empty where it does not exist. Documents that cannot be read are passed over.
        """
        ...


@runtime_checkable
class SupportsPruning(Protocol):
    """A store that can delete workflows that have ended, with all that they have recorded."""

    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        """Delete up to `limit` workflows that ended before an instant, in one of these states.

        What has been begun goes first: a workflow is marked, and from then on is as good as gone,
        since `control` refuses it; then its steps and naps are deleted, then itself. So neither is
        a workflow ever without its steps, nor a step without its workflow. Whatever breaks that
        off, the next call goes on with it, whatever states and instant that is for. Fewer than
        `limit` may be deleted at once; none only where there are no more.

        When a workflow of the JavaScript library ended is not known; its last lease counts.
        """
        ...


@runtime_checkable
class Wraps(Protocol):
    """A store around another one, which has the powers that the other one has."""

    @property
    def wrapped(self) -> object:
        """The other store."""
        ...


_LACKS: Mapping[type, str] = MappingProxyType(
    {
        SupportsForks: "cannot copy records",
        SupportsTransactions: "has no transactions",
        SupportsSearch: "cannot search",
        SupportsPruning: "cannot delete",
        SupportsThreadRenewal: "cannot renew leases from a thread",
    }
)
"""What is said of a store without a power."""


def supports(store: object, power: type[P]) -> TypeGuard[P]:
    """Whether a store has a power; for one around another store, whether that one has it."""
    return isinstance(_innermost(store), power)


def require(store: object, power: type[P], call: str) -> P:
    """The store, as one that has the power which a call needs.

    Raises `Unsupported`, which names the call and the store.
    """
    if not supports(store, power):
        raise Unsupported(call, f"{type(_innermost(store)).__name__} {_LACKS[power]}")
    return store


def _innermost(store: object) -> object:
    while isinstance(store, Wraps):
        store = store.wrapped
    return store

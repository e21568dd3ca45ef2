"""Powers: abilities that only some stores have.

Each is a protocol of its own. A call that needs one gets it from `require`, which refuses stores
without it. The rules of `protocol` hold here as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol, TypeGuard, TypeVar, runtime_checkable

from bluestreak_core.errors import BluestreakError, Unsupported
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Claim,
    ErrorRecord,
    NewMessage,
    NewWorkflow,
    NoMessage,
    Published,
    Standing,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.store.query import (
    CountBy,
    ListPosition,
    Pruned,
    Query,
    Records,
    WorkflowSummary,
)
from bluestreak_core.store.values import ValueRules

P = TypeVar("P")


@runtime_checkable
class SupportsForks(Protocol):
    """A store that can start a workflow with the records of another one."""

    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        """Create the workflow that `machine.fork` makes, with copies of another one's records.

        Copy the steps, naps and given-up steps that were recorded before the step `before`, or all
        of them if that is None. Do not copy failed attempts.

        Return False, and change nothing, if the new id exists. Raise `WorkflowNotFound`, or
        `StepNotRecorded` if `before` is neither recorded nor given up.

        Until the copy is complete, no worker may claim the new workflow, and no call may move it
        but to cancel it. A repeat completes an interrupted fork, and returns True.
        """
        ...


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


@runtime_checkable
class SupportsMessages(Protocol):
    """A store that keeps a mailbox for each workflow.

    A message stays in its mailbox until a step has received it, whatever becomes of the workflow
    meanwhile, and is deleted with it. Forks begin with an empty mailbox.

    Messages of one name are received in the order in which their senders sent them; those of
    several senders by the store's time. Of several names, the first sent is received first.
    """

    async def send(self, message: NewMessage) -> bool:
        """Put a message into the mailbox of its workflow; then change that as `machine.deliver`.

        Return False if the mailbox has had a message of this id; change the workflow all the same,
        since an earlier call may have been interrupted in between. The change is atomic. Raise
        `WorkflowNotFound`, or `WorkflowEnded` if the workflow has finished without such a message.
        """
        ...

    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        """`send` for each message, in few writes; return the answers or errors in the same order.

        Refuse a payload that cannot be stored before writing anything.
        """
        ...

    async def send_in(self, session: Any, message: NewMessage) -> bool:
        """`send` as a part of the caller's transaction, like `SupportsTransactions.create_in`.

        A store without `SupportsTransactions` raises `Unsupported`.
        """
        ...

    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        """Record the first message of one of these names as a step, and return the step.

        The step has the payload as its output, and a `receipt`. It and the message's being received
        are one record, so no two steps ever receive the same message. If the step is recorded
        already, return that, like `save_step`, and receive nothing.

        If there is no such message, return `NoMessage`, or with `give_up` record a step that has
        timed out: its output is None. Progress counts as in `save_step`, and so does a stale claim.
        """
        ...

    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        """End the claim as `machine.wait` does: parked if `mail` is still the count, else released.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def wait_for_message(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        """Return True once the workflow's `mail` differs from the one given; False after `timeout`.

        A hint, like `Store.wait_for_end`: return True for nothing, or False sooner, rather than
        miss a message for long. The engine looks again after True.
        """
        ...

    async def find_unread(self, workflow_id: str, limit: int) -> Sequence[NewMessage]:
        """The first messages that no step has received, in order, without their payloads."""
        ...

    async def find_message(self, workflow_id: str, message_id: str) -> NewMessage | None:
        """The message of this id, whether or not a step has received it; None if there is none.

        Of several messages that were sent with one id, it is the first, which the mailbox has.
        """
        ...

    async def beat(self, workflow_id: str, step_id: str, now: datetime) -> None:
        """Change a workflow as `machine.beat`: its callback under this id gives a sign of life.

        The change is atomic, and a repeat does no harm. It wakes nobody. Raise `WorkflowNotFound`,
        or `WorkflowEnded`, which changes nothing.
        """
        ...


@runtime_checkable
class SupportsChildren(Protocol):
    """A store that knows the children of a workflow. It has `SupportsMessages`, too.

    `create` keeps the parent of a new workflow. What the end of a workflow means to its children
    and to its parent is settled after it, in several calls; `Workflow.unsettled` says of a workflow
    that this is to come. `prune` spares it until then.
    """

    async def adopt(self, claim: Claim) -> None:
        """Note that the workflow is about to have a child, as `machine.adopt` does.

        Needs the claim in force, and is atomic. A repeat changes nothing. A stale caller gets
        `ClaimLost`.
        """
        ...

    async def find_children(
        self, workflow_id: str, created_at: datetime | None, limit: int
    ) -> Sequence[str]:
        """The ids of up to `limit` children that can be cancelled, and end with their parent.

        Those that have ended cannot, nor those that compensate. The parent is the workflow of this
        id and `created_at`. Include every child whose creation was acknowledged before the call.
        Fewer than `limit` only if there are no more.
        """
        ...

    async def find_mail(self, workflow_id: str) -> int:
        """The `mail` of a workflow, as of the last acknowledged write; 0 if it does not exist.

        Do not read the input. Answer concurrent calls with one read, as in `Store.find_standing`.
        """
        ...

    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        """Change a workflow as `machine.deliver` does for a message of this name. Atomic.

        Do nothing if the workflow has finished, is marked for deletion, or is not the one of this
        `created_at`. A repeat counts once more.
        """
        ...

    async def find_unsettled(self, limit: int) -> Sequence[Standing]:
        """Up to `limit` workflows that have ended and are `unsettled`, without their results.

        Skip unreadable documents.
        """
        ...

    async def settle(self, seen: Standing) -> None:
        """Note that the end that was seen is settled, as `machine.settle` does. Atomic.

        Do nothing unless `machine.is_settled_by` holds.
        """
        ...


@runtime_checkable
class SupportsPublishing(Protocol):
    """A store that keeps the values that workflows publish, as `published` of the workflow."""

    def value_rules(self) -> ValueRules:
        """The rules by which this store stores values. It need not be open."""
        ...

    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        """Replace what the workflow has published, as `machine.publish` does. Atomic.

        The values are such as the rules return. A repeat changes nothing. A stale caller gets
        `ClaimLost`. Raise `ValueTooLarge` if the values do not fit beside the input.
        """
        ...


@runtime_checkable
class SupportsRestart(Protocol):
    """A store in which a workflow can start over under its own id."""

    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        """End the claim as `machine.restart` does, and forget what the workflow has recorded.

        The change of the workflow is atomic. From then on its steps, naps and attempts count as
        those of a deleted workflow of the same id, also those that a run of the last generation
        still records; `machine.is_of` tells them apart. Delete them then. If that is interrupted,
        a later call completes it: `history`, the next `restart`, or `prune`.

        The mailbox stays. `received` has the ids of the messages that the run knows to be received:
        those stay received. What a step of the last generation has received without its knowledge,
        or receives from now on, is received by the new generation all the same.

        A repeat changes nothing. A stale caller gets `ClaimLost`. Refuse an input that cannot be
        stored before anything is written.
        """
        ...


@runtime_checkable
class SupportsCompensation(Protocol):
    """A store whose workflows can compensate before they are aborted or cancelled.

    `control` carries out a `stop` where it is asked to `cancel` a workflow that compensates, and
    refuses to `retry` one that has compensated, as `machine.control_change` does. `claim` hands out
    what is due in any of the `machine.claimable` states.
    """

    async def promise(self, claim: Claim) -> None:
        """Set `compensates` on the workflow, as `machine.promise` does. Atomic.

        A repeat changes nothing. A stale caller gets `ClaimLost`: a workflow that was cancelled
        before is not changed any more.
        """
        ...

    async def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        """End the claim of a workflow that compensates, as `machine.give_up` does.

        It is `stopping`, due at once, and shows the error. A repeat changes nothing. A stale caller
        gets `ClaimLost`.
        """
        ...

    async def hand_over(self, claim: Claim, now: datetime) -> None:
        """Make a stopping workflow due at once, since the run of a claim that was taken is over.

        Do so if `machine.was_stopped`. If not, or if the workflow is due already, change nothing.
        """
        ...

    async def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        """End the claim of a compensating workflow, which is due again at an instant.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...

    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        """End a compensating workflow as its `outcome` says, like `machine.end_compensated`.

        A repeat changes nothing. A stale caller gets `ClaimLost`.
        """
        ...


class Renewer(Protocol):
    """Renews leases with blocking calls, from a single thread other than the event loop's.

    The event loop may be blocked at each call, so do not depend on it.
    """

    def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        """`Store.renew` as a blocking call. Connect at the first call.

        Raise `StoreUnavailable` after a third of the lease, the time between two renewals.
        """
        ...

    def close(self) -> None:
        """Release what `renew` opened, without a long wait. A repeated call does nothing."""
        ...


@runtime_checkable
class SupportsThreadRenewal(Protocol):
    """A store that can renew leases while the event loop is blocked."""

    def renewer(self) -> Renewer | None:
        """A new renewer, which the caller closes; None if this instance cannot make one."""
        ...


@runtime_checkable
class SupportsSearch(Protocol):
    """A store that can list and count its workflows. No call may load an input or a result."""

    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        """The first `limit` workflows after a position that the query accepts, in its order.

        Return fewer only if there are no more, and no workflow twice, whatever changes during the
        call. Skip unreadable documents.
        """
        ...

    async def count(self, by: CountBy) -> Mapping[str, int]:
        """The numbers of workflows by status or by handler id, without zeros.

        Workflows that are marked for deletion may be counted until they are deleted.
        """
        ...

    async def records(self, workflow_id: str) -> Records:
        """All steps, naps and failed attempts of one workflow; empty if it does not exist.

        Skip unreadable documents.
        """
        ...


@runtime_checkable
class SupportsPruning(Protocol):
    """A store that can delete workflows that have ended, with all their records."""

    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        """Delete up to `limit` workflows that ended before an instant, in one of these states.

        Delete in this order: mark the workflow with `pruned_at`, so that `control` refuses it;
        delete its steps, naps and messages; delete the workflow. So a retried workflow never lacks
        steps, and no step is left for the next workflow of its id. Complete interrupted deletions
        first, whatever instant and states this call names.

        Fewer than `limit` may be deleted; none only if nothing is left to delete. For a workflow
        that the JavaScript library ended, use the end of its last lease.
        """
        ...


@runtime_checkable
class Wraps(Protocol):
    """A store around another one. It has the powers of the wrapped store."""

    @property
    def wrapped(self) -> object:
        """The wrapped store."""
        ...


_LACKS: Mapping[type, str] = MappingProxyType(
    {
        SupportsForks: "cannot copy records",
        SupportsTransactions: "has no transactions",
        SupportsSearch: "cannot search",
        SupportsPruning: "cannot delete",
        SupportsThreadRenewal: "cannot renew leases from a thread",
        SupportsMessages: "has no mailboxes",
        SupportsChildren: "does not know the children of a workflow",
        SupportsPublishing: "cannot publish",
        SupportsRestart: "cannot restart workflows",
        SupportsCompensation: "cannot compensate",
    }
)
"""The reason that `Unsupported` gives, after the name of the store."""


def supports(store: object, power: type[P]) -> TypeGuard[P]:
    """Whether a store has a power; a wrapper has what the innermost store has."""
    return isinstance(_innermost(store), power)


def require(store: object, power: type[P], call: str) -> P:
    """The same store, typed with a power.

    Raises `Unsupported`, with the call and the store's class, if it does not have the power.
    """
    if not supports(store, power):
        raise Unsupported(call, f"{type(_innermost(store)).__name__} {_LACKS[power]}")
    return store


def _innermost(store: object) -> object:
    while isinstance(store, Wraps):
        store = store.wrapped
    return store

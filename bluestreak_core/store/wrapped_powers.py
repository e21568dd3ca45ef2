"""The powers of a store around a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from typing_extensions import override

from bluestreak_core.errors import BluestreakError
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
    WorkerRecord,
    Workflow,
)
from bluestreak_core.store.powers import (
    Renewer,
    SupportsChildren,
    SupportsCompensation,
    SupportsForks,
    SupportsMessages,
    SupportsPruning,
    SupportsPublishing,
    SupportsRegistry,
    SupportsRestart,
    SupportsSearch,
    SupportsThreadRenewal,
    SupportsTransactions,
    require,
)
from bluestreak_core.store.protocol import Store
from bluestreak_core.store.query import (
    CountBy,
    ListPosition,
    Pruned,
    Query,
    Records,
    WorkflowSummary,
)
from bluestreak_core.store.values import ValueRules

T = TypeVar("T")


class WrappedPowers(
    SupportsThreadRenewal,
    SupportsForks,
    SupportsTransactions,
    SupportsSearch,
    SupportsPruning,
    SupportsMessages,
    SupportsChildren,
    SupportsPublishing,
    SupportsRestart,
    SupportsCompensation,
    SupportsRegistry,
):
    """Passes the calls of powers to another store through `around`; a part of `StoreWrapper`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call `name` of the Store protocol or of a power; override this to do more."""
        return await call()

    @property
    def wrapped(self) -> Store:
        """The wrapped store."""
        return self._store

    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        store = require(self._store, SupportsForks, "fork()")
        return await self.around("fork", lambda: store.fork(workflow_id, new_id, before, now))

    @override
    async def check_transactions(self, call: str) -> None:
        await require(self._store, SupportsTransactions, call).check_transactions(call)

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        store = require(self._store, SupportsTransactions, "transact()")
        return await self.around("transact", lambda: store.transact(claim, step_id, fn, now))

    @override
    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        store = require(self._store, SupportsTransactions, "create_in()")
        return await self.around("create_in", lambda: store.create_in(session, new))

    @override
    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        store = require(self._store, SupportsTransactions, "find_in()")
        return await self.around("find_in", lambda: store.find_in(session, workflow_id))

    @override
    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        store = require(self._store, SupportsTransactions, "control_in()")
        await self.around(
            "control_in", lambda: store.control_in(session, workflow_id, event, now, reason)
        )

    @override
    def renewer(self) -> Renewer | None:
        """The renewer of the other store, if it has that power; see `SupportsThreadRenewal`."""
        return self._store.renewer() if isinstance(self._store, SupportsThreadRenewal) else None

    @override
    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        store = require(self._store, SupportsSearch, "find_page()")
        return await self.around("find_page", lambda: store.find_page(query, after, limit))

    @override
    async def count(self, by: CountBy) -> Mapping[str, int]:
        store = require(self._store, SupportsSearch, "count()")
        return await self.around("count", lambda: store.count(by))

    @override
    async def records(self, workflow_id: str) -> Records:
        store = require(self._store, SupportsSearch, "records()")
        return await self.around("records", lambda: store.records(workflow_id))

    @override
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        store = require(self._store, SupportsPruning, "prune()")
        return await self.around("prune", lambda: store.prune(ended_before, statuses, limit, now))

    @override
    async def send(self, message: NewMessage) -> bool:
        store = require(self._store, SupportsMessages, "send()")
        return await self.around("send", lambda: store.send(message))

    @override
    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        store = require(self._store, SupportsMessages, "send_many()")
        return await self.around("send_many", lambda: store.send_many(messages))

    @override
    async def send_in(self, session: Any, message: NewMessage) -> bool:
        store = require(self._store, SupportsMessages, "send_in()")
        return await self.around("send_in", lambda: store.send_in(session, message))

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        store = require(self._store, SupportsMessages, "receive()")
        return await self.around(
            "receive", lambda: store.receive(claim, step_id, names, now, give_up=give_up)
        )

    @override
    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        store = require(self._store, SupportsMessages, "park_until_message()")
        await self.around(
            "park_until_message",
            lambda: store.park_until_message(claim, wake_up_at, names, mail, now),
        )

    @override
    async def wait_for_message(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        store = require(self._store, SupportsMessages, "wait_for_message()")
        return await self.around(
            "wait_for_message", lambda: store.wait_for_message(workflow_id, mail, timeout)
        )

    @override
    async def find_unread(self, workflow_id: str, limit: int) -> Sequence[NewMessage]:
        store = require(self._store, SupportsMessages, "find_unread()")
        return await self.around("find_unread", lambda: store.find_unread(workflow_id, limit))

    @override
    async def find_message(self, workflow_id: str, message_id: str) -> NewMessage | None:
        store = require(self._store, SupportsMessages, "find_message()")
        return await self.around(
            "find_message", lambda: store.find_message(workflow_id, message_id)
        )

    @override
    async def beat(self, workflow_id: str, step_id: str, now: datetime) -> None:
        store = require(self._store, SupportsMessages, "beat()")
        await self.around("beat", lambda: store.beat(workflow_id, step_id, now))

    @override
    async def adopt(self, claim: Claim) -> None:
        store = require(self._store, SupportsChildren, "adopt()")
        await self.around("adopt", lambda: store.adopt(claim))

    @override
    async def find_children(
        self, workflow_id: str, created_at: datetime | None, limit: int
    ) -> Sequence[str]:
        store = require(self._store, SupportsChildren, "find_children()")
        return await self.around(
            "find_children", lambda: store.find_children(workflow_id, created_at, limit)
        )

    @override
    async def find_mail(self, workflow_id: str) -> int:
        store = require(self._store, SupportsChildren, "find_mail()")
        return await self.around("find_mail", lambda: store.find_mail(workflow_id))

    @override
    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        store = require(self._store, SupportsChildren, "nudge()")
        await self.around("nudge", lambda: store.nudge(workflow_id, created_at, name, now))

    @override
    async def find_unsettled(self, limit: int) -> Sequence[Standing]:
        store = require(self._store, SupportsChildren, "find_unsettled()")
        return await self.around("find_unsettled", lambda: store.find_unsettled(limit))

    @override
    async def settle(self, seen: Standing) -> None:
        store = require(self._store, SupportsChildren, "settle()")
        await self.around("settle", lambda: store.settle(seen))

    @override
    def value_rules(self) -> ValueRules:
        return require(self._store, SupportsPublishing, "publish()").value_rules()

    @override
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        store = require(self._store, SupportsPublishing, "publish()")
        await self.around("publish", lambda: store.publish(claim, published))

    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        store = require(self._store, SupportsRestart, "restart()")
        await self.around("restart", lambda: store.restart(claim, input, received, now))

    @override
    async def promise(self, claim: Claim) -> None:
        store = require(self._store, SupportsCompensation, "promise()")
        await self.around("promise", lambda: store.promise(claim))

    @override
    async def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        store = require(self._store, SupportsCompensation, "give_up()")
        await self.around("give_up", lambda: store.give_up(claim, error, now))

    @override
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        store = require(self._store, SupportsCompensation, "hand_over()")
        await self.around("hand_over", lambda: store.hand_over(claim, now))

    @override
    async def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        store = require(self._store, SupportsCompensation, "postpone()")
        await self.around("postpone", lambda: store.postpone(claim, wake_up_at))

    @override
    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        store = require(self._store, SupportsCompensation, "end_compensated()")
        await self.around("end_compensated", lambda: store.end_compensated(claim, now))

    @override
    async def register_worker(self, record: WorkerRecord) -> None:
        store = require(self._store, SupportsRegistry, "register_worker()")
        await self.around("register_worker", lambda: store.register_worker(record))

    @override
    async def unregister_worker(self, name: str) -> None:
        store = require(self._store, SupportsRegistry, "unregister_worker()")
        await self.around("unregister_worker", lambda: store.unregister_worker(name))

    @override
    async def find_workers(self, now: datetime) -> Sequence[WorkerRecord]:
        store = require(self._store, SupportsRegistry, "find_workers()")
        return await self.around("find_workers", lambda: store.find_workers(now))

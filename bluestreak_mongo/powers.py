"""The powers of MongoStore: each call is one of its parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

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
from bluestreak_core.store import (
    CountBy,
    ListPosition,
    Pruned,
    Query,
    Records,
    SupportsChildren,
    SupportsCompensation,
    SupportsForks,
    SupportsMessages,
    SupportsPruning,
    SupportsPublishing,
    SupportsRegistry,
    SupportsRestart,
    SupportsSearch,
    SupportsTransactions,
    ValueRules,
    WorkflowSummary,
)
from bluestreak_mongo.bson_rules import BsonRules
from bluestreak_mongo.opening import Opening


class Powers(
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
    """The calls beyond the Store protocol; a part of `MongoStore`."""

    def _set_up(self, opening: Opening) -> None:
        self._opening = opening
        self._call = opening.call

    @override
    async def check_transactions(self, call: str) -> None:
        await self._call(lambda parts: parts.transactions.check_possible, call)

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        return await self._call(lambda parts: parts.transactions.step, claim, step_id, fn, now)

    @override
    async def create_in(self, session: Any, new: NewWorkflow) -> bool:
        return await self._call(lambda parts: parts.in_session.create, session, new)

    @override
    async def find_in(self, session: Any, workflow_id: str) -> Workflow | None:
        return await self._call(lambda parts: parts.in_session.find, session, workflow_id)

    @override
    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        await self._call(
            lambda parts: parts.in_session.control, session, workflow_id, event, now, reason
        )

    @override
    async def fork(self, workflow_id: str, new_id: str, before: str | None, now: datetime) -> bool:
        return await self._call(lambda parts: parts.forking.fork, workflow_id, new_id, before, now)

    @override
    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        return await self._call(lambda parts: parts.listing.page, query, after, limit)

    @override
    async def count(self, by: CountBy) -> Mapping[str, int]:
        return await self._call(lambda parts: parts.listing.count, by)

    @override
    async def records(self, workflow_id: str) -> Records:
        return await self._call(lambda parts: parts.histories.records, workflow_id)

    @override
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        return await self._call(
            lambda parts: parts.pruning.prune, ended_before, statuses, limit, now
        )

    @override
    async def send(self, message: NewMessage) -> bool:
        return await self._call(lambda parts: parts.sending.send, message)

    @override
    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        return await self._call(lambda parts: parts.sending.send_many, messages)

    @override
    async def send_in(self, session: Any, message: NewMessage) -> bool:
        return await self._call(lambda parts: parts.sending.send_in, session, message)

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        return await self._call(
            lambda parts: partial(parts.receiving.receive, give_up=give_up),
            *(claim, step_id, names, now),
        )

    @override
    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        await self._call(
            lambda parts: parts.endings.park_until_message, claim, wake_up_at, names, mail, now
        )

    @override
    async def wait_for_message(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        return await self._call(lambda parts: parts.receiving.wait, workflow_id, mail, timeout)

    @override
    async def find_unread(self, workflow_id: str, limit: int) -> Sequence[NewMessage]:
        return await self._call(lambda parts: parts.receiving.find_unread, workflow_id, limit)

    @override
    async def find_message(self, workflow_id: str, message_id: str) -> NewMessage | None:
        return await self._call(lambda parts: parts.receiving.find_message, workflow_id, message_id)

    @override
    async def beat(self, workflow_id: str, step_id: str, now: datetime) -> None:
        await self._call(lambda parts: parts.beating.beat, workflow_id, step_id, now)

    @override
    async def adopt(self, claim: Claim) -> None:
        await self._call(lambda parts: parts.relatives.adopt, claim)

    @override
    async def find_children(
        self, workflow_id: str, created_at: datetime | None, limit: int
    ) -> Sequence[str]:
        return await self._call(
            lambda parts: parts.relatives.find_children, workflow_id, created_at, limit
        )

    @override
    async def find_mail(self, workflow_id: str) -> int:
        return await self._call(lambda parts: parts.relatives.find_mail, workflow_id)

    @override
    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        await self._call(lambda parts: parts.relatives.nudge, workflow_id, created_at, name, now)

    @override
    async def find_unsettled(self, limit: int) -> Sequence[Standing]:
        return await self._call(lambda parts: parts.relatives.find_unsettled, limit)

    @override
    async def settle(self, seen: Standing) -> None:
        await self._call(lambda parts: parts.relatives.settle, seen)

    @override
    def value_rules(self) -> ValueRules:
        return BsonRules()

    @override
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        await self._call(lambda parts: parts.publishing.publish, claim, published)

    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        await self._call(lambda parts: parts.restarting.restart, claim, input, received, now)

    @override
    async def promise(self, claim: Claim) -> None:
        await self._call(lambda parts: parts.compensating.promise, claim)

    @override
    async def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        await self._call(lambda parts: parts.compensating.give_up, claim, error, now)

    @override
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        await self._call(lambda parts: parts.compensating.hand_over, claim, now)

    @override
    async def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._call(lambda parts: parts.compensating.postpone, claim, wake_up_at)

    @override
    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        await self._call(lambda parts: parts.compensating.end_compensated, claim, now)

    @override
    async def register_worker(self, record: WorkerRecord) -> None:
        await self._call(lambda parts: parts.registry.register, record)

    @override
    async def unregister_worker(self, name: str) -> None:
        await self._call(lambda parts: parts.registry.unregister, name)

    @override
    async def find_workers(self, now: datetime) -> Sequence[WorkerRecord]:
        return await self._call(lambda parts: parts.registry.find, now)

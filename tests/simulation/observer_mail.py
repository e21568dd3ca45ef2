"""Messages that are sent and received."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from typing_extensions import override

from bluestreak_core import (
    BluestreakError,
    Claim,
    Workflow,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    NewMessage,
    NoMessage,
    Step,
)
from tests.simulation import (
    mail_invariant,
)
from tests.simulation import store_invariant as invariant
from tests.simulation.observation import Observation
from tests.simulation.record import Asked


class Mail(Observation):
    """Messages that are sent and received."""

    @override
    async def send(self, message: NewMessage) -> bool:
        workflow_id = message.workflow_id
        before = await self._store.find_workflow(workflow_id)
        try:
            is_new = await super().send(message)
        except Exception as refusal:
            self._record.note(f"send {workflow_id} {message.message_id} -> {refusal}")
            after = await self._store.find_workflow(workflow_id)
            invariant.refusals_change_nothing(self._record, workflow_id, "send", before, after)
            raise
        self._note_message("send", before, message, is_new=is_new, is_counted=not is_new)
        return is_new

    @override
    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        before = [await self._store.find_workflow(message.workflow_id) for message in messages]
        answers = await super().send_many(messages)
        for message, workflow, answer in zip(messages, before, answers, strict=True):
            if isinstance(answer, bool):
                self._note_message(
                    "send_many", workflow, message, is_new=answer, is_counted=not answer
                )
        return answers

    @override
    async def send_in(self, session: Any, message: NewMessage) -> bool:
        workflow_id, record = message.workflow_id, self._record
        mail = await self._mail(workflow_id)
        before: list[Workflow] = []
        session.after_commit(lambda: before.extend(self._stored(workflow_id)))
        try:
            is_new = await super().send_in(session, message)
        except Exception as refusal:
            record.note(f"send {workflow_id} {message.message_id} in a transaction -> {refusal}")
            raise
        finally:
            invariant.transactions_are_isolated(
                record, workflow_id, mail, await self._mail(workflow_id)
            )
        record.note(f"send {workflow_id} {message.message_id} in a transaction -> {is_new}")
        session.after_commit(
            lambda: self._note_message("commit", before[0], message, is_new=is_new, is_counted=True)
        )
        return is_new

    def _note_message(
        self,
        call: str,
        before: Workflow | None,
        message: NewMessage,
        *,
        is_new: bool,
        is_counted: bool,
    ) -> None:
        record, workflow_id = self._record, message.workflow_id
        key = (workflow_id, message.message_id)
        record.note(f"{call} {workflow_id} {message.message_id}: {message.name} -> {is_new}")
        if is_new:
            mail_invariant.messages_are_new_once(record, *key)
            record.mailed.add(key)
        if is_counted:
            record.counted.setdefault(key, self.clock.now())
        (after,) = self._stored(workflow_id)
        if before is not None and before.waiting_for and not after.waiting_for:
            record.woken[workflow_id] = self.clock.now()
            invariant.moves_follow_the_table(
                record, workflow_id, Transition.WAKE, before, after.status
            )
        self._check_awake(after)

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        workflow_id = claim.workflow_id
        unread = [message for message in self._unread(workflow_id) if message.name in names]
        found = await super().receive(claim, step_id, names, now, give_up=give_up)
        if isinstance(found, NoMessage):
            self._record.note(f"receive {workflow_id} {step_id} by claim {claim.number} -> {found}")
            asked = Asked(at=self.clock.now(), names=frozenset(names), claim=claim)
            self._record.asked[workflow_id, step_id] = asked
        else:
            self._note_receipt(claim, found, unread)
        return found

    def _note_receipt(self, claim: Claim, step: Step, unread: Collection[NewMessage]) -> None:
        record, key = self._record, (claim.workflow_id, step.step_id)
        is_first, receipt = key not in record.receipts, step.receipt
        self._note_record(claim, f"step {step.step_id}", step.output)
        mail_invariant.receives_have_one_outcome(record, *key, receipt)
        if receipt is None or not is_first:
            return
        record.receipts[key] = receipt
        mail_invariant.timeouts_come_in_time(record, claim, step.step_id)
        if receipt.message_id is None:
            mail_invariant.timeouts_do_not_come_early(record, claim, step.step_id)
            mail_invariant.timeouts_leave_no_mail(record, *key, unread)
        else:
            mail_invariant.messages_are_received_once(record, *key, receipt.message_id)
            mail_invariant.messages_keep_their_order(record, claim.workflow_id, receipt.message_id)
            mail_invariant.messages_are_received_at_once(
                record, claim, step.step_id, receipt.message_id
            )

    @override
    async def park_until_message(
        self, claim: Claim, wake_up_at: datetime, names: Collection[str], mail: int, now: datetime
    ) -> None:
        await self._end(
            "park_until_message",
            claim,
            lambda: super(Mail, self).park_until_message(claim, wake_up_at, names, mail, now),
        )
        for workflow in self._stored(claim.workflow_id):
            self._check_awake(workflow)

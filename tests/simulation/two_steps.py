"""A store that sends a message in two steps, as one on a server may."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from bluestreak_core import BluestreakError
from bluestreak_core.model import NewMessage
from bluestreak_memory import MemoryStore


class TwoStepStore(MemoryStore):
    """Puts a message into its mailbox when it is first sent, and counts it when it is sent again.

    So whoever sends has to do so twice, and may die in between.
    """

    @override
    async def send(self, message: NewMessage) -> bool:
        mailbox = self._workflows.check_reachable(message).mailbox
        if mailbox.has_had(message.message_id):
            return await super().send(message)
        return mailbox.add(self._copies.message(message))

    @override
    async def send_many(self, messages: Sequence[NewMessage]) -> list[bool | BluestreakError]:
        answers: list[bool | BluestreakError] = []
        for message in messages:
            try:
                answers.append(await self.send(message))
            except BluestreakError as error:
                answers.append(error)
        return answers

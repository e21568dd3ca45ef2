"""What the senders of a simulation do."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bluestreak_core import Bluestreak, Send, StoreUnavailable, WorkflowEnded, WorkflowNotFound
from bluestreak_core.concurrency import first_of
from tests.simulation.scenario import AMID_WITHIN, Letter, Post, Sender, payload_of
from tests.simulation.setting import TRY_AGAIN, RollBack, Setting


class Postman:
    """Sends the letters of one sender, one after the other."""

    def __init__(self, setting: Setting, sender: Sender) -> None:
        self._setting = setting
        self._record = setting.record
        self._sender = sender
        self._network = setting.network()
        self._engine = Bluestreak(self._network)

    async def until_call(self, number: int) -> None:
        """Return as soon as so many calls have been sent to the store."""
        while (seen := self._network.calls.count) < number:
            await self._network.calls.wait(seen)

    async def send_all(self) -> None:
        """Send each letter at its time."""
        await self._engine.init()
        await asyncio.sleep(self._sender.at)
        for place, letter in enumerate(self._sender.letters):
            await asyncio.sleep(letter.pause)
            if letter.amid is not None:
                heard = self._setting.heard[letter.amid].wait()
                await first_of(heard, asyncio.sleep(AMID_WITHIN))
            await self._post(place, letter)

    async def _post(self, place: int, letter: Letter) -> None:
        """Send a letter until the store has answered, or once."""
        ids = self._ids(place)
        self._note_earlier(place, letter)
        while True:
            try:
                await self._send(letter, ids)
            except StoreUnavailable:
                if not self._sender.is_patient:
                    return
                await asyncio.sleep(TRY_AGAIN)
            except (WorkflowNotFound, WorkflowEnded):
                return
            else:
                keys = [(self._sender.workflow_id, message_id) for message_id in ids]
                self._record.acknowledged.update(dict.fromkeys(keys))
                return

    def _ids(self, place: int) -> tuple[str, ...]:
        """The ids of the messages that a letter consists of."""
        message_id = self._sender.message_id(place)
        is_many = self._sender.letters[place].post is Post.MANY
        return (message_id, f"{message_id}+") if is_many else (message_id,)

    def _note_earlier(self, place: int, letter: Letter) -> None:
        """Note what comes before each message of a letter, by the sender or in the letter."""
        workflow_id = self._sender.workflow_id
        earlier = [
            message_id
            for before in range(place)
            if self._sender.letters[before].name == letter.name
            for message_id in self._ids(before)
            if (workflow_id, message_id) in self._record.acknowledged
        ]
        for message_id in self._ids(place):
            self._record.sent_before.setdefault((workflow_id, message_id), tuple(earlier))
            earlier.append(message_id)

    async def _send(self, letter: Letter, ids: tuple[str, ...]) -> None:
        message_id = ids[0]
        match letter.post:
            case Post.MANY:
                await self._send_many(letter, ids)
            case Post.SESSION:
                await self._send_in_transaction(letter, message_id, commits=True)
            case Post.ROLLED_BACK:
                await self._send_in_transaction(letter, message_id, commits=False)
                await self._send_in_transaction(letter, message_id, commits=True)
            case Post.ONCE | Post.AGAIN:
                for _ in range(3 if letter.post is Post.AGAIN else 1):
                    await self._engine.send(
                        self._sender.workflow_id,
                        letter.name,
                        payload_of(message_id),
                        message_id=message_id,
                    )

    async def _send_many(self, letter: Letter, ids: tuple[str, ...]) -> None:
        workflow_id = self._sender.workflow_id
        sends = [
            Send(workflow_id, letter.name, payload_of(message_id), message_id=message_id)
            for message_id in ids
        ]
        try:
            await self._engine.send_many(sends)
        except ExceptionGroup as refused:
            raise refused.exceptions[0] from refused

    async def _send_in_transaction(self, letter: Letter, message_id: str, *, commits: bool) -> None:
        with suppress(RollBack):
            async with self._setting.memory.transaction() as session:
                await self._engine.send(
                    self._sender.workflow_id,
                    letter.name,
                    payload_of(message_id),
                    message_id=message_id,
                    session=session,
                )
                if not commits:
                    raise RollBack

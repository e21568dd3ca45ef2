"""Calling a handler over what its workflow has recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bluestreak_core.argument import has_real_type
from bluestreak_core.errors import CorruptDocument, InvalidValue
from bluestreak_core.model import History
from bluestreak_core.run.clean_up import CleanUps
from bluestreak_core.run.commit import Commits
from bluestreak_core.run.context import Context
from bluestreak_core.run.exit import Exit
from bluestreak_core.run.family import Family
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.handler import Registration
from bluestreak_core.run.history import SharedHistories
from bluestreak_core.run.hook import CallKind, Calls
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.operations import Operations
from bluestreak_core.run.outcome import Called, Orphaned, Raised, Returned, is_final
from bluestreak_core.run.publisher import Publisher
from bluestreak_core.run.unawaited import Unawaited
from bluestreak_core.store import Store


class HandlerCall:
    """The one call of a handler in a run, and what takes part in it."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        registration: Registration,
        is_crowded: Callable[[], bool],
    ) -> None:
        policy = registration.policy
        self.family = Family(store, journal.lease)
        self.exit = Exit()
        self.operations = Operations(store.clock, policy.park_after, is_crowded)
        self.calls = Calls(policy.hooks, journal)
        self.publisher = Publisher(journal, self.exit)
        self.clean_ups = CleanUps(store, journal, self.calls)
        self._store = store
        self._journal = journal
        self._registration = registration
        self._handler = registration.handler
        self._known = registration.known

    async def make(self, histories: SharedHistories) -> Called:
        """Read the history, call the handler, and end the branches that it leaves behind.

        Call this in the task that runs the handler, which is the one that `exit` cancels.
        """
        if await self.family.is_orphan():
            return Orphaned()
        try:
            self._journal.history = await self._read_history(histories)
        except CorruptDocument as error:
            return Raised(error, final=True)
        try:
            value = self._input()
        except Exception as error:  # noqa: BLE001 - a foreign codec may raise anything
            return Raised(error, final=has_real_type(error, InvalidValue))
        self.operations.begin()
        workflow_id = self._journal.workflow.workflow_id
        unawaited = Unawaited(workflow_id)
        commits = Commits(self._store, self._journal)
        frame = Frame(
            self._journal,
            self._registration,
            family=self.family,
            known=self._known,
            calls=self.calls,
            commits=commits,
            operations=self.operations,
            publisher=self.publisher,
            exit=self.exit,
        )
        try:
            result = await self._call(Context(frame, self.clean_ups, unawaited), value)
            self.exit.close()
            await unawaited.check()
            return Returned(result)
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its failure
            return Raised(error, final=is_final(workflow_id, error))
        finally:
            self.exit.close()
            unawaited.close()
            await self.operations.cancel()

    async def _read_history(self, histories: SharedHistories) -> History:
        workflow_id = self._journal.workflow.workflow_id
        return await self._journal.lease.until_answered(lambda: histories.history(workflow_id))

    def _input(self) -> Any:
        workflow, conversion = self._journal.workflow, self._journal.conversion
        if conversion is None:
            return workflow.input
        return conversion.input(workflow.workflow_id, self._handler, workflow.input)

    def _call(self, context: Context, value: Any) -> Awaitable[Any]:
        handler = self._handler

        async def proceed() -> Any:
            return await handler(context, value)

        return self.calls.around(CallKind.HANDLER, None, handler, (context, value), proceed)

"""Calling a handler over what its workflow has recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any, Self

from bluestreak_core.argument import has_real_type
from bluestreak_core.errors import CorruptDocument, InvalidValue
from bluestreak_core.model import History
from bluestreak_core.run.commit import Commits
from bluestreak_core.run.compensations import Compensations
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
from bluestreak_core.run.replay import Replay, SealedCalls, SealedStore
from bluestreak_core.run.unawaited import Unawaited
from bluestreak_core.store import Store

_CLOCKS_DIFFER_BY = timedelta(seconds=10)
"""At most: a nap that ended so shortly before, by one clock, has not ended yet by another one."""


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
        self.compensations = Compensations()
        self.has_begun = False
        """Whether the handler has been called."""
        self._store = store
        self._journal = journal
        self._registration = registration
        self._handler = registration.handler
        self._replay: Replay | None = None
        self._used_steps: AbstractSet[str] = frozenset()

    @classmethod
    def replaying(
        cls,
        store: Store,
        journal: Journal,
        registration: Registration,
        is_crowded: Callable[[], bool],
    ) -> Self:
        """A call over the records of a workflow that stops; see `replay`."""
        workflow, policy = journal.workflow, registration.policy
        until = (workflow.stopped_at or store.clock.now()) + _CLOCKS_DIFFER_BY
        call = cls(store, journal, registration, is_crowded)
        call._replay = replay = Replay(until, call.operations, call.exit, store.clock)
        call._store = SealedStore(store, replay)
        call.family = Family(call._store, journal.lease)
        call._journal = Journal(call._store, journal.lease, journal.conversion)
        call._journal.history = journal.history
        call.calls = SealedCalls(policy.hooks, call._journal, replay)
        call.publisher = Publisher(call._journal, call.exit)
        return call

    @property
    def stopped_at(self) -> str:
        """What a replay did not find recorded, for messages."""
        stopped_at = None if self._replay is None else self._replay.stopped_at
        return stopped_at or "code outside of its steps"

    async def until_stalled(self) -> None:
        """See `Replay.until_stalled`."""
        if self._replay is not None:
            await self._replay.until_stalled()

    @property
    def used_steps(self) -> AbstractSet[str]:
        """The ids of the steps that the handler has asked for."""
        return self._used_steps

    def drain(self) -> None:
        """Park the run at its next nap, or at once if only naps are pending."""
        self.operations.eager = True
        if (parking := self.operations.parking()) is not None:
            self.exit.decide(parking)

    async def make(self, histories: SharedHistories | None) -> Called:
        """Read the history, call the handler, and end the branches that it leaves behind.

        `histories` is None if the journal has the history already.

        Call this in the task that runs the handler, which is the one that `exit` cancels.
        """
        # Not divided any further: a `GeneratorExit` of the handler would close an inner coroutine
        # instead of being raised in it.
        is_child = self._journal.workflow.parent is not None
        if is_child and histories is not None and await self.family.is_orphan():
            return Orphaned()
        try:
            if histories is not None:
                self._journal.history = await read_history(self._journal, histories)
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
            calls=self.calls,
            commits=commits,
            operations=self.operations,
            publisher=self.publisher,
            exit=self.exit,
            compensations=self.compensations,
            replay=self._replay,
        )
        self._used_steps, self.has_begun = frame.used_steps, True
        try:
            result = await self._call(Context(frame, unawaited), value)
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
            if self._replay is not None:
                await self._replay.close()

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


async def read_history(journal: Journal, histories: SharedHistories) -> History:
    """What the workflow has recorded. Raises `CorruptDocument` and `ClaimLost`."""
    workflow_id = journal.workflow.workflow_id
    return await journal.lease.until_answered(lambda: histories.history(workflow_id))

"""What `SupportsTransactions` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

import pytest

from bluestreak_core.errors import (
    ClaimLost,
    InvalidArgument,
    TransitionRefused,
    UnstorableValue,
    WorkflowNotFound,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest, Status
from bluestreak_core.store import Store, SupportsTransactions
from bluestreak_core.testing.contract.arrange import LEASE, NOW, claimed, found, new
from bluestreak_core.testing.contract.rule import Rules, rule


class Transacting(Store, SupportsTransactions, Protocol):
    """A store with this power."""


class Application(Protocol):
    """Data of the application, within reach of the store's transactions."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction of the application: commits at the end of the block, or rolls back."""
        ...

    async def write(self, session: Any, entry: str) -> None:
        """Write an entry in a transaction."""
        ...

    async def entries(self) -> list[str]:
        """All committed entries, and no others."""
        ...


class ApplicationRules(Rules):
    """Rules that need a second fixture, `application`: an empty `Application` beside the store."""

    @pytest.fixture
    def application(self, store: Store) -> Application:
        """Override this for a store with transactions."""
        self.skip_unless_proved(store, SupportsTransactions)
        reason = "to prove SupportsTransactions, give it a fixture named 'application'"
        pytest.fail(f"{type(self).__name__}: {reason}", pytrace=False)


class TransactionContract(ApplicationRules):
    """The tests of a store that commits its writes together with the application's.

    They are a part of `StoreContract`.
    """

    pytestmark = pytest.mark.asyncio

    @rule("SupportsTransactions.check_transactions")
    async def test_transactions_are_possible(self, store: Transacting) -> None:
        await store.check_transactions("call")

    @rule("SupportsTransactions.transact")
    async def test_a_step_is_committed_with_what_was_written(
        self, store: Transacting, application: Application
    ) -> None:
        claim = await claimed(store, "w")

        async def write(session: Any) -> tuple[int, str]:
            await application.write(session, "entry")
            return (1, "two")

        assert await store.transact(claim, "s", write, _now) == [1, "two"]
        assert await application.entries() == ["entry"]
        step = await store.find_step("w", "s")
        assert step is not None
        assert (step.output, step.saved_at) == ([1, "two"], NOW)

    @rule("SupportsTransactions.transact")
    async def test_a_recorded_step_is_not_called_again(
        self, store: Transacting, application: Application
    ) -> None:
        claim = await claimed(store, "w")
        writer = _Writer(application)
        assert await store.transact(claim, "s", writer, _now) == "output 1"
        assert await store.transact(claim, "s", writer, _now) == "output 1"
        assert (await application.entries(), writer.calls) == (["entry"], 1)

    @rule("SupportsTransactions.transact")
    async def test_nothing_is_left_where_the_function_raises(
        self, store: Transacting, application: Application
    ) -> None:
        claim, error = await claimed(store, "w"), ValueError("no such account")

        async def fail(session: Any) -> None:
            await application.write(session, "entry")
            raise error

        with pytest.raises(ValueError, match="no such account") as raised:
            await store.transact(claim, "s", fail, _now)
        assert raised.value is error
        await _assert_nothing_done(store, application)

    @rule("SupportsTransactions.transact")
    async def test_nothing_is_left_where_the_output_cannot_be_stored(
        self, store: Transacting, application: Application
    ) -> None:
        claim = await claimed(store, "w")

        async def write(session: Any) -> object:
            await application.write(session, "entry")
            return object()

        with pytest.raises(UnstorableValue, match="output of step 's' of workflow 'w'"):
            await store.transact(claim, "s", write, _now)
        await _assert_nothing_done(store, application)

    @rule("SupportsTransactions.transact")
    async def test_nothing_is_left_of_a_call_that_is_cancelled(
        self, store: Transacting, application: Application
    ) -> None:
        claim, has_written = await claimed(store, "w"), asyncio.Event()

        async def hang(session: Any) -> None:
            await application.write(session, "entry")
            has_written.set()
            await asyncio.Event().wait()

        transaction = asyncio.create_task(store.transact(claim, "s", hang, _now))
        await has_written.wait()
        transaction.cancel()
        await asyncio.wait({transaction})
        assert transaction.cancelled()
        await _assert_nothing_done(store, application)
        assert await store.transact(claim, "s", _Writer(application), _now) == "output 1"

    @pytest.mark.parametrize("by", [Transition.CANCEL, Transition.PAUSE, Transition.CLAIM])
    @rule("SupportsTransactions.transact")
    async def test_nothing_is_committed_under_a_claim_that_is_taken_meanwhile(
        self, store: Transacting, application: Application, by: Transition
    ) -> None:
        claim = await claimed(store, "w")
        writer = _Writer(application, lambda: _take(store, by))
        with pytest.raises(ClaimLost):
            await store.transact(claim, "s", writer, _now)
        await _assert_nothing_done(store, application)

    @pytest.mark.parametrize("by", [Transition.CANCEL, Transition.PAUSE, Transition.CLAIM])
    @rule("SupportsTransactions.transact")
    async def test_nothing_is_called_under_a_claim_that_was_taken(
        self, store: Transacting, application: Application, by: Transition
    ) -> None:
        claim, writer = await claimed(store, "w"), _Writer(application)
        await _take(store, by)
        with pytest.raises(ClaimLost):
            await store.transact(claim, "s", writer, _now)
        assert writer.calls == 0
        await _assert_nothing_done(store, application)

    @rule("SupportsTransactions.transact")
    async def test_a_step_that_is_recorded_meanwhile_wins(
        self, store: Transacting, application: Application
    ) -> None:
        claim = await claimed(store, "w")
        writer = _Writer(application, lambda: store.save_step(claim, "s", "first", NOW))
        assert await store.transact(claim, "s", writer, _now) == "first"
        assert await application.entries() == []

    @rule("SupportsTransactions.transact")
    async def test_a_transaction_resets_crashes(
        self, store: Transacting, application: Application
    ) -> None:
        await claimed(store, "w")
        (claim,) = await store.claim(
            ClaimRequest(worker="worker", now=NOW + LEASE, lease=LEASE, limit=1)
        )
        assert claim.workflow.crashes == 1
        await store.transact(claim, "s", _Writer(application), _now)
        assert (await found(store, "w")).crashes == 0

    # Inside a transaction of the caller's ------------------------------------------------------

    @rule("SupportsTransactions.create_in")
    async def test_a_workflow_is_created_when_the_caller_commits(
        self, store: Transacting, application: Application
    ) -> None:
        async with application.transaction() as session:
            await application.write(session, "entry")
            assert await store.create_in(session, new("w"))
            assert await store.find_workflow("w") is None
        assert (await found(store, "w")).status is Status.IDLE
        assert await application.entries() == ["entry"]

    @rule("SupportsTransactions.create_in")
    async def test_an_id_that_exists_does_not_keep_the_caller_from_committing(
        self, store: Transacting, application: Application
    ) -> None:
        await store.create(new("w"))
        before = await found(store, "w")
        async with application.transaction() as session:
            assert not await store.create_in(session, new("w"))
            await application.write(session, "entry")
        assert await found(store, "w") == before
        assert await application.entries() == ["entry"]

    @rule("SupportsTransactions.create_in")
    async def test_a_workflow_is_moved_when_the_caller_commits(
        self, store: Transacting, application: Application
    ) -> None:
        await store.create(new("w"))
        async with application.transaction() as session:
            await store.control_in(session, "w", Transition.CANCEL, NOW, "why")
            assert (await found(store, "w")).status is Status.IDLE
        workflow = await found(store, "w")
        assert (workflow.status, workflow.reason) == (Status.CANCELLED, "why")

    @rule("SupportsTransactions.find_in")
    async def test_a_transaction_sees_what_it_has_done(
        self, store: Transacting, application: Application
    ) -> None:
        await store.create(new("v"))
        async with application.transaction() as session:
            assert await store.find_in(session, "w") is None
            assert await store.create_in(session, new("w"))
            assert not await store.create_in(session, new("w"))
            for name in ("v", "w"):
                await store.control_in(session, name, Transition.CANCEL, NOW, "why")
                with pytest.raises(TransitionRefused):
                    await store.control_in(session, name, Transition.CANCEL, NOW)
                seen = await store.find_in(session, name)
                assert seen is not None
                assert (seen.status, seen.reason) == (Status.CANCELLED, "why")
        for name in ("v", "w"):
            assert (await found(store, name)).reason == "why"

    @rule("SupportsTransactions.create_in")
    async def test_nothing_is_done_where_the_caller_rolls_back(
        self, store: Transacting, application: Application
    ) -> None:
        await store.create(new("v"))

        async def fail() -> None:
            async with application.transaction() as session:
                await store.create_in(session, new("w"))
                await store.control_in(session, "v", Transition.CANCEL, NOW)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await store.find_workflow("w") is None
        assert (await found(store, "v")).status is Status.IDLE

    @rule("SupportsTransactions.control_in")
    async def test_what_is_refused_is_refused_in_a_transaction(
        self, store: Transacting, application: Application
    ) -> None:
        await store.finish(await claimed(store, "w"), None, NOW)
        with pytest.raises(TransitionRefused):
            async with application.transaction() as session:
                await store.control_in(session, "w", Transition.CANCEL, NOW)
        with pytest.raises(WorkflowNotFound):
            async with application.transaction() as session:
                await store.control_in(session, "no such workflow", Transition.CANCEL, NOW)

    @rule("SupportsTransactions.create_in")
    async def test_what_is_no_session_under_way_is_refused(
        self, store: Transacting, application: Application
    ) -> None:
        async with application.transaction() as over:
            pass
        for bad in (over, None, "session", object()):
            with pytest.raises(InvalidArgument, match="session"):
                await store.create_in(bad, new("w"))
            with pytest.raises(InvalidArgument, match="session"):
                await store.find_in(bad, "w")
            with pytest.raises(InvalidArgument, match="session"):
                await store.control_in(bad, "w", Transition.CANCEL, NOW)
        assert await store.find_workflow("w") is None


# What the tests above share ---------------------------------------------------------------------


class _Writer:
    """Writes an entry, after which something happens when it is called for the first time."""

    def __init__(self, application: Application, then: Any = None) -> None:
        self.calls = 0
        self._application = application
        self._then = then

    async def __call__(self, session: Any) -> str:
        self.calls += 1
        await self._application.write(session, "entry")
        if self._then is not None and self.calls == 1:
            await self._then()
        return f"output {self.calls}"


def _now() -> datetime:
    return NOW


async def _take(store: Store, by: Transition) -> None:
    if by is Transition.CLAIM:
        assert await store.claim(
            ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=1)
        )
    else:
        await store.control("w", by, NOW)


async def _assert_nothing_done(store: Store, application: Application) -> None:
    assert await application.entries() == []
    assert await store.find_step("w", "s") is None

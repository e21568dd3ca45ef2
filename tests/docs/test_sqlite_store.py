"""What the store that the documentation builds does beyond the contract of every store.

`test_readme.py` runs its page, whose `test_sqlite_store.py` is the contract.
"""

from __future__ import annotations

import asyncio
import runpy
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bluestreak_core import (
    Bluestreak,
    Context,
    CorruptDocument,
    NewWorkflow,
    NotInitialised,
    Store,
    StoreRefused,
    StoreUnavailable,
    Unsupported,
)
from bluestreak_core.model import ClaimRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unmeasured")]

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "sqlite_store.py"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=10)

new_store: Callable[..., Store] = runpy.run_path(str(EXAMPLE))["SQLiteStore"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workflows.sqlite"


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = new_store(path)
    await store.init()
    yield store
    await store.close()


def _new(workflow_id: str) -> NewWorkflow:
    return NewWorkflow(workflow_id=workflow_id, handler_id="h", input=None, created_at=NOW)


@pytest.mark.asyncio
async def test_a_workflow_outlives_the_process_that_began_it(path: Path) -> None:
    calls: list[str] = []

    async def handler(ctx: Context, input: str) -> list[Any]:
        for step_id in ("one", "two"):
            await ctx.step(step_id, calls.append, step_id)
            if fails and step_id == "one":
                raise ConnectionError
        return [input, await ctx.step("when", lambda: NOW)]

    for fails in (True, False):
        bluestreak = Bluestreak(new_store(path), wait_retry_interval=0)
        bluestreak.register_handler("h", handler)
        async with bluestreak, asyncio.TaskGroup() as group:
            if fails:
                await bluestreak.start("w", "h", "input")
                bluestreak.should_stop = lambda: "one" in calls
                group.create_task(bluestreak.poll())
            else:
                group.create_task(bluestreak.poll())
                assert await bluestreak.wait("w") == ["input", NOW]
                bluestreak.stop()
    assert calls == ["one", "two"]


@pytest.mark.asyncio
async def test_two_connections_to_one_file_share_its_workflows(store: Store, path: Path) -> None:
    other = new_store(path)
    await other.init()
    for number in range(4):
        assert await store.create(_new(f"w{number}"))
        assert not await other.create(_new(f"w{number}"))
    claims = [
        claim
        for each in (store, other, store, other)
        for claim in await each.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    ]
    await other.close()
    assert [claim.workflow_id for claim in claims] == ["w0", "w1", "w2", "w3"]


@pytest.mark.asyncio
async def test_a_file_that_another_process_holds_is_unavailable(path: Path) -> None:
    store = new_store(path, lock_timeout=0)
    await store.init()
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await store.create(_new("w"))
    assert await store.create(_new("w"))
    await store.close()


@pytest.mark.asyncio
async def test_the_event_loop_goes_on_while_another_process_holds_the_file(
    store: Store, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        creating = asyncio.create_task(store.create(_new("w")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not creating.done()
        holder.execute("COMMIT")
        assert await creating


@pytest.mark.asyncio
async def test_a_row_that_cannot_be_read_is_in_nobodys_way(
    store: Store, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for workflow_id in ("bad", "good"):
        await store.create(_new(workflow_id))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE workflows SET status = 'idle', input = '{' WHERE workflow_id = 'bad'")
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    assert claim.workflow_id == "good"
    assert (
        list(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))) == []
    )
    assert caplog.text.count("workflows document 'bad'") == 1
    with pytest.raises(CorruptDocument, match=r"^workflows document 'bad': "):
        await store.find_workflow("bad")


@pytest.mark.asyncio
async def test_a_step_that_cannot_be_read_is_named(store: Store, path: Path) -> None:
    await store.create(_new("w"))
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    await store.save_step(claims[0], "s", 1, NOW)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE steps SET output = '{'")
    for call in (store.find_step("w", "s"), store.history(claims)):
        with pytest.raises(CorruptDocument, match=r"^steps document 'w': "):
            await call


@pytest.mark.asyncio
async def test_a_step_does_not_write_its_workflow(store: Store, path: Path) -> None:
    await store.create(_new("w"))
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(
            "CREATE TRIGGER t AFTER UPDATE ON workflows BEGIN SELECT RAISE(FAIL, 'no'); END"
        )
    assert await store.save_step(claim, "s", 1, NOW) == 1


@pytest.mark.asyncio
async def test_what_a_later_version_has_added_is_kept(store: Store, path: Path) -> None:
    await store.create(_new("w"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("ALTER TABLE workflows ADD COLUMN priority DEFAULT 7")
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        await store.finish(claim, None, NOW)
        assert other.execute("SELECT priority FROM workflows").fetchall() == [(7,)]


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"anything but a database" * 100)
    with pytest.raises(StoreRefused, match="not a database"):
        asyncio.run(new_store(path).init())


@pytest.mark.asyncio
async def test_a_closed_store_says_that_it_is_closed(store: Store) -> None:
    await store.close()
    with pytest.raises(NotInitialised):
        await store.find_workflow("w")


@pytest.mark.asyncio
async def test_a_store_that_cannot_fork_says_so(path: Path) -> None:
    async with Bluestreak(new_store(path)) as bluestreak:
        with pytest.raises(Unsupported, match=r"fork\(\) is not possible here: SQLiteStore"):
            await bluestreak.fork("w", "f")

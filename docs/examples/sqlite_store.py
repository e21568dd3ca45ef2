"""A Bluestreak store in one SQLite file, for the processes of one machine.

A thread owns the connection, so the event loop never waits for the disk or for
a lock. Each call is one transaction in that thread, and runs to its end even if
its caller is cancelled.
"""

# ruff: noqa: S608 - SQLite takes names of tables and columns only in the text

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import (
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

from bluestreak_core import (
    MAX_VALUE_BYTES,
    Attempt,
    Claim,
    ClaimEntry,
    ClaimRequest,
    Clock,
    CorruptDocument,
    ErrorRecord,
    FailedStep,
    Failure,
    Hints,
    History,
    Nap,
    NewWorkflow,
    NotInitialised,
    PlainRules,
    Standing,
    Status,
    Step,
    Store,
    StoreRefused,
    StoreUnavailable,
    SystemClock,
    Workflow,
    WorkflowNotFound,
    machine,
)
from bluestreak_core.machine import Transition

T = TypeVar("T")
Row = sqlite3.Row
logger = logging.getLogger(__name__)

LOOK_AGAIN = timedelta(milliseconds=200)
"""The longest wait: SQLite does not notify a process of the others' writes."""

REFUSALS = {
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_ERROR,
}
"""Errors that last until somebody changes something. All others may pass."""

COLUMNS = [field.name for field in fields(Workflow)]
# without the columns that may be large
STATE = [name for name in COLUMNS if name not in ("input", "result")]
JSON = ("input", "result", "error", "claim_log", "failed_steps")

SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS workflows (
    workflow_id TEXT PRIMARY KEY, {", ".join(COLUMNS[1:])}
);
CREATE INDEX IF NOT EXISTS due ON workflows (status, timeout_at);
CREATE TABLE IF NOT EXISTS steps (
    workflow_id TEXT, id TEXT, output, saved_at,
    PRIMARY KEY (workflow_id, id)
);
CREATE TABLE IF NOT EXISTS naps (
    workflow_id TEXT, id TEXT, wake_up_at, saved_at,
    PRIMARY KEY (workflow_id, id)
);
CREATE TABLE IF NOT EXISTS attempts (
    workflow_id TEXT, id TEXT, attempt, saved_at,
    PRIMARY KEY (workflow_id, id)
);
"""


class SQLiteStore(Store):
    """One row for each workflow, step, nap and failed attempt."""

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock | None = None,
        lock_timeout: float = 5.0,
    ) -> None:
        self._path = path
        self._clock = clock or SystemClock()  # all users are on this machine
        self._lock_timeout = lock_timeout
        self._rules = PlainRules()
        self._hints = Hints(self._clock)
        self._thread: ThreadPoolExecutor | None = None
        self._db: sqlite3.Connection  # used in the thread, from `init` on
        self._strays: set[str] = set()

    @property
    def clock(self) -> Clock:
        return self._clock

    async def init(self) -> None:
        if self._thread is not None:
            return
        self._thread = ThreadPoolExecutor(1, "sqlite")
        try:
            await self._in_thread(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            self._thread = None
            raise

    async def close(self) -> None:
        if self._thread is not None:
            closing = self._in_thread(self._db.close)
            self._thread.shutdown(wait=False)  # it finishes its queue first
            self._thread = None
            await closing

    # Starting and looking

    async def create(self, new: NewWorkflow) -> bool:
        (created,) = await self.create_many([new])
        return created

    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        workflows = []
        for one in new:
            what = f"input of workflow {one.workflow_id!r}"
            value, _ = self._rules.round_trip(one.input, what)
            workflows.append(machine.create(replace(one, input=value)))

        def create(moved: list[Workflow]) -> list[bool]:
            return [self._insert(workflow, moved) for workflow in workflows]

        return await self._write(create)

    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        return await self._in_thread(lambda: self._find(workflow_id, COLUMNS))

    async def find_standing(self, workflow_id: str) -> Standing | None:
        # In a local file, reading less gains nothing.
        workflow = await self.find_workflow(workflow_id)
        return None if workflow is None else workflow.standing

    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        row = await self._in_thread(
            lambda: self._record("steps", workflow_id, step_id)
        )
        return None if row is None else to_step(row)

    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        row = await self._in_thread(
            lambda: self._record("naps", workflow_id, nap_id)
        )
        return None if row is None else to_nap(row)

    # Claiming

    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        self._hints.looking(request.now)

        def claim(moved: list[Workflow]) -> list[Claim]:
            claims = []
            for workflow in self._due(request):
                token = uuid4().hex
                claimed = machine.claim(workflow, token, request)
                self._update(workflow, claimed, moved)
                claims.append(Claim(token=token, workflow=claimed))
            return claims

        return await self._write(claim)

    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        ids = json.dumps([claim.workflow_id for claim in claims])

        def rows_of(table: str) -> list[Row]:
            return self._db.execute(
                f"SELECT * FROM {table} WHERE workflow_id IN"
                " (SELECT value FROM json_each(?))",
                (ids,),
            ).fetchall()

        tables = await self._in_thread(
            lambda: [rows_of(table) for table in ("steps", "naps", "attempts")]
        )
        histories = {claim.workflow_id: History() for claim in claims}
        for step in map(to_step, tables[0]):
            histories[step.workflow_id].steps[step.step_id] = step.output
        for nap in map(to_nap, tables[1]):
            histories[nap.workflow_id].naps[nap.nap_id] = nap.wake_up_at
        attempts = [*map(to_attempt, tables[2])]
        for claim in claims:
            own = [x for x in attempts if x.workflow_id == claim.workflow_id]
            latest = machine.latest_attempts(own, claim.workflow.retries)
            histories[claim.workflow_id].attempts.update(latest)
        return histories

    async def renew(
        self, claims: Sequence[Claim], now: datetime, lease: timedelta
    ) -> list[Claim]:
        def renew(moved: list[Workflow]) -> list[Claim]:
            lost = []
            for claim in claims:
                workflow = self._find(claim.workflow_id)
                if workflow is not None and machine.in_force(workflow, claim):
                    renewed = machine.renew(workflow, now, lease)
                    self._update(workflow, renewed, moved)
                else:
                    lost.append(claim)
            return lost

        return await self._write(renew)

    # Recording

    async def save_step(
        self, claim: Claim, step_id: str, output: Any, now: datetime
    ) -> Any:
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(output, what)
        row = await self._save("steps", claim, step_id, packed(value), now)
        return to_step(row).output

    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        row = await self._save("naps", claim, nap_id, sortable(wake_up_at), now)
        return to_nap(row).wake_up_at

    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        name = json.dumps([attempt.step_id, attempt.round, attempt.number])
        row = await self._save(
            "attempts", claim, name, packed(attempt), attempt.saved_at
        )
        return to_attempt(row)

    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        def fail_step(moved: list[Workflow]) -> None:
            workflow = self._find(claim.workflow_id)
            if workflow is None or not machine.in_force(workflow, claim):
                raise machine.lost(workflow, claim)
            if all(
                failed.step_id != other.step_id
                for other in workflow.failed_steps
            ):
                after = machine.fail_step(workflow, failed)
                self._update(workflow, after, moved)

        await self._write(fail_step)

    # Ending a claim

    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._end(
            claim, Transition.PARK, lambda one: machine.park(one, wake_up_at)
        )

    async def release(self, claim: Claim, now: datetime) -> None:
        await self._end(
            claim, Transition.RELEASE, lambda one: machine.release(one, now)
        )

    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        _, taken = self._rules.round_trip(claim.workflow.input, "input")
        what = f"result of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(result, what, MAX_VALUE_BYTES - taken)
        await self._end(
            claim,
            Transition.FINISH,
            lambda one: machine.finish(one, value, now),
        )

    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        event = machine.failure_transition(failure)
        await self._end(
            claim, event, lambda one: machine.fail(one, failure, now)
        )

    # From outside

    async def control(
        self,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        def control(moved: list[Workflow]) -> Status:
            workflow = self._find(workflow_id)
            if workflow is None:
                raise WorkflowNotFound(workflow_id)
            after = machine.control(workflow, event, now, reason)
            self._update(workflow, after, moved)
            return workflow.status

        if await self._write(control) is Status.RUNNING:
            self._hints.controlled()

    # Hints: for this process at once, for other processes by polling

    async def wait_for_work(self, timeout: timedelta) -> None:
        await self._hints.wait_for_work(min(timeout, LOOK_AGAIN))

    async def wait_for_end(
        self, workflow_id: str, since: datetime, timeout: timedelta
    ) -> bool:
        return await self._hints.wait_for_end(
            workflow_id, since, min(timeout, LOOK_AGAIN)
        )

    async def wait_for_control(
        self, worker: str, since: datetime, timeout: timedelta
    ) -> bool:
        return await self._hints.wait_for_control(since, timeout)

    # In the thread

    def _open(self) -> None:
        db = sqlite3.connect(
            self._path, timeout=self._lock_timeout, isolation_level=None
        )
        try:
            db.row_factory = Row
            db.executescript(SCHEMA)
            columns = db.execute("PRAGMA table_info(workflows)")
            known = {row["name"] for row in columns}
            for name in COLUMNS:
                if name not in known:  # an earlier version made the table
                    db.execute(f"ALTER TABLE workflows ADD COLUMN {name}")
        except BaseException:
            db.close()
            raise
        self._db = db

    def _find(
        self, workflow_id: str, columns: Sequence[str] = STATE
    ) -> Workflow | None:
        names = ", ".join(columns)
        query = f"SELECT {names} FROM workflows WHERE workflow_id = ?"
        row = self._db.execute(query, (workflow_id,)).fetchone()
        return None if row is None else to_workflow(row)

    def _due(self, request: ClaimRequest) -> list[Workflow]:
        """The due workflows that can be read; `limit` does not count others."""
        rows = self._db.execute(
            "SELECT * FROM workflows WHERE timeout_at <= ?"
            " AND status IN (SELECT value FROM json_each(?))"
            " AND (? OR handler_id IN (SELECT value FROM json_each(?)))"
            " ORDER BY timeout_at",
            (
                sortable(request.now),
                json.dumps(machine.sources(Transition.CLAIM)),
                request.handlers is None,
                json.dumps(list(request.handlers or ())),
            ),
        )
        due: list[Workflow] = []
        while len(due) < request.limit and (row := rows.fetchone()) is not None:
            try:
                due.append(to_workflow(row))
            except CorruptDocument as error:
                if row["workflow_id"] not in self._strays:
                    logger.error("%s; it is left alone", error)  # noqa: TRY400
                    self._strays.add(row["workflow_id"])
        return due

    def _insert(self, workflow: Workflow, moved: list[Workflow]) -> bool:
        marks = ", ".join("?" * len(COLUMNS))
        names = ", ".join(COLUMNS)
        inserted = self._db.execute(
            f"INSERT OR IGNORE INTO workflows ({names}) VALUES ({marks})",
            [to_column(name, getattr(workflow, name)) for name in COLUMNS],
        )
        moved += [workflow] if inserted.rowcount else []
        return inserted.rowcount == 1

    def _update(
        self, before: Workflow, after: Workflow, moved: list[Workflow]
    ) -> None:
        """Write the columns that have changed, and no others."""
        changed = {
            name: to_column(name, getattr(after, name))
            for name in COLUMNS
            if getattr(after, name) != getattr(before, name)
        }
        if changed:
            names = ", ".join(f"{name} = ?" for name in changed)
            self._db.execute(
                f"UPDATE workflows SET {names} WHERE workflow_id = ?",
                [*changed.values(), after.workflow_id],
            )
            moved.append(after)

    def _record(self, table: str, workflow_id: str, name: str) -> Row | None:
        query = f"SELECT * FROM {table} WHERE (workflow_id, id) = (?, ?)"
        found = self._db.execute(query, (workflow_id, name))
        row: Row | None = found.fetchone()
        return row

    async def _save(
        self, table: str, claim: Claim, name: str, value: str, now: datetime
    ) -> Row:
        """Record a value unless one is recorded; return the recorded row."""

        def save(moved: list[Workflow]) -> Row:
            workflow = self._find(claim.workflow_id)
            if workflow is None or not machine.is_of(claim, workflow):
                raise machine.lost(None, claim)
            new = (claim.workflow_id, name, value, sortable(now))
            insert = f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?, ?)"
            inserted = self._db.execute(insert, new)
            if inserted.rowcount and machine.in_force(workflow, claim):
                self._update(workflow, machine.progress(workflow), moved)
            row = self._record(table, claim.workflow_id, name)
            assert row is not None
            return row

        return await self._write(save)

    async def _end(
        self,
        claim: Claim,
        event: Transition,
        move: Callable[[Workflow], Workflow],
    ) -> None:
        def end(moved: list[Workflow]) -> None:
            workflow = self._find(claim.workflow_id)
            if workflow is not None and machine.in_force(workflow, claim):
                self._update(workflow, move(workflow), moved)
            elif not machine.has_ended_by(workflow, claim, event):
                raise machine.lost(workflow, claim)

        await self._write(end)

    # Between the event loop and the thread

    async def _write(self, change: Callable[[list[Workflow]], T]) -> T:
        """Run one transaction, and report its moves after the commit."""

        def transaction() -> tuple[T, list[Workflow]]:
            moved: list[Workflow] = []
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:  # commits, or rolls back
                return change(moved), moved

        async def write() -> T:
            result, moved = await self._in_thread(transaction)
            for workflow in moved:
                if workflow.status.ended:
                    self._hints.ended(workflow.workflow_id)
                elif workflow.status in machine.waiting():
                    self._hints.due(workflow.timeout_at)
            return result

        return await see_through(write())

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if self._thread is None:
            raise NotInitialised("an SQLiteStore")

        def translated() -> T:
            with store_errors():
                return call()

        return asyncio.get_running_loop().run_in_executor(
            self._thread, translated
        )


async def see_through(work: Coroutine[Any, Any, T]) -> T:
    """Await work to its end, and only then let the caller be cancelled."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    raise cancelled from None if task.cancelled() else task.exception()


@contextmanager
def store_errors() -> Iterator[None]:
    """Translate SQLite's errors into those of the Store protocol."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        kind = StoreRefused if code in REFUSALS else StoreUnavailable
        raise kind(str(error)) from error


# Records as rows: texts and numbers as they are, instants as texts, and all
# other values as JSON


def to_workflow(row: Row) -> Workflow:
    with readable("workflows", row):
        found: dict[str, Any] = {}
        for name in set(row.keys()).intersection(COLUMNS):
            value = row[name]
            if value is not None:
                value = unpacked(value) if name in JSON else value
                if name.endswith("_at"):
                    value = datetime.fromisoformat(value)
                found[name] = value
        found["status"] = Status(found["status"])
        if found.get("error") is not None:
            found["error"] = ErrorRecord(**found["error"])
        entries = found.get("claim_log", ())
        found["claim_log"] = tuple(ClaimEntry(**entry) for entry in entries)
        failed = found.get("failed_steps", ())
        found["failed_steps"] = tuple(
            FailedStep(**with_error(entry)) for entry in failed
        )
        return Workflow(**{"input": None} | found)


def to_column(name: str, value: Any) -> str | int | None:
    if name in JSON:
        return packed(value)
    return sortable(value) if isinstance(value, datetime) else value


def to_step(row: Row) -> Step:
    with readable("steps", row):
        return Step(
            workflow_id=row["workflow_id"],
            step_id=row["id"],
            output=unpacked(row["output"]),
            saved_at=datetime.fromisoformat(row["saved_at"]),
        )


def to_nap(row: Row) -> Nap:
    with readable("naps", row):
        return Nap(
            workflow_id=row["workflow_id"],
            nap_id=row["id"],
            wake_up_at=datetime.fromisoformat(row["wake_up_at"]),
            saved_at=datetime.fromisoformat(row["saved_at"]),
        )


def to_attempt(row: Row) -> Attempt:
    with readable("attempts", row):
        return Attempt(**with_error(unpacked(row["attempt"])))


@contextmanager
def readable(table: str, row: Row) -> Iterator[None]:
    """Raise `CorruptDocument` for any error in reading a row."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        reason = f"cannot be read: {type(error).__name__}: {error}"
        workflow_id = row["workflow_id"]
        raise CorruptDocument(table, workflow_id, "record", reason) from error


def with_error(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"error": ErrorRecord(**fields["error"])}


def sortable(instant: datetime) -> str:
    """A text that sorts like the instant: all are UTC, in milliseconds."""
    return instant.isoformat(timespec="milliseconds")


def packed(value: Any) -> str:
    return json.dumps(_to_json(value))


def unpacked(text: str) -> Any:
    return _from_json(json.loads(text))


def _to_json(value: Any) -> Any:
    """Dicts, and types that JSON lacks, become `{"type": value}`."""
    if isinstance(value, ErrorRecord | ClaimEntry | FailedStep | Attempt):
        value = asdict(value)
    match value:
        case dict() as items:
            return {
                "dict": {key: _to_json(item) for key, item in items.items()}
            }
        case list() | tuple() as items:
            return [_to_json(item) for item in items]
        case datetime():
            return {"datetime": value.isoformat()}
        case UUID():
            return {"uuid": value.hex}
        case bytes():
            return {"bytes": value.hex()}
        case _:
            return value


def _from_json(value: Any) -> Any:
    match value:
        case {"dict": items}:
            return {key: _from_json(item) for key, item in items.items()}
        case {"datetime": text}:
            return datetime.fromisoformat(text)
        case {"uuid": text}:
            return UUID(text)
        case {"bytes": text}:
            return bytes.fromhex(text)
        case list():
            return [_from_json(item) for item in value]
        case _:
            return value

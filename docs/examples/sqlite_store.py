"""A Bluestreak store in one SQLite file, for the processes of one machine.

Each call is one transaction without an `await` in it. So it is atomic, and a cancellation finds it
done or not begun. The price is that the event loop stands still while SQLite writes: milliseconds,
or up to `LOCK_TIMEOUT` where another process holds the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

from bluestreak_core import (
    Attempt,
    Claim,
    ClaimEntry,
    Clock,
    ErrorRecord,
    FailedStep,
    Failure,
    History,
    Nap,
    NewWorkflow,
    NotInitialised,
    PlainRules,
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
from bluestreak_core.machine import Event
from bluestreak_core.values import MAX_VALUE_BYTES

Kind = Literal["step", "nap", "attempt"]

LOCK_TIMEOUT = 0.5  # seconds
LOOK_AGAIN = timedelta(milliseconds=200)

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS workflows (
    workflow_id TEXT PRIMARY KEY, handler_id TEXT, status TEXT, timeout_at TEXT, record TEXT
);
CREATE INDEX IF NOT EXISTS due ON workflows (status, timeout_at);
CREATE TABLE IF NOT EXISTS journal (
    workflow_id TEXT, kind TEXT, id TEXT, value TEXT, saved_at TEXT,
    PRIMARY KEY (workflow_id, kind, id)
);
"""


class SQLiteStore(Store):
    """Keeps each workflow as one row: its record as JSON, beside what it is looked up by."""

    def __init__(self, path: str | Path, *, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()  # the machine's, since all users are on it
        self._rules = PlainRules()
        self._connection: sqlite3.Connection | None = None

    @property
    def clock(self) -> Clock:
        return self._clock

    async def init(self) -> None:
        if self._connection is not None:
            return
        with store_errors():
            connection = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT, isolation_level=None)
            try:
                connection.executescript(SCHEMA)
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # Starting and looking

    async def create(self, new: NewWorkflow) -> bool:
        (created,) = await self.create_many([new])
        return created

    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        workflows = []
        for one in new:
            value, _ = self._rules.round_trip(one.input, f"input of workflow {one.workflow_id!r}")
            workflows.append(machine.create(replace(one, input=value)))
        with self._transaction() as db:
            return [self._add(db, workflow) for workflow in workflows]

    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        with self._transaction() as db:
            return self._workflow(db, workflow_id)

    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        with self._transaction() as db:
            row = self._saved(db, workflow_id, "step", step_id)
        if row is None:
            return None
        return Step(workflow_id=workflow_id, step_id=step_id, output=row[0], saved_at=row[1])

    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        with self._transaction() as db:
            row = self._saved(db, workflow_id, "nap", nap_id)
        if row is None:
            return None
        return Nap(workflow_id=workflow_id, nap_id=nap_id, wake_up_at=row[0], saved_at=row[1])

    # Claiming

    async def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        limit: int,
        handlers: Collection[str] | None,
    ) -> Sequence[Claim]:
        claims = []
        with self._transaction() as db:
            due = db.execute(
                "SELECT record FROM workflows WHERE timeout_at <= ?"
                " AND status IN (SELECT value FROM json_each(?))"
                " AND (? OR handler_id IN (SELECT value FROM json_each(?)))"
                " ORDER BY timeout_at LIMIT ?",
                (
                    sortable(now),
                    json.dumps(machine.sources(Event.CLAIM)),
                    handlers is None,
                    json.dumps(list(handlers or ())),
                    limit,
                ),
            )
            for (record,) in due.fetchall():
                token = uuid4().hex
                workflow = machine.claim(to_workflow(record), token, worker, now, lease)
                self._put(db, workflow)
                claims.append(Claim(token=token, workflow=workflow))
        return claims

    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        histories = {claim.workflow_id: History() for claim in claims}
        attempts: dict[str, list[Attempt]] = {claim.workflow_id: [] for claim in claims}
        with self._transaction() as db:
            rows = db.execute(
                "SELECT workflow_id, kind, id, value FROM journal"
                " WHERE workflow_id IN (SELECT value FROM json_each(?))",
                (json.dumps(list(histories)),),
            )
            for workflow_id, kind, name, value in rows:
                if kind == "attempt":
                    attempts[workflow_id].append(to_attempt(unpacked(value)))
                    continue
                history = histories[workflow_id]
                recorded = history.steps if kind == "step" else history.naps
                recorded[name] = unpacked(value)
        for claim in claims:
            made = attempts[claim.workflow_id]
            latest = machine.latest_attempts(made, claim.workflow.retries)
            histories[claim.workflow_id].attempts.update(latest)
        return histories

    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        lost = []
        with self._transaction() as db:
            for claim in claims:
                workflow = self._workflow(db, claim.workflow_id)
                if workflow is not None and machine.in_force(workflow, claim):
                    self._put(db, machine.renew(workflow, now, lease))
                else:
                    lost.append(claim)
        return lost

    # Recording

    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(output, what)
        return self._save(claim, "step", step_id, value, now)

    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        recorded: datetime = self._save(claim, "nap", nap_id, wake_up_at, now)
        return recorded

    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        name = json.dumps([attempt.step_id, attempt.round, attempt.number])
        return to_attempt(self._save(claim, "attempt", name, asdict(attempt), attempt.saved_at))

    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        with self._transaction() as db:
            workflow = self._workflow(db, claim.workflow_id)
            if workflow is None or not machine.in_force(workflow, claim):
                raise machine.lost(workflow, claim)
            if all(failed.step_id != other.step_id for other in workflow.failed_steps):
                self._put(db, machine.fail_step(workflow, failed))

    # Ending a claim

    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        self._end(claim, Event.PARK, lambda workflow: machine.park(workflow, wake_up_at))

    async def release(self, claim: Claim, now: datetime) -> None:
        self._end(claim, Event.RELEASE, lambda workflow: machine.release(workflow, now))

    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        _, taken = self._rules.round_trip(claim.workflow.input, "input")
        what = f"result of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(result, what, MAX_VALUE_BYTES - taken)
        self._end(claim, Event.FINISH, lambda workflow: machine.finish(workflow, value, now))

    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        event = machine.failure_event(failure)
        self._end(claim, event, lambda workflow: machine.fail(workflow, failure, now))

    # From outside

    async def control(
        self, workflow_id: str, event: Event, now: datetime, reason: str | None = None
    ) -> None:
        with self._transaction() as db:
            workflow = self._workflow(db, workflow_id)
            if workflow is None:
                raise WorkflowNotFound(workflow_id)
            self._put(db, machine.control(workflow, event, now, reason))

    # Hints: SQLite tells nobody, but a look costs next to nothing

    async def wait_for_work(self, timeout: timedelta) -> None:
        await self._clock.sleep(min(timeout, LOOK_AGAIN))

    async def wait_for_end(self, workflow_id: str, timeout: timedelta) -> None:
        await self._clock.sleep(min(timeout, LOOK_AGAIN))

    async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        await self._clock.sleep(timeout)  # renewing tells, a third of a lease later at most
        return False

    # What the methods above share

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end of the block, rolled back by an exception."""
        if self._connection is None:
            raise NotInitialised("an SQLiteStore")
        with store_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection

    def _workflow(self, db: sqlite3.Connection, workflow_id: str) -> Workflow | None:
        query = "SELECT record FROM workflows WHERE workflow_id = ?"
        row = db.execute(query, (workflow_id,)).fetchone()
        return None if row is None else to_workflow(row[0])

    def _add(self, db: sqlite3.Connection, workflow: Workflow) -> bool:
        if self._workflow(db, workflow.workflow_id) is not None:
            return False
        self._put(db, workflow)
        return True

    def _put(self, db: sqlite3.Connection, workflow: Workflow) -> None:
        db.execute(
            "INSERT OR REPLACE INTO workflows VALUES (?, ?, ?, ?, ?)",
            (
                workflow.workflow_id,
                workflow.handler_id,
                workflow.status,
                sortable(workflow.timeout_at),
                packed(asdict(workflow)),
            ),
        )

    def _saved(
        self, db: sqlite3.Connection, workflow_id: str, kind: Kind, name: str
    ) -> tuple[Any, datetime] | None:
        query = "SELECT value, saved_at FROM journal WHERE (workflow_id, kind, id) = (?, ?, ?)"
        row = db.execute(query, (workflow_id, kind, name)).fetchone()
        return None if row is None else (unpacked(row[0]), datetime.fromisoformat(row[1]))

    def _save(self, claim: Claim, kind: Kind, name: str, value: Any, now: datetime) -> Any:
        """Record a value unless there is one; return the recorded one."""
        with self._transaction() as db:
            if (row := self._saved(db, claim.workflow_id, kind, name)) is not None:
                return row[0]
            new = (claim.workflow_id, kind, name, packed(value), sortable(now))
            db.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", new)
            workflow = self._workflow(db, claim.workflow_id)
            if workflow is not None and machine.in_force(workflow, claim):
                self._put(db, machine.progress(workflow))
            return value

    def _end(self, claim: Claim, event: Event, move: Callable[[Workflow], Workflow]) -> None:
        with self._transaction() as db:
            workflow = self._workflow(db, claim.workflow_id)
            if workflow is not None and machine.in_force(workflow, claim):
                self._put(db, move(workflow))
            elif not machine.has_ended_by(workflow, claim, event):
                raise machine.lost(workflow, claim)


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise SQLite's errors as the Store protocol's."""
    try:
        yield
    except sqlite3.Error as error:
        # What passes: another process holds the file, or the disk is full or failing.
        passing = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise (StoreUnavailable if code in passing else StoreRefused)(str(error)) from error


def sortable(instant: datetime) -> str:
    """A text that sorts as the instant does: all are UTC, in milliseconds."""
    return instant.isoformat(timespec="milliseconds")


def to_workflow(record: str) -> Workflow:
    fields = unpacked(record)
    error = fields["error"]
    log = tuple(ClaimEntry(**entry) for entry in fields["claim_log"])
    failed = tuple(FailedStep(**with_error(entry)) for entry in fields["failed_steps"])
    fields |= {"status": Status(fields["status"]), "claim_log": log, "failed_steps": failed}
    return Workflow(**fields | {"error": error and ErrorRecord(**error)})


def to_attempt(fields: dict[str, Any]) -> Attempt:
    return Attempt(**with_error(fields))


def with_error(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"error": ErrorRecord(**fields["error"])}


def packed(value: Any) -> str:
    return json.dumps(_to_json(value))


def unpacked(text: str) -> Any:
    return _from_json(json.loads(text))


def _to_json(value: Any) -> Any:
    """What JSON lacks, and every dict, becomes an object whose one key names the type."""
    match value:
        case dict():
            return {"dict": {key: _to_json(item) for key, item in value.items()}}
        case list() | tuple():
            return [_to_json(item) for item in value]
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

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from bluestreak_core import (
    MAX_VALUE_BYTES,
    Attempt,
    Claim,
    ClaimRequest,
    Clock,
    CorruptDocument,
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
from bluestreak_core.adapter import (
    record_from_columns,
    record_to_columns,
    to_columns,
)
from bluestreak_core.concurrency import finish_despite_cancel
from bluestreak_core.machine import Change, Transition, change

T = TypeVar("T")
R = TypeVar("R", Workflow, Step, Nap, Attempt)
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

TABLES: dict[type, tuple[str, Sequence[str]]] = {
    Workflow: ("workflows", ["workflow_id"]),
    Step: ("steps", ["workflow_id", "step_id"]),
    Nap: ("naps", ["workflow_id", "nap_id"]),
    Attempt: ("attempts", ["workflow_id", "step_id", "round", "number"]),
}
"""The table of each kind of record, and its key. Each field has a column."""

STATE = ", ".join(
    field.name
    for field in fields(Workflow)
    if field.name not in ("input", "result")
)
"""A workflow without the columns that may be large."""


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
        self._clock = (
            clock or SystemClock()
        )  # the machine's, since all users are on it
        self._lock_timeout = lock_timeout
        self._rules = PlainRules()
        self._hints = Hints(self._clock)
        self._thread: ThreadPoolExecutor | None = None
        self._db: sqlite3.Connection  # the thread's, from `init` on
        self._unreadable: set[str] = set()

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
            self._thread.shutdown(wait=False)  # after what it was given before
            self._thread = None
            await closing

    # Starting and looking

    async def create(self, new: NewWorkflow) -> bool:
        (created,) = await self.create_many([new])
        return created

    async def create_many(self, new: Sequence[NewWorkflow]) -> list[bool]:
        workflows = []
        for each in new:
            value, _ = self._rules.round_trip(
                each.input, f"input of workflow {each.workflow_id!r}"
            )
            workflows.append(machine.create(replace(each, input=value)))

        def create(moved: list[Workflow]) -> list[bool]:
            created = [self._insert(workflow) for workflow in workflows]
            moved += [
                new
                for new, is_new in zip(workflows, created, strict=True)
                if is_new
            ]
            return created

        return await self._write(create)

    async def find_workflow(self, workflow_id: str) -> Workflow | None:
        return await self._in_thread(
            lambda: self._find(Workflow, workflow_id=workflow_id)
        )

    async def find_standing(self, workflow_id: str) -> Standing | None:
        workflow = await self.find_workflow(
            workflow_id
        )  # a local file: reading less gains nothing
        return None if workflow is None else workflow.standing

    async def find_step(self, workflow_id: str, step_id: str) -> Step | None:
        return await self._in_thread(
            lambda: self._find(Step, workflow_id=workflow_id, step_id=step_id)
        )

    async def find_nap(self, workflow_id: str, nap_id: str) -> Nap | None:
        return await self._in_thread(
            lambda: self._find(Nap, workflow_id=workflow_id, nap_id=nap_id)
        )

    # Claiming

    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        self._hints.looking(request.now)

        def claim(moved: list[Workflow]) -> list[Claim]:
            claims = []
            for workflow in self._due(request):
                crashed, token = workflow.status is Status.RUNNING, uuid4().hex
                claimed = change.claim(token, request, crashed=crashed)
                self._update(workflow, claimed, moved)
                claims.append(
                    Claim(token=token, workflow=claimed.apply(workflow))
                )
            return claims

        return await self._write(claim)

    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        ids = json.dumps([claim.workflow_id for claim in claims])
        ours = "workflow_id IN (SELECT value FROM json_each(?))"
        steps = await self._in_thread(lambda: self._select(Step, ours, ids))
        naps = await self._in_thread(lambda: self._select(Nap, ours, ids))
        attempts = await self._in_thread(
            lambda: self._select(Attempt, ours, ids)
        )
        histories = {claim.workflow_id: History() for claim in claims}
        for step in steps:
            histories[step.workflow_id].steps[step.step_id] = step.output
        for nap in naps:
            histories[nap.workflow_id].naps[nap.nap_id] = nap.wake_up_at
        for claim in claims:
            made = [
                attempt
                for attempt in attempts
                if attempt.workflow_id == claim.workflow_id
            ]
            latest = machine.latest_attempts(made, claim.workflow.retries)
            histories[claim.workflow_id].attempts.update(latest)
        return histories

    async def renew(
        self, claims: Sequence[Claim], now: datetime, lease: timedelta
    ) -> list[Claim]:
        renewal = change.renew(now, lease)

        def renew(moved: list[Workflow]) -> list[Claim]:
            return [
                claim
                for claim in claims
                if not self._update(
                    claim.workflow, renewal, moved, **machine.guard(claim)
                )
            ]

        return await self._write(renew)

    # Recording

    async def save_step(
        self, claim: Claim, step_id: str, output: Any, now: datetime
    ) -> Any:
        what = f"output of step {step_id!r} of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(output, what)
        step = Step(
            workflow_id=claim.workflow_id,
            step_id=step_id,
            output=value,
            saved_at=now,
        )
        return (await self._save(claim, step)).output

    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        nap = Nap(
            workflow_id=claim.workflow_id,
            nap_id=nap_id,
            wake_up_at=wake_up_at,
            saved_at=now,
        )
        return (await self._save(claim, nap)).wake_up_at

    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        return await self._save(claim, attempt)

    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        def fail_step(moved: list[Workflow]) -> None:
            workflow = self._find(
                Workflow, STATE, workflow_id=claim.workflow_id
            )
            if workflow is None or not machine.in_force(workflow, claim):
                raise machine.lost(workflow, claim)
            if all(
                failed.step_id != known.step_id
                for known in workflow.failed_steps
            ):
                self._update(workflow, change.fail_step(failed), moved)

        await self._write(fail_step)

    # Ending a claim

    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._end(claim, change.park(wake_up_at))

    async def release(self, claim: Claim, now: datetime) -> None:
        await self._end(claim, change.release(now))

    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        _, taken = self._rules.round_trip(claim.workflow.input, "input")
        what = f"result of workflow {claim.workflow_id!r}"
        value, _ = self._rules.round_trip(result, what, MAX_VALUE_BYTES - taken)
        await self._end(claim, change.finish(value, now))

    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await self._end(claim, change.fail(failure, now))

    # From outside

    async def control(
        self,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        def control(moved: list[Workflow]) -> Status:
            workflow = self._find(Workflow, STATE, workflow_id=workflow_id)
            if workflow is None:
                raise WorkflowNotFound(workflow_id)
            self._update(
                workflow,
                machine.control_change(workflow, event, now, reason),
                moved,
            )
            return workflow.status

        if await self._write(control) is Status.RUNNING:
            self._hints.controlled()

    # Hints: of this process at once, and of others a little later

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
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            for kind, (table, key) in TABLES.items():
                names = [field.name for field in fields(kind)]
                columns = f"{', '.join(names)}, PRIMARY KEY ({', '.join(key)})"
                db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
                known = {
                    row["name"]
                    for row in db.execute(f"PRAGMA table_info({table})")
                }
                for name in names:
                    # An earlier version may have created the table.
                    if name not in known:
                        db.execute(f"ALTER TABLE {table} ADD COLUMN {name}")
            db.execute(
                "CREATE INDEX IF NOT EXISTS due"
                " ON workflows (status, timeout_at)"
            )
        except BaseException:
            db.close()
            raise
        self._db = db

    def _select(
        self, kind: type[R], condition: str, *values: object, columns: str = "*"
    ) -> list[R]:
        query = f"SELECT {columns} FROM {TABLES[kind][0]} WHERE {condition}"
        return [
            record_from_columns(kind, dict(row))
            for row in self._db.execute(query, values)
        ]

    def _find(self, kind: type[R], columns: str = "*", **key: Any) -> R | None:
        found = self._select(
            kind, _condition(key), *key.values(), columns=columns
        )
        return found[0] if found else None

    def _due(self, request: ClaimRequest) -> list[Workflow]:
        """The due workflows. Those that cannot be read are skipped."""
        rows = self._db.execute(
            "SELECT * FROM workflows WHERE timeout_at <= ?"
            " AND status IN (SELECT value FROM json_each(?))"
            " AND (? OR handler_id IN (SELECT value FROM json_each(?)))"
            " ORDER BY timeout_at",
            (
                to_columns(Workflow, {"timeout_at": request.now})["timeout_at"],
                json.dumps(machine.sources(Transition.CLAIM)),
                request.handlers is None,
                json.dumps(list(request.handlers or ())),
            ),
        )
        due: list[Workflow] = []
        while len(due) < request.limit and (row := rows.fetchone()) is not None:
            try:
                due.append(record_from_columns(Workflow, dict(row)))
            except CorruptDocument as error:
                if row["workflow_id"] not in self._unreadable:
                    logger.error("%s; it is left alone", error)  # noqa: TRY400
                    self._unreadable.add(row["workflow_id"])
        return due

    def _insert(self, record: Workflow | Step | Nap | Attempt) -> bool:
        """Insert a record, unless its key exists."""
        columns = record_to_columns(record)
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        table, _ = TABLES[type(record)]
        insert = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})"
        return self._db.execute(insert, [*columns.values()]).rowcount == 1

    def _update(
        self,
        workflow: Workflow,
        moved_by: Change,
        moved: list[Workflow],
        **guard: Any,
    ) -> bool:
        """Carry out a change in one statement, unless the guard fails."""
        assignments, values = _assignments(moved_by)
        condition = to_columns(
            Workflow, {"workflow_id": workflow.workflow_id, **guard}
        )
        update = (
            f"UPDATE workflows SET {assignments} WHERE {_condition(condition)}"
        )
        if (
            self._db.execute(update, [*values, *condition.values()]).rowcount
            == 0
        ):
            return False
        moved.append(moved_by.apply(workflow))
        return True

    async def _save(self, claim: Claim, record: R) -> R:
        """Insert a record, unless its key exists; the record that is there."""
        _, names = TABLES[type(record)]
        key = {name: getattr(record, name) for name in names}

        def save(moved: list[Workflow]) -> R:
            workflow = self._find(
                Workflow, STATE, workflow_id=claim.workflow_id
            )
            if workflow is None or not machine.is_of(claim, workflow):
                raise machine.lost(None, claim)
            if self._insert(record) and workflow.crashes:
                self._update(
                    workflow, change.progress(), moved, **machine.guard(claim)
                )
            recorded = self._find(type(record), **key)
            assert recorded is not None
            return recorded

        return await self._write(save)

    async def _end(self, claim: Claim, ended: Change) -> None:
        def end(moved: list[Workflow]) -> None:
            if not self._update(
                claim.workflow, ended, moved, **machine.guard(claim)
            ):
                workflow = self._find(
                    Workflow, STATE, workflow_id=claim.workflow_id
                )
                if not machine.has_ended_by(workflow, claim, ended.event):
                    raise machine.lost(workflow, claim)

        await self._write(end)

    # Between the event loop and the thread

    async def _write(self, change: Callable[[list[Workflow]], T]) -> T:
        """Run one transaction, then report the workflows that it moved."""

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

        return await finish_despite_cancel(write())

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if self._thread is None:
            raise NotInitialised("an SQLiteStore")

        def translated() -> T:
            with store_errors():
                return call()

        return asyncio.get_running_loop().run_in_executor(
            self._thread, translated
        )


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise SQLite's errors as the Store protocol's."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        raise (StoreRefused if code in REFUSALS else StoreUnavailable)(
            str(error)
        ) from error


def _condition(names: Iterable[str]) -> str:
    return " AND ".join(f"{name} = ?" for name in names)


def _assignments(change: Change) -> tuple[str, list[object]]:
    """A change as the SET clause of an UPDATE, with its values."""
    assigned: list[str] = []
    values: list[object] = []

    def assign(expression: str, changed: Mapping[str, Any]) -> None:
        for name, value in to_columns(Workflow, changed).items():
            assigned.append(f"{name} = " + expression.format(name))
            values.append(value)

    late = change.not_before
    plain = {n: value for n, value in change.set.items() if n not in late}
    assign("?", plain)
    assign("?", dict.fromkeys(change.clear))
    assign("coalesce({0}, 0) + ?", change.add)
    assign("max({0}, ?)", change.at_least)
    assign(
        "(SELECT min(ifnull({0}, new), new) FROM (SELECT ? AS new))",
        change.at_most,
    )
    for name, other in late.items():
        assign(
            f"(SELECT max(new, ifnull({other}, new)) "
            f"FROM (SELECT coalesce(?, {{0}}, {other}) AS new))",
            {name: change.set.get(name)},
        )
    appended = "json_insert(ifnull({0}, '[]'), '$[#]', json_extract(?, '$[0]'))"
    if change.keep is not None:
        appended = f"json_remove({appended}, '$[#-{change.keep + 1}]')"
    assign(appended, {name: (entry,) for name, entry in change.append.items()})
    return ", ".join(assigned), values

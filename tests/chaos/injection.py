"""How each fault is injected, and healed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo.errors import PyMongoError

from tests.chaos.fleet import Fleet
from tests.chaos.replica_set import ReplicaSet
from tests.chaos.schedule import WORKERS, Fault, Kind
from tests.mongo.lossy_link import Passage

logger = logging.getLogger(__name__)

_CHANGES = ("insert", "update", "delete")
_WRITES = (*_CHANGES, "commitTransaction")
_COMMANDS = (*_WRITES, "find", "findAndModify", "getMore", "aggregate")
_LOST_ANSWERS = 3
_PASSING_CODES = (50, 91, 189, 10107, 11600)
"""MaxTimeMSExpired, ShutdownInProgress, PrimarySteppedDown, NotWritablePrimary and
InterruptedAtShutdown."""
_NOT_REPLICATED = {"code": 64, "errmsg": "waiting for replication timed out"}
_STEP_DOWN = {"replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 1, "force": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """A fault that was injected, and healed; `pid` is the worker that was hit, if one was."""

    kind: Kind
    began_at: datetime
    ended_at: datetime
    pid: int | None = None


class Injection:
    """Injects faults into a set and its workers."""

    def __init__(self, replica_set: ReplicaSet, fleet: Fleet) -> None:
        self.injected: list[Injected] = []
        self.missed = 0
        """Faults that found nothing to hit, since another fault was quicker."""
        self._set = replica_set
        self._fleet = fleet
        self._farewells: set[asyncio.Task[None]] = set()
        self._ways: Mapping[Kind, Callable[[Fault], Awaitable[int | None]]] = {
            Kind.WORKER_KILLED: self._kill_worker,
            Kind.WORKER_HALTED: self._halt_worker,
            Kind.WORKER_STOPPED: self._stop_worker,
            Kind.LOOP_BLOCKED: self._block_loop,
            Kind.PRIMARY_KILLED: self._kill_primary,
            Kind.PRIMARY_STEPPED_DOWN: self._step_down,
            Kind.PRIMARY_HALTED: self._halt_primary,
            Kind.PRIMARY_CUT_OFF: self._cut_off,
            Kind.PRIMARY_UNHEARD: self._silence,
            Kind.SET_SPLIT: self._split,
            Kind.CONNECTIONS_DROPPED: self._drop,
            Kind.CONNECTIONS_FROZEN: self._freeze,
            Kind.ANSWERS_LOST: self._lose_answers,
            Kind.COMMANDS_FAILED: self._fail_commands,
            Kind.CONNECTIONS_CLOSED: self._close_connections,
            Kind.WRITES_UNCONFIRMED: self._leave_unconfirmed,
        }

    async def follow(self, track: Sequence[Fault], seconds: float) -> None:
        """Inject faults when they are due, or later where one takes longer to heal.

        Those that are left when so many seconds have passed are not injected.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        for fault in track:
            await asyncio.sleep(began + fault.at - loop.time())
            if fault.kind not in WORKERS:
                await self._set.primary()  # if there is none, nobody would notice
            if loop.time() - began > seconds:
                return
            began_at = datetime.now(UTC)
            try:
                pid = await self._ways[fault.kind](fault)
            except PyMongoError:  # the primary was killed or replaced just now
                self.missed += 1
                continue
            ended_at = datetime.now(UTC)
            self.injected.append(
                Injected(kind=fault.kind, began_at=began_at, ended_at=ended_at, pid=pid)
            )
            logger.info("%s, from %s, worker %s", fault.kind, began_at, pid)

    async def end(self) -> None:
        """Return when each worker that was told to stop has done so."""
        await asyncio.gather(*self._farewells)

    # Workers -------------------------------------------------------------------------------------

    async def _kill_worker(self, fault: Fault) -> int:
        worker = await self._fleet.pick(fault.choice)
        await self._fleet.replace(worker, signal.SIGKILL)
        return worker.pid

    async def _halt_worker(self, fault: Fault) -> int:
        worker = await self._fleet.pick(fault.choice)
        with _halted(worker.pid):
            await asyncio.sleep(fault.lasting)
        return worker.pid

    async def _stop_worker(self, fault: Fault) -> int:
        worker = await self._fleet.pick(fault.choice)
        farewell = asyncio.create_task(self._fleet.replace(worker, signal.SIGTERM))
        self._farewells.add(farewell)
        return worker.pid

    async def _block_loop(self, fault: Fault) -> int:
        worker = await self._fleet.pick(fault.choice)
        worker.send(signal.SIGUSR1)
        return worker.pid

    # Servers -------------------------------------------------------------------------------------

    async def _kill_primary(self, fault: Fault) -> None:
        primary = await self._set.primary()
        await self._set.kill(primary)
        try:
            await asyncio.sleep(fault.lasting)
        finally:
            await self._set.restart(primary)

    async def _step_down(self, fault: Fault) -> None:
        await self._set.command(await self._set.primary(), _STEP_DOWN)

    async def _halt_primary(self, fault: Fault) -> None:
        with _halted((await self._set.primary()).pid):
            await asyncio.sleep(fault.lasting)

    async def _cut_off(self, fault: Fault) -> None:
        primary = await self._set.primary()
        with self._set.partitioned([primary.pid], Passage.CUT):
            await asyncio.sleep(fault.lasting)

    async def _silence(self, fault: Fault) -> None:
        primary = await self._set.primary()
        with self._set.partitioned([primary.pid], Passage.FROZEN):
            await asyncio.sleep(fault.lasting)

    async def _split(self, fault: Fault) -> int:
        primary = await self._set.primary()
        worker = await self._fleet.pick(fault.choice)
        with self._set.partitioned([primary.pid, worker.pid], Passage.CUT):
            await asyncio.sleep(fault.lasting)
        return worker.pid

    # Connections and commands --------------------------------------------------------------------

    async def _drop(self, fault: Fault) -> None:
        self._set.link_to(await self._set.primary()).drop()

    async def _freeze(self, fault: Fault) -> int:
        primary = await self._set.primary()
        worker = await self._fleet.pick(fault.choice)
        self._set.link_to(primary).freeze(worker.pid)
        return worker.pid

    async def _lose_answers(self, fault: Fault) -> None:
        self._set.link_to(await self._set.primary()).lose(*_CHANGES, times=_LOST_ANSWERS)

    async def _fail_commands(self, fault: Fault) -> None:
        code = _PASSING_CODES[int(fault.choice * len(_PASSING_CODES))]
        await self._fail(fault, _COMMANDS, errorCode=code)

    async def _close_connections(self, fault: Fault) -> None:
        await self._fail(fault, _COMMANDS, closeConnection=True)

    async def _leave_unconfirmed(self, fault: Fault) -> None:
        await self._fail(fault, _WRITES, writeConcernError=_NOT_REPLICATED)

    async def _fail(self, fault: Fault, commands: Sequence[str], **how: object) -> None:
        async with self._set.failing(await self._set.primary(), commands, **how):
            await asyncio.sleep(fault.lasting)


@contextmanager
def _halted(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)

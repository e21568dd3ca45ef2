"""Demo: kill a worker in the middle of a step, and watch another one finish.

    python docs/examples/demo.py

The demo starts a MongoDB server. To use yours, set BLUESTREAK_MONGODB_URL: the
demo creates a database on it and drops that at the end. The workflow is the one
of onboarding.py, with a shorter day. Each worker is a separate process,
`demo.py worker DATABASE`.
"""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any
from uuid import uuid4

import onboarding
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from bluestreak_core import (
    Bluestreak,
    BluestreakError,
    ClaimEntry,
    Nap,
    Step,
    Workflow,
)
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import NAPS, STEPS, WORKFLOWS
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.nap import to_nap
from bluestreak_mongo.schema.step import to_step

URL = "BLUESTREAK_MONGODB_URL"
WORKFLOW_ID = "user-123"

STEP = 0.8  # all in seconds
DAY = 3
LEASE = 2.5
PATIENCE = 5
TIME_LIMIT = 60

CREATE = "create a user for ada@example.org"
WELCOME = "send 'Welcome!' to ada@example.org"
FOLLOW_UP = "send 'How is it going?' to ada@example.org"
PROMISED_CALLS = {CREATE: 1, WELCOME: 2, FOLLOW_UP: 1}
PROMISED_RESULT = {"user_id": "user-ada", "status": "completed"}

BEGAN = time.monotonic()


class BrokenPromise(Exception):
    """Bluestreak did not do what it promises."""


# The show ---------------------------------------------------------------------


async def demonstrate() -> None:
    clean_up_at_ctrl_c()
    async with (
        asyncio.timeout(TIME_LIMIT),
        new_database() as (url, database),
        Bluestreak(MongoStore.from_database(database)) as bluestreak,
    ):
        created = elapsed()
        sign_up = onboarding.SignUp(email="ada@example.org", name="Ada")
        await bluestreak.start(WORKFLOW_ID, "send-welcome-email", sign_up)
        tell(
            "the workflow is stored: "
            f"two steps, a nap of {DAY} s, and a third step"
        )
        calls: Counter[str] = Counter()
        await run_and_crash(bluestreak, url, database.name, calls)
        record = await read_back(bluestreak, database)
        show(record, created, calls)
        if broken := broken_promises(record, calls):
            raise BrokenPromise("; ".join(broken))
        print("\nAll as promised.")


async def run_and_crash(
    bluestreak: Bluestreak, url: str, database: str, calls: Counter[str]
) -> None:
    async with worker("worker 1", url, database, calls) as first:
        await first.heard(WELCOME)
        await asyncio.sleep(STEP / 2)
        await first.end(signal.SIGKILL)
        tell("worker 1 is killed by SIGKILL in the middle of this step")
    async with worker("worker 2", url, database, calls) as second:
        tell(
            "worker 2 may take over when the lease of worker 1 ends, "
            f"{LEASE} s at most"
        )
        await second.heard(WELCOME)
        tell("worker 2 has taken over")
        # Another process records the nap, so there is no event to wait for.
        find_nap = bluestreak.find_nap
        while await find_nap(WORKFLOW_ID, "wait-day") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        tell(
            "its nap is recorded, "
            "and the workflow leaves the memory of worker 2"
        )
        await second.heard(FOLLOW_UP)
        result = await bluestreak.wait(WORKFLOW_ID, pause_interval=0.1)
        tell(f"the workflow is finished: {result}")
        if (exit_code := await second.end(signal.SIGTERM)) != 0:
            raise BrokenPromise(f"worker 2 exited with {exit_code}")
        tell("worker 2 has stopped, asked by SIGTERM")


def tell(text: str) -> None:
    print(f"{elapsed():5.1f} s  {text}", flush=True)


def elapsed() -> float:
    return time.monotonic() - BEGAN


# The records in the database --------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The workflow, as the three collections store it."""

    workflow: Workflow
    steps: list[Step]
    naps: list[Nap]


async def read_back(
    bluestreak: Bluestreak, database: AsyncDatabase[dict[str, Any]]
) -> Record:
    workflow = await bluestreak.find_workflow(WORKFLOW_ID)
    assert workflow is not None
    key = {wf.WORKFLOW_ID: WORKFLOW_ID}
    return Record(
        workflow=workflow,
        steps=[to_step(found) async for found in database[STEPS].find(key)],
        naps=[to_nap(found) async for found in database[NAPS].find(key)],
    )


def show(record: Record, created: float, calls: Mapping[str, int]) -> None:
    print(f"\nWhat is recorded in {WORKFLOWS}, {STEPS} and {NAPS}:\n")
    (created_at, _), *_ = timeline = events(record)
    for at, event in timeline:
        print(f"{created + (at - created_at).total_seconds():5.1f} s  {event}")
    print("\nHow often each step was called:\n")
    for call, count in calls.items():
        print(f"{count:5} x  {call}")


def events(record: Record) -> list[tuple[datetime, str]]:
    workflow = record.workflow
    dated = [
        (workflow.created_at, "workflow created"),
        *(
            (step.saved_at, f"step {step.step_id}: {step.output!r}")
            for step in record.steps
        ),
        *((nap.saved_at, f"nap {nap.nap_id} begins") for nap in record.naps),
        *((nap.wake_up_at, f"nap {nap.nap_id} ends") for nap in record.naps),
        *(
            (
                claim.claimed_at,
                f"claim {number}{after_crash(claim)} by {claim.worker}",
            )
            for number, claim in enumerate(workflow.claim_log, start=1)
        ),
        (workflow.finished_at, f"workflow finished: {workflow.result}"),
    ]
    return sorted(
        [(at, what) for at, what in dated if at is not None], key=itemgetter(0)
    )


def after_crash(claim: ClaimEntry) -> str:
    return ", after a crash," if claim.after_crash else ""


def broken_promises(record: Record, calls: Mapping[str, int]) -> list[str]:
    workflow = record.workflow
    saved_at = {step.step_id: step.saved_at for step in record.steps}
    last_at = saved_at.get("send-followup")
    crashes = [claim.after_crash for claim in workflow.claim_log]
    checks = [
        (calls == PROMISED_CALLS, f"the calls were {dict(calls)}"),
        (
            workflow.result == PROMISED_RESULT,
            f"the result is {workflow.result}",
        ),
        (
            len(saved_at) == len(record.steps) == 3,
            f"the recorded steps are {list(saved_at)}",
        ),
        (
            crashes == [False, True, False],
            f"the claims are {workflow.claim_log}",
        ),
        (
            last_at
            and [nap.wake_up_at <= last_at for nap in record.naps] == [True],
            f"the last step is of {last_at}, the naps are {record.naps}",
        ),
    ]
    return [what for kept, what in checks if not kept]


# The processes ----------------------------------------------------------------


class Worker:
    """A process that runs workflows, and prints a line for each step."""

    def __init__(
        self, name: str, process: Process, calls: Counter[str]
    ) -> None:
        self._name = name
        self._process = process
        self._calls = calls

    async def heard(self, awaited: str) -> None:
        """Show and count the calls of steps, until the awaited one."""
        async for call in self._announced():
            if call == awaited:
                return
        raise BrokenPromise(f"{self._name} ended before it came to: {awaited}")

    async def end(self, number: signal.Signals) -> int:
        """Send a signal, and return the exit code of the process."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        async for _ in self._announced():
            pass
        return await self._process.wait()

    async def _announced(self) -> AsyncIterator[str]:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            call = line.decode().strip()
            self._calls[call] += 1
            tell(f"{self._name}: {call}")
            yield call


@asynccontextmanager
async def worker(
    name: str, url: str, database: str, calls: Counter[str]
) -> AsyncIterator[Worker]:
    """Start a worker process, and end it at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", __file__, "worker", database),
        env=os.environ | {URL: url},
        stdin=DEVNULL,
        stdout=PIPE,
        # Ctrl-C reaches this process only, which then ends its workers.
        start_new_session=True,
    )
    try:
        tell(f"{name} is started, process {process.pid}")
        yield Worker(name, process, calls)
    finally:
        await end(process)


async def end(process: Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            with suppress(ProcessLookupError, TimeoutError):
                process.send_signal(number)
                await asyncio.wait_for(process.wait(), PATIENCE)


async def work(url: str, database: str) -> None:
    """Run workflows in a worker process, until SIGTERM."""
    demo = os.getppid()
    bluestreak = Bluestreak(
        MongoStore(url, database=database),
        timeout_interval=LEASE,
        poll_interval=0.2,
        park_after=1,
        drain_timeout=1,
        should_stop=lambda: (
            os.getppid() != demo
        ),  # if the demo is killed, it sends no SIGTERM
    )
    onboarding.register(
        bluestreak,
        onboarding.Services(latency=STEP),
        day=timedelta(seconds=DAY),
    )
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, bluestreak.stop
    )
    async with bluestreak:
        await bluestreak.poll()


@asynccontextmanager
async def new_database() -> AsyncIterator[
    tuple[str, AsyncDatabase[dict[str, Any]]]
]:
    """Yield the URL of a server and a new database; drop that at the end."""
    async with AsyncExitStack() as stack:
        url = os.environ.get(URL)
        if url is None:
            tell("starting a MongoDB server")
            url = (await stack.enter_async_context(LocalMongo())).url
        client = AsyncMongoClient[dict[str, Any]](url, tz_aware=True)
        await stack.enter_async_context(client)
        await client.admin.command("ping")
        name = f"bluestreak_demo_{uuid4().hex[:8]}"
        stack.push_async_callback(client.drop_database, name)
        yield url, client[name]


def clean_up_at_ctrl_c() -> None:
    """Cancel this task at the first Ctrl-C; a second one interrupts nothing."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel() -> None:
        loop.add_signal_handler(signal.SIGINT, tell, "still cleaning up")
        tell("cleaning up")
        task.cancel()

    loop.add_signal_handler(signal.SIGINT, cancel)


def main() -> int:
    try:
        match sys.argv[1:]:
            case ["worker", database]:
                asyncio.run(work(os.environ[URL], database))
            case _:
                asyncio.run(demonstrate())
    except (KeyboardInterrupt, asyncio.CancelledError):
        tell("interrupted, and nothing is left")
        return 130
    except TimeoutError:
        print(
            f"the demo failed: it took more than {TIME_LIMIT} s",
            file=sys.stderr,
        )
        return 1
    except (BrokenPromise, BluestreakError, PyMongoError) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

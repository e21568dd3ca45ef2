"""Real processes on a real server: killed, stopped, and told to end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from bluestreak_core import Bluestreak, Resolution, Status, Workflow, WorkflowAborted
from bluestreak_mongo import MongoStore

pytestmark = pytest.mark.usefixtures("unmeasured")

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds
LONG = 3600
"""A lease that does not run out, however busy the machine is."""


def eventually(description: str, condition: Callable[[], Any], patience: float = PATIENCE) -> None:
    """The one place that sleeps: for processes, which no clock of ours moves."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience} s in vain until {description}"
        time.sleep(0.02)


class Worker:
    """A process that runs `program.py`."""

    def __init__(self, site: Site, options: dict[str, Any]) -> None:
        self.output = site.folder / f"{uuid4().hex}.txt"
        command = [sys.executable, "-m", "tests.process.program", site.url, site.name]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, json.dumps(options)], cwd=ROOT, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def says(self, text: str) -> bool:
        return text in self.output.read_text()

    def until(self, text: str) -> None:
        eventually(f"the worker says {text!r}", lambda: self.says(text) or not self.is_running())
        assert self.says(text), self.output.read_text()

    def is_running(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, number: signal.Signals) -> int:
        self.send(number)
        return self.process.wait(PATIENCE)

    def clean_up(self) -> None:
        if self.is_running():
            self.process.kill()
        self.process.wait()


class Site:
    """A database of its own, with the processes that work on it."""

    def __init__(self, url: str, database: Database[dict[str, Any]], folder: Path) -> None:
        self.url = url
        self.database = database
        self.name = database.name
        self.folder = folder
        self._workers = ExitStack()

    def worker(self, **options: Any) -> Worker:
        worker = Worker(self, {"poll_interval": 0.05, **options})
        self._workers.callback(worker.clean_up)
        return worker

    def clean_up(self) -> None:
        self._workers.close()

    def start(self, *workflow_ids: str, handler_id: str = "steps") -> None:
        async def start(bluestreak: Bluestreak) -> None:
            for workflow_id in workflow_ids:
                assert await bluestreak.start(workflow_id, handler_id)

        self._ask(start)

    def wait(self, workflow_id: str) -> Any:
        async def wait(bluestreak: Bluestreak) -> Any:
            return await bluestreak.wait(workflow_id, retries=300, pause_interval=0.1)

        return self._ask(wait)

    def resolve(self, token: str, payload: str) -> Resolution:
        async def resolve(bluestreak: Bluestreak) -> Resolution:
            return await bluestreak.resolve(token, payload)

        resolution: Resolution = self._ask(resolve)
        return resolution

    def tokens(self) -> list[str]:
        """What was handed over for callbacks, in order."""
        return [each["token"] for each in self.database.tokens.find(sort=[("_id", 1)])]

    def find(self, workflow_id: str) -> Workflow:
        async def find(bluestreak: Bluestreak) -> Workflow | None:
            return await bluestreak.find_workflow(workflow_id)

        workflow: Workflow = self._ask(find)
        return workflow

    def calls(self) -> Counter[str]:
        """How often each step was called."""
        return Counter(effect["step"] for effect in self.database.effects.find())

    def count(self, status: str) -> int:
        """How many workflows are in a state."""
        return self.database.workflows.count_documents({"status": status})

    def documents(self) -> list[Any]:
        """All that Bluestreak has stored."""
        names = ("workflows", "steps", "naps")
        return [list(self.database[name].find(sort=[("_id", 1)])) for name in names]

    def _ask(self, question: Callable[[Bluestreak], Any]) -> Any:
        async def ask() -> Any:
            async with Bluestreak(MongoStore(self.url, database=self.name)) as bluestreak:
                return await question(bluestreak)

        return asyncio.run(ask())


@pytest.fixture
def site(mongodb_url: str, mongodb: MongoClient[dict[str, Any]], tmp_path: Path) -> Iterator[Site]:
    name = f"test-{uuid4().hex[:12]}"
    site = Site(mongodb_url, mongodb[name], tmp_path)
    yield site
    site.clean_up()
    mongodb.drop_database(name)


def test_a_token_of_a_killed_worker_is_answered(site: Site) -> None:
    """Killed as soon as it has handed one over, and its successor while it waits."""
    first = site.worker(timeout_interval=1, linger_in="hand over")
    site.start("w", handler_id="callback")
    first.until("in hand over")
    first.end(signal.SIGKILL)
    second = site.worker(timeout_interval=1)
    handed_over = {"stepId": "approve/hand-over/1"}
    eventually("it waits", lambda: site.database.steps.count_documents(handed_over))
    second.end(signal.SIGKILL)
    site.worker(timeout_interval=1)
    given, again = site.tokens()
    assert site.resolve(given, "yes") == Resolution(is_first=True, payload="yes")
    assert site.wait("w") == "yes"
    assert site.resolve(again, "no") == Resolution(is_first=False, payload="yes")


def test_a_killed_workers_recorded_steps_are_never_called_again(site: Site) -> None:
    first = site.worker(timeout_interval=1, linger_in="b")
    site.start("w")
    first.until("in b")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = site.worker(timeout_interval=LONG)
    assert site.wait("w") == [first.pid, second.pid, second.pid]
    assert site.calls() == {"a": 1, "b": 2, "c": 1}
    workflow = site.find("w")
    assert [entry.after_crash for entry in workflow.claim_log] == [False, True]
    assert (workflow.status, workflow.claims, workflow.crashes) == (Status.FINISHED, 2, 0)


def test_branches_that_a_killed_worker_has_recorded_are_never_called_again(site: Site) -> None:
    first = site.worker(timeout_interval=1, linger_in="b")
    site.start("w", handler_id="branches")
    first.until("in b")
    eventually("the others are recorded", lambda: site.database.steps.count_documents({}) == 2)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = site.worker(timeout_interval=LONG)
    assert site.wait("w") == [first.pid, second.pid, first.pid]
    assert site.calls() == {"a": 1, "b": 2, "c": 1}


def test_a_call_that_a_killed_worker_has_begun_is_not_repeated(site: Site) -> None:
    first = site.worker(timeout_interval=1, linger_in="b")
    site.start("w", handler_id="once")
    first.until("in b")
    eventually("the others are recorded", lambda: site.database.steps.count_documents({}) == 4)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    site.worker(timeout_interval=LONG)
    assert site.wait("w") == ["a called", "b interrupted", "c called"]
    assert site.calls() == {"a": 1, "b": 1, "c": 1}


def test_a_worker_told_to_end_hands_its_work_back_at_once(site: Site) -> None:
    first = site.worker(timeout_interval=LONG, drain_timeout=0, linger_in="b")
    site.start("w")
    first.until("in b")
    assert first.end(signal.SIGTERM) == 0
    handed_back = site.find("w")
    assert (handed_back.status, handed_back.crashes) == (Status.IDLE, 0)
    second = site.worker(timeout_interval=LONG)
    assert site.wait("w") == [first.pid, second.pid, second.pid]
    assert [entry.after_crash for entry in site.find("w").claim_log] == [False, False]


def test_a_worker_halted_for_longer_than_its_lease_writes_nothing_more(site: Site) -> None:
    options = {"drain_timeout": 0, "linger_in": "b", "linger": 0.5}
    first = site.worker(timeout_interval=1, renewal_url=site.url, **options)
    site.start("w")
    first.until("in b")
    first.send(signal.SIGSTOP)
    second = site.worker(timeout_interval=LONG)
    assert site.wait("w") == [first.pid, second.pid, second.pid]
    second.end(signal.SIGTERM)
    before = site.documents()
    first.send(signal.SIGCONT)
    first.until("wrote nothing more")
    assert first.end(signal.SIGTERM) == 0
    assert site.documents() == before


def test_a_worker_whose_loop_is_blocked_for_three_leases_keeps_its_claim(site: Site) -> None:
    blocking = {"linger_in": "b", "linger": 6, "block": True}
    first = site.worker(timeout_interval=2, renewal_url=site.url, **blocking)
    site.start("w")
    first.until("in b")
    second = site.worker(timeout_interval=LONG)
    second.until("ready")
    assert site.wait("w") == [first.pid] * 3
    assert site.calls() == {"a": 1, "b": 1, "c": 1}
    workflow = site.find("w")
    assert (workflow.status, workflow.claims, workflow.crashes) == (Status.FINISHED, 1, 0)
    assert {worker.end(signal.SIGTERM) for worker in (first, second)} == {0}
    culprit = r" for \d+\.\d s by step 'b' of workflow 'w', in .*effect at .*program\.py:\d+"
    for warning in ("has been blocked", "was blocked"):
        assert re.search(f": the event loop {warning}{culprit}", first.output.read_text())


def test_a_worker_whose_loop_is_blocked_without_a_url_to_renew_by_loses_its_claim(
    site: Site,
) -> None:
    second = site.worker(timeout_interval=LONG)
    second.until("ready")
    second.send(signal.SIGSTOP)  # it is there when the lease ends, and does not claim before
    first = site.worker(timeout_interval=1, linger_in="b", linger=4, block=True)
    site.start("w")
    first.until("in b")
    second.send(signal.SIGCONT)
    assert site.wait("w") == [first.pid, second.pid, second.pid]
    assert [entry.after_crash for entry in site.find("w").claim_log] == [False, True]
    first.until("wrote nothing more")
    assert first.says("leases are not renewed while the event loop is blocked: StoreRefused")


def test_workers_side_by_side_call_each_step_once(site: Site) -> None:
    workflow_ids = [f"w{number}" for number in range(200)]
    workers = [site.worker(max_concurrency=20) for _ in range(4)]
    for worker in workers:
        worker.until("ready")
    site.start(*workflow_ids)
    eventually("all have finished", lambda: site.count("finished") == 200)
    assert site.calls() == {"a": 200, "b": 200, "c": 200}
    assert site.database.workflows.distinct("claims") == [1]
    assert {worker.end(signal.SIGTERM) for worker in workers} == {0}


def test_a_workflow_that_kills_its_workers_is_given_up_while_a_thousand_beside_it_finish(
    site: Site,
) -> None:
    options = {"timeout_interval": 2, "max_crashes": 4}
    site.start("deadly", handler_id="deadly")
    site.start(*[f"healthy {number}" for number in range(1000)])
    worker, deaths = site.worker(**options), 0

    def all_have_ended() -> bool:
        nonlocal worker, deaths
        if not worker.is_running():
            assert worker.process.returncode == -signal.SIGKILL
            worker, deaths = site.worker(**options), deaths + 1
        return site.count("finished") + site.count("aborted") == 1001

    eventually("all have ended", all_have_ended, patience=3 * PATIENCE)
    assert (site.count("finished"), deaths) == (1000, 5)
    with pytest.raises(WorkflowAborted, match="5 leases in a row expired without progress"):
        site.wait("deadly")

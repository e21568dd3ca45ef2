"""Processes that are killed one after the other while they work, and what campaigns share."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self
from uuid import uuid4

from pymongo import MongoClient
from pymongo.database import Database

from bluestreak_mongo import LocalMongo

ROOT = Path(__file__).parents[2]
_LOOK_AGAIN = 0.05  # seconds


class Audit(Protocol):
    """What a campaign has found."""

    @property
    def is_clean(self) -> bool: ...


class Fleet:
    """One process for each command; each is killed after a while, and replaced.

    Use it as `with Fleet(...) as fleet:`, which kills all of them at its end.

    `pauses` are the shortest and the longest time between two kills, and `patience` is how long the
    fleet is waited for; all in seconds.
    """

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        rng: random.Random,
        *,
        pauses: tuple[float, float],
        patience: float,
    ) -> None:
        self.kills = 0
        self._commands = commands
        self._rng = rng
        self._pauses = pauses
        self._began = time.monotonic()
        self._patience = patience
        self._processes = [self._spawn(command) for command in commands]

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return time.monotonic() - self._began

    def run_until(self, is_over: Callable[[], bool]) -> None:
        """Kill one after the other until something holds, or patience has run out."""
        while self.seconds < self._patience:
            next_kill = self.seconds + self._rng.uniform(*self._pauses)
            while self.seconds < next_kill:
                if is_over():
                    return
                time.sleep(_LOOK_AGAIN)
            self.kill_one()

    def kill_one(self) -> None:
        """Kill the first one, and later any of them, and replace it."""
        victim = self._rng.randrange(len(self._processes)) if self.kills else 0
        self.kills += self._processes[victim].poll() is None
        self._kill(victim)
        self._processes[victim] = self._spawn(self._commands[victim])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number in range(len(self._processes)):
            self._kill(number)

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)

    def _kill(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number].wait()


@contextmanager
def new_database(url: str, name: str) -> Iterator[Database[dict[str, Any]]]:
    """A database for one campaign, which is dropped after the block."""
    client: MongoClient[dict[str, Any]] = MongoClient(url)
    database = client[f"{name}-{uuid4().hex[:8]}"]
    with client:
        try:
            yield database
        finally:
            client.drop_database(database.name)


def unfinished(database: Database[dict[str, Any]]) -> int:
    """How many workflows have not finished."""
    return database.workflows.count_documents({"status": {"$ne": "finished"}})


def run_campaign(
    description: str | None, campaign: Callable[[str, int, int, int], Audit], *, workflows: int
) -> None:
    """Run a campaign by the arguments of the command line; exit with 1 if it is not clean."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workflows", type=int, default=workflows)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with LocalMongo() as server:
        audit = campaign(server.url, options.workflows, options.workers, options.seed)
    sys.stdout.write(f"{audit}\n")
    sys.exit(0 if audit.is_clean else 1)

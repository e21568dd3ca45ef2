"""What a workflow costs that uses none of what has come since an earlier commit.

That commit is checked out beside this one. A process of each runs the workflows of the throughput
benchmark, in turns; both begin by a round that does not count.

On a shared machine neither rates nor processor time show a difference of a few per cent. So the
number of instructions that a workflow takes decides. Valgrind counts it: it is the same from run to
run within half a per cent, whatever else runs.

`python -m benchmarks.unused URL WORKFLOWS` is what is counted.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import child, specimen, throughput
from benchmarks.child import ROOT, Child
from benchmarks.report import NONE, Bound, Integrity, Table, Target
from benchmarks.rounds import Spread, interleaved
from benchmarks.workload import HANDLER_ID, STEPS, Ledger, polling
from bluestreak_core import Bluestreak
from bluestreak_memory import MemoryStore
from bluestreak_mongo import LocalMongo

BEFORE = "7cac7cf"
"""The last commit before there were messages, structure, children and compensation."""

CONCURRENCY = 100

VALGRIND = (
    *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
    *(sys.executable, "-m", "benchmarks.unused"),
)
_COUNT = re.compile(rb"Collected : (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    rounds: int
    on_mongo: int
    in_memory: int
    counts: int
    few: int
    many: int


FULL = Size(rounds=21, on_mongo=2_000, in_memory=4_000, counts=3, few=200, many=1_200)
QUICK = Size(rounds=1, on_mongo=20, in_memory=20, counts=0, few=0, many=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """One figure a round of each side, measured in turns."""

    now: tuple[float, ...]
    before: tuple[float, ...]

    @property
    def ratio(self) -> Spread:
        return Spread.of_ratios(self.now, self.before)

    @property
    def of_medians(self) -> float:
        return Spread.of(self.now).median / Spread.of(self.before).median


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """Steps a second, steps per second of processor time, and instructions a workflow.

    Instructions are only counted where Valgrind is installed, and never in a quick run.
    """

    instructions: Sides | None
    rate: Sides
    per_cpu_second: Sides
    per_cpu_second_in_memory: Sides
    integrity: Integrity = NONE

    def tables(self) -> Sequence[Table]:
        sides = {
            f"steps a second on MongoDB, concurrency {CONCURRENCY}": self.rate,
            "steps per processor second, on MongoDB": self.per_cpu_second,
            "steps per processor second, in memory": self.per_cpu_second_in_memory,
        }
        if self.instructions is not None:
            sides = {"instructions a workflow, on MongoDB": self.instructions} | sides
        return [
            Table(
                title=f"A workflow that uses nothing new, against commit {BEFORE}",
                columns=("", "now", "before", "ratio of a round", "ratio of medians"),
                rows=tuple(_row(what, side) for what, side in sides.items()),
            )
        ]

    def targets(self) -> Sequence[Target]:
        if self.instructions is None:
            return []
        return [
            Target(
                what="instructions of a workflow without what is new, against the commit before it",
                bound=Bound.AT_MOST,
                figure=1.01,
                reached=self.instructions.of_medians,
                unit="times",
            )
        ]


async def measure(*, quick: bool) -> Unused:
    size = QUICK if quick else FULL
    # To see that it works, this tree will do on both sides.
    with LocalMongo() as server, nullcontext(ROOT) if quick else _checked_out(BEFORE) as tree:
        async with AsyncExitStack() as stack:
            now, before = [
                await stack.enter_async_context(_side(root, server.url, size))
                for root in (ROOT, tree)
            ]
            measured = await interleaved(size.rounds, {"now": now, "before": before})
        # After the rounds, so that both trees are compiled.
        instructions = await _instructions(tree, server.url, size)

    def sides(figure: str) -> Sides:
        return Sides(
            now=tuple(measurement[figure] for measurement in measured["now"]),
            before=tuple(measurement[figure] for measurement in measured["before"]),
        )

    both = [*measured["now"], *measured["before"]]
    return Unused(
        instructions=instructions,
        rate=sides("rate"),
        per_cpu_second=sides("per_cpu_second"),
        per_cpu_second_in_memory=sides("per_cpu_second_in_memory"),
        integrity=Integrity(
            lost_writes=sum(measurement["lost_writes"] for measurement in both),
            double_claims=sum(measurement["double_claims"] for measurement in both),
        ),
    )


async def worker(url: str, on_mongo: int, in_memory: int) -> AsyncGenerator[dict[str, float], None]:
    """A round at each question, of whatever Bluestreak is in this process's tree."""
    specimens = await specimen.collect(url)
    while True:
        gc.collect()  # what earlier rounds have left is not this one's
        began = time.process_time()
        measured = await throughput.run_bluestreak(url, specimens, on_mongo, CONCURRENCY)
        seconds = time.process_time() - began
        yield {
            "rate": measured.rate,
            "per_cpu_second": on_mongo * STEPS / seconds,
            "per_cpu_second_in_memory": await _in_memory(in_memory),
            "lost_writes": measured.integrity.lost_writes,
            "double_claims": measured.integrity.double_claims,
        }


async def _in_memory(workflows: int) -> float:
    store = MemoryStore()
    ledger = Ledger(workflows)
    bluestreak = Bluestreak(store, max_concurrency=CONCURRENCY)
    bluestreak.register_handler(HANDLER_ID, ledger.handle)
    await bluestreak.init()
    for number in range(workflows):
        await bluestreak.start(specimen.workflow_id(number), HANDLER_ID, {"order": number})
    gc.collect()
    began = time.process_time()
    async with asyncio.timeout(throughput.PATIENCE), polling(bluestreak):
        await ledger.all_returned.wait()
    return workflows * STEPS / (time.process_time() - began)


async def _instructions(tree: Path, url: str, size: Size) -> Sides | None:
    """How many of them one more workflow takes, here and in another tree."""
    if size.counts == 0 or shutil.which(VALGRIND[0]) is None:
        return None

    async def of(root: Path) -> float:
        few, many = [await _count(root, url, workflows) for workflows in (size.few, size.many)]
        return (many - few) / (size.many - size.few)

    now, before = [], []
    for _ in range(size.counts):  # side by side: counting takes the same whatever else runs
        counts = await asyncio.gather(of(ROOT), of(tree))
        now.append(counts[0])
        before.append(counts[1])
    return Sides(now=tuple(now), before=tuple(before))


async def _count(root: Path, url: str, workflows: int) -> int:
    """The instructions of a process that runs so many workflows."""
    process = await asyncio.create_subprocess_exec(
        *(*VALGRIND, url, str(workflows)),
        cwd=root,
        env=os.environ | {"PYTHONHASHSEED": "0"},
        stderr=PIPE,
    )
    _, log = await process.communicate()
    counted = _COUNT.search(log)
    if process.returncode != 0 or counted is None:
        raise ChildProcessError(f"{VALGRIND[0]} could not count:\n{log.decode(errors='replace')}")
    return int(counted[1])


async def _run(url: str, workflows: int) -> None:
    specimens = await specimen.collect(url)
    await throughput.run_bluestreak(url, specimens, workflows, CONCURRENCY)


@asynccontextmanager
async def _side(
    root: Path, url: str, size: Size
) -> AsyncIterator[Callable[[], Awaitable[dict[str, Any]]]]:
    options = {"url": url, "on_mongo": size.on_mongo, "in_memory": size.in_memory}
    async with child.started("unused", options, root) as process:
        await process.answer()
        yield partial(_ask, process)


async def _ask(process: Child) -> dict[str, Any]:
    answer: dict[str, Any] = await process.answer()
    return answer


@contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    """A folder with the tree of a commit, and this benchmark in it."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        git = partial(subprocess.run, cwd=ROOT, check=True, capture_output=True)
        git(["git", "worktree", "add", "--detach", str(tree), commit])
        try:
            for name in ("unused.py", "child.py"):
                shutil.copy(ROOT / "benchmarks" / name, tree / "benchmarks" / name)
            yield tree
        finally:
            git(["git", "worktree", "remove", "--force", str(tree)])


def _row(what: str, sides: Sides) -> tuple[str, ...]:
    return (
        what,
        Spread.of(sides.now).show(),
        Spread.of(sides.before).show(),
        sides.ratio.show(3),
        f"{sides.of_medians:.3f}",
    )


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2])))

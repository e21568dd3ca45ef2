"""The benchmarks run, in small, and find nothing lost and nothing done twice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.rounds import Percentiles, Spread, interleaved, scattered

ROOT = Path(__file__).parents[1]
TOGETHER = [
    ("throughput", "latency", "messages"),
    ("structure", "children", "growth", "memory"),
    ("waiting", "workers", "command", "idle", "unused"),
]
"""Each process takes seconds to begin, so it runs several benchmarks."""


@pytest.mark.server
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("names", TOGETHER, ids="-".join)
def test_a_benchmark_loses_no_write_and_doubles_no_claim(
    names: tuple[str, ...], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path), *names]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for name in names:
        with subtests.test(name):
            kept = json.loads((tmp_path / f"{name}.json").read_text())
            assert kept["integrity"] == {"lost_writes": 0, "double_claims": 0}
            assert kept["quick"]
            assert "<svg" in (tmp_path / f"{name}.svg").read_text()
    for table in (*names, "targets", "machine"):
        assert (tmp_path / f"{table}.md").read_text().startswith("**")


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    async def ours() -> int:
        turns.append("ours")
        return len(turns)

    async def theirs() -> int:
        turns.append("theirs")
        return len(turns)

    measured = asyncio.run(interleaved(2, {"ours": ours, "theirs": theirs}))
    assert turns == ["ours", "theirs", "ours", "theirs"]
    assert measured == {"ours": [1, 3], "theirs": [2, 4]}


def test_a_ratio_is_of_what_was_measured_in_the_same_round() -> None:
    assert Spread.of_ratios([2, 9, 8], [1, 3, 2]) == Spread(median=3, low=2, high=4)


def test_a_percentile_is_a_sample_that_so_many_do_not_exceed() -> None:
    assert Percentiles.of(range(200, 0, -1)) == Percentiles(count=200, p50=100, p99=198, max=200)
    assert Percentiles.of([7]) == Percentiles(count=1, p50=7, p99=7, max=7)


def test_scattered_pauses_stay_in_their_bounds_and_differ() -> None:
    pauses = scattered(100, 1, 2)
    assert len(set(pauses)) == 100
    assert 1 <= min(pauses) < 1.05
    assert 1.95 < max(pauses) < 2

"""Run the simulation over many seeds: `python -m tests.simulation --seeds 100000`.

Each violation is printed with its seed, and shrunk to the smallest scenario that shows one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.simulation.mutation import MUTATIONS, seeds_needed
from tests.simulation.shrink import account

_SHOWN = 3
_CHUNK = 50


def main() -> int:
    """Run what the command line asks for; 1 after a violation or an unnoticed mutation."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds (500)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="one for each core")
    parser.add_argument(
        "--mutations", action="store_true", help="how many seeds each removed guard needs"
    )
    options = parser.parse_args()
    return mutations(options.seeds) if options.mutations else soak(options)


def soak(options: argparse.Namespace) -> int:
    """Simulate all the seeds."""
    began_at = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    accounts = []
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for seed, found in zip(seeds, pool.map(account, seeds, chunksize=_CHUNK), strict=True):
            if found is not None:
                accounts.append(found)
                sys.stdout.write(f"{found}\n\n" if len(accounts) <= _SHOWN else f"seed {seed}\n")
    seconds = time.monotonic() - began_at
    sys.stdout.write(
        f"{options.seeds} seeds from {options.first} in {seconds:.0f} s: "
        f"{len(accounts)} violated something\n"
    )
    return 1 if accounts else 0


def mutations(limit: int) -> int:
    """Print how many seeds it takes to notice each missing guard; it fails if one is not."""
    needed = {name: seeds_needed(name, limit) for name in MUTATIONS}
    for name, seeds in needed.items():
        sys.stdout.write(f"{seeds or f'not in {limit}'}\t{name}\n")
    return 0 if all(needed.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

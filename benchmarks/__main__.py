"""`python -m benchmarks [--quick] [--out DIR] [NAME ...]`: measure, show, and keep the figures.

For each benchmark there are a JSON file with all that was measured, an SVG, and a Markdown file of
tables in the folder; `targets.md` has the target figures of all that are there.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import pymongo

from benchmarks import (
    children,
    command,
    growth,
    idle,
    latency,
    memory,
    messages,
    peers,
    plot,
    structure,
    throughput,
    unused,
    waiting,
    workers,
)
from benchmarks.child import ROOT
from benchmarks.host import Host, look_around
from benchmarks.report import Results, summary, table_of, write
from bluestreak_mongo import LocalMongo, LocalMongoError


class Measure(Protocol):
    """What the module of a benchmark offers."""

    def __call__(self, *, quick: bool) -> Coroutine[Any, Any, Results]: ...


DEFAULT: Mapping[str, Measure] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "messages": messages.measure,
    "structure": structure.measure,
    "children": children.measure,
    "growth": growth.measure,
    "memory": memory.measure,
    "waiting": waiting.measure,
    "workers": workers.measure,
    "command": command.measure,
    "idle": idle.measure,
}
OPTIONAL: Mapping[str, Measure] = {"peers": peers.measure, "unused": unused.measure}
ALL = {**DEFAULT, **OPTIONAL}


def main() -> None:
    options = _parse()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        host = look_around(_server_version())
    except LocalMongoError as error:
        sys.exit(str(error))
    (options.out / "machine.md").write_text(host.table().markdown())
    for name in options.names or DEFAULT:
        _run(name, host, options.out, quick=options.quick)
        (options.out / "targets.md").write_text(summary(options.out, ALL).markdown())


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks", metavar="DIR")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(ALL)}; {' and '.join(OPTIONAL)} only when named; the others by default",
    )
    options = parser.parse_args()
    for name in options.names:
        if name not in ALL:
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(ALL)}")
    return options


def _run(name: str, host: Host, folder: Path, *, quick: bool) -> None:
    print(f"{name} ...", flush=True)
    began = time.monotonic()
    results = asyncio.run(ALL[name](quick=quick))
    seconds = round(time.monotonic() - began, 1)
    for table in (*results.tables(), table_of(results.targets(), results.integrity)):
        print(f"\n{table.text()}")
    print(f"\n{name} took {seconds} s\n", flush=True)
    about = {"quick": quick, "seconds": seconds, "host": asdict(host)}
    write(folder, name, results, about)
    plot.save(folder / f"{name}.svg", results)


def _server_version() -> str:
    with LocalMongo() as server:
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(server.url)
        with client:
            return str(client.server_info()["version"])


if __name__ == "__main__":
    main()

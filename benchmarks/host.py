"""The machine that a figure was measured on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pymongo

from benchmarks.report import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the figures of one run depend on. `load` is of the minute before the run."""

    day: str
    cpus: int
    cpu: str
    memory_gib: float
    system: str
    python: str
    pymongo: str
    mongod: str
    load: float

    def table(self) -> Table:
        return Table(
            title="Machine of the last run",
            columns=("", ""),
            rows=(
                ("processor", f"{self.cpus} cores of {self.cpu}"),
                ("memory", f"{self.memory_gib:.0f} GiB"),
                ("system", self.system),
                ("Python", self.python),
                ("PyMongo", self.pymongo),
                ("MongoDB", self.mongod),
                ("day", self.day),
                ("load average before", f"{self.load:.2f}"),
            ),
        )


def look_around(mongod: str) -> Host:
    """This machine, with a server of this version."""
    return Host(
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        cpus=os.cpu_count() or 0,
        cpu=_field("/proc/cpuinfo", "model name") or platform.machine(),
        memory_gib=round(int(_field("/proc/meminfo", "MemTotal").split()[0] or 0) / 1024**2, 1),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        pymongo=pymongo.version,
        mongod=mongod,
        load=round(os.getloadavg()[0], 2),
    )


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""

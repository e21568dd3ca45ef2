"""What a benchmark hands over, and how it is shown and kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, cast


class Bound(StrEnum):
    """On which side of a target figure it is well to be."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure that was set beforehand, and the one that was reached."""

    what: str
    bound: Bound
    figure: float
    reached: float
    unit: str

    @property
    def met(self) -> bool:
        match self.bound:
            case Bound.AT_LEAST:
                return self.reached >= self.figure
            case Bound.AT_MOST:
                return self.reached <= self.figure

    def row(self) -> tuple[str, ...]:
        wanted = f"{self.bound} {self.figure:g} {self.unit}".rstrip()
        reached = f"{self.reached:.3g}" if abs(self.reached) < 1000 else f"{self.reached:,.0f}"
        return self.what, wanted, f"{reached} {self.unit}".rstrip(), "yes" if self.met else "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrity:
    """What must not happen, however fast: each is counted from what the database holds at the end.

    A write is lost where a workflow, step or nap that was confirmed is not there or not as it was.
    A claim is double where a step was called, or a workflow claimed, more often than it should be.
    """

    lost_writes: int = 0
    double_claims: int = 0

    def __add__(self, other: Integrity) -> Integrity:
        return Integrity(
            lost_writes=self.lost_writes + other.lost_writes,
            double_claims=self.double_claims + other.double_claims,
        )

    def targets(self) -> list[Target]:
        return [
            _none_of("lost writes, in any of these", self.lost_writes),
            _none_of("double claims, in any of these", self.double_claims),
        ]


NONE = Integrity()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of texts, the first column of which names the rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [" | ".join(row) for row in (self.columns, rule, *self.rows)]
        return f"**{self.title}**\n\n" + "".join(f"| {line} |\n" for line in lines)

    def text(self) -> str:
        grid = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines = [_line(row, widths) for row in grid]
        return "\n".join([self.title, *(f"  {line}" for line in lines)])


class Results(Protocol):
    """A frozen dataclass of one benchmark's figures, all that its plot and its tables need."""

    @property
    def integrity(self) -> Integrity: ...

    def tables(self) -> Sequence[Table]: ...

    def targets(self) -> Sequence[Target]: ...


def table_of(targets: Iterable[Target], integrity: Integrity) -> Table:
    return Table(
        title="Target figures",
        columns=("what", "target", "reached", "met"),
        rows=tuple(target.row() for target in (*targets, *integrity.targets())),
    )


def write(folder: Path, name: str, results: Results, about: Mapping[str, object]) -> None:
    """Write the figures as JSON and the tables as Markdown; see `summary` for the targets."""
    kept = {
        "name": name,
        **about,
        "targets": [asdict(target) | {"met": target.met} for target in results.targets()],
        "integrity": asdict(results.integrity),
        "results": asdict(cast(Any, results)),
    }
    (folder / f"{name}.json").write_text(json.dumps(_rounded(kept), indent=1) + "\n")
    tables = "\n".join(table.markdown() for table in results.tables())
    (folder / f"{name}.md").write_text(tables)


def summary(folder: Path, names: Iterable[str]) -> Table:
    """The targets of all benchmarks that have left their figures in a folder."""
    kept = [_read(folder / f"{name}.json") for name in names if (folder / f"{name}.json").exists()]
    integrity = sum((Integrity(**record["integrity"]) for record in kept), NONE)
    return table_of(
        (_to_target(target) for record in kept for target in record["targets"]), integrity
    )


def _rounded(value: Any) -> Any:
    """With as many digits as a benchmark can mean."""
    match value:
        case float():
            return float(f"{value:.5g}")
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
        case _:
            return value


def _none_of(what: str, count: int) -> Target:
    return Target(what=what, bound=Bound.AT_MOST, figure=0, reached=count, unit="")


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if place == 0 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


def _read(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def _to_target(kept: Mapping[str, Any]) -> Target:
    return Target(
        what=kept["what"],
        bound=Bound(kept["bound"]),
        figure=kept["figure"],
        reached=kept["reached"],
        unit=kept["unit"],
    )

"""A plot for each benchmark, as an SVG that is the same for the same figures.

Text stays text, the ground is transparent, and all colours stand out from white and from black.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.children import Children
from benchmarks.command import Command
from benchmarks.growth import Growth
from benchmarks.idle import Idle
from benchmarks.latency import PARK_AFTER, Case, Latency
from benchmarks.memory import Memory
from benchmarks.messages import Messages
from benchmarks.peers import OURS, Peers
from benchmarks.report import Results
from benchmarks.rounds import Spread
from benchmarks.structure import Structure
from benchmarks.throughput import Throughput
from benchmarks.unused import Unused
from benchmarks.waiting import Waiting
from benchmarks.workers import Workers

BLUE, ORANGE, GREEN, PURPLE = "#3b82f6", "#d97706", "#10a36e", "#a855f7"
GREY = "#7d8590"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bluestreak",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": GREY,
    "axes.labelcolor": GREY,
    "axes.edgecolor": GREY,
    "axes.titlecolor": GREY,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GREY,
    "grid.alpha": 0.3,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "errorbar.capsize": 3,
}


def save(path: Path, results: Results) -> None:
    """Draw what was measured; nothing else goes into the file, not even the day."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        _draw(figure, results)
        about = {"Creator": None, "Date": None}
        figure.savefig(path, format="svg", transparent=True, metadata=about)


def _draw(figure: Figure, results: Results) -> None:
    _DRAWINGS[type(results)](figure, results)


def _draw_throughput(figure: Figure, results: Throughput) -> None:
    axes = figure.subplots()
    at = [level.concurrency for level in results.levels]
    limit = [Spread.of(level.limit) for level in results.levels]
    _line(axes, at, limit, "limit: bare insert_many", GREY)
    _line(axes, at, [Spread.of(level.ours) for level in results.levels], "Bluestreak", BLUE)
    javascript = [Spread.of(level.javascript) for level in results.levels]
    _line(axes, at, javascript, "the JavaScript algorithm", ORANGE)
    axes.set(xscale="log", yscale="log", xlabel="workflows at once", ylabel="steps a second")
    _ticks(axes, at)
    axes.legend()


def _draw_latency(figure: Figure, results: Latency) -> None:
    left, right = figure.subplots(1, 2)
    _draw_shares(left, [case for case in results.cases if case.what not in PARK_AFTER])
    _draw_shares(right, [case for case in results.cases if case.what in PARK_AFTER])
    left.set(xscale="log", title="starts and ends", xlabel="milliseconds")
    left.set_ylabel("share of the samples")
    right.set(title="lateness of naps", xlabel="milliseconds")


def _draw_messages(figure: Figure, results: Messages) -> None:
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    names = ["to different\nworkflows", "to one\nworkflow", "single\ninserts"]
    rates = [results.to_many, results.to_one, results.single_inserts]
    _bars(left, names, [Spread.of(rate) for rate in rates], [BLUE, BLUE, GREY])
    left.set(title="messages a second")
    for (name, delays), colour in zip(results.delays.items(), COLOURS, strict=False):
        right.ecdf(delays, label=name, color=colour)
    right.set(xscale="log", title="send to handler", xlabel="milliseconds")
    right.legend(fontsize=8)


def _draw_structure(figure: Figure, results: Structure) -> None:
    left, right = figure.subplots(1, 2)
    names = ["map", "one by one"]
    rates = [Spread.of(rate) for rate in (results.mapped, results.one_by_one)]
    _bars(left, names, rates, [BLUE, GREY])
    left.set(title="steps a second")
    peaks = [results.mapped_bytes / 1e6, results.one_by_one_bytes / 1e6]
    _bars(right, names, [Spread.of([peak]) for peak in peaks], [BLUE, GREY])
    right.set(title="peak of memory, MB")


def _draw_children(figure: Figure, results: Children) -> None:
    axes = figure.subplots()
    names = ["children, seen\nby their parents", "without\na parent"]
    rates = [results.seen, results.started]
    _bars(axes, names, [Spread.of(rate) for rate in rates], [BLUE, GREY])
    axes.set(title="workflows a second")


def _draw_growth(figure: Figure, results: Growth) -> None:
    left, right = figure.subplots(1, 2)
    stored = [level.workflows for level in results.stored]
    claims = [Spread.of(level.claim) for level in results.stored]
    _line(left, stored, claims, f"a claim of {results.claims}", BLUE)
    in_vain = [Spread.of(level.claim_in_vain) for level in results.stored]
    _line(left, stored, in_vain, "a claim in vain", ORANGE)
    left.set(xscale="log", xlabel="workflows stored", ylabel="milliseconds")
    _from_zero(left, claims)
    left.legend()
    steps = [level.steps for level in results.replayed]
    _line(
        right, steps, [Spread.of(level.read) for level in results.replayed], "store.history", BLUE
    )
    runs = [Spread.of(level.run) for level in results.replayed]
    _line(right, steps, runs, "a resumed run", ORANGE)
    right.set(xscale="log", yscale="log", xlabel="steps recorded", ylabel="microseconds a step")
    right.legend()


def _draw_memory(figure: Figure, results: Memory) -> None:
    kinds = {
        f"parked ({results.parked.workflows:,})": results.parked,
        f"held in memory ({results.held.workflows:,})": results.held,
    }
    each = [Spread.of([max(growth.each, 1)]) for growth in kinds.values()]
    axes = figure.subplots()
    _bars(axes, list(kinds), each, [BLUE, ORANGE])
    axes.set(xscale="log", xlabel="bytes of the worker process for each workflow")
    axes.set_xlim(left=1)


def _draw_waiting(figure: Figure, results: Waiting) -> None:
    axes = figure.subplots()
    axes.ecdf(results.woken, color=BLUE)
    axes.set(title="send to result, of one among many that wait", xlabel="milliseconds")


def _draw_workers(figure: Figure, results: Workers) -> None:
    left, right = figure.subplots(1, 2)
    processes = [fleet.processes for fleet in results.fleets]
    rates = [Spread.of(fleet.rates) for fleet in results.fleets]
    _line(left, processes, rates, "", BLUE)
    left.set(xlabel="worker processes", ylabel="steps a second", xticks=processes)
    _from_zero(left, rates)
    wasted = [fleet.wasted for fleet in results.fleets]
    _line(right, processes, wasted, "", ORANGE)
    right.set(xlabel="worker processes", ylabel="wasted claims, %", xticks=processes)
    _from_zero(right, wasted)


def _draw_command(figure: Figure, results: Command) -> None:
    axes = figure.subplots()
    rates = [Spread.of(rates) for rates in results.rates.values()]
    _bars(axes, list(results.rates), rates, [BLUE, BLUE, GREY])
    axes.set(title="workflows a second")


def _draw_idle(figure: Figure, results: Idle) -> None:
    axes = figure.subplots()
    servers = [case.server for case in results.cases]
    left = [0.0] * len(servers)
    names = sorted({name for case in results.cases for name in case.commands})
    for place, name in enumerate(names):
        rates = [case.commands.get(name, 0) / case.seconds for case in results.cases]
        colour = COLOURS[place % len(COLOURS)]
        axes.barh(servers, rates, left=left, label=name, color=colour, height=0.5)
        left = [edge + rate for edge, rate in zip(left, rates, strict=True)]
    axes.set(xlabel="commands a second")
    axes.yaxis.grid(visible=False)
    axes.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=len(COLOURS))


def _draw_peers(figure: Figure, results: Peers) -> None:
    names = [f"{system.name},\n{system.way}" for system in results.systems]
    rates = [Spread.of(system.rates) for system in results.systems]
    colours = [BLUE if system.name == OURS else ORANGE for system in results.systems]
    axes = figure.subplots()
    _bars(axes, names, rates, colours)
    axes.set(xscale="log", xlabel="steps a second")
    axes.set_xlim(left=1)


def _draw_unused(figure: Figure, results: Unused) -> None:
    sides = {
        "on MongoDB, a second": results.rate,
        "on MongoDB,\nper processor second": results.per_cpu_second,
        "in memory,\nper processor second": results.per_cpu_second_in_memory,
    }
    axes = figure.subplots()
    axes.boxplot(
        [
            [now / before for now, before in zip(s.now, s.before, strict=True)]
            for s in sides.values()
        ],
        orientation="horizontal",
        tick_labels=list(sides),
        medianprops={"color": BLUE},
    )
    axes.axvline(1, color=GREY, linestyle=":")
    axes.set(xlabel="steps now / steps before, of one round")
    axes.invert_yaxis()


# Marks -------------------------------------------------------------------------------------------


def _line(
    axes: Axes, at: Sequence[float], spreads: Sequence[Spread], label: str, colour: str
) -> None:
    """Medians, with the range of the rounds."""
    medians = [spread.median for spread in spreads]
    axes.errorbar(at, medians, yerr=_range(spreads), label=label, color=colour, marker="o")


def _bars(
    axes: Axes, names: Sequence[str], spreads: Sequence[Spread], colours: Sequence[str]
) -> None:
    medians = [spread.median for spread in spreads]
    bars = axes.barh(names, medians, color=colours, height=0.5)
    axes.bar_label(bars, fmt="{:,.0f}", label_type="center", color="white")
    if any(spread.low < spread.high for spread in spreads):
        axes.errorbar(medians, names, xerr=_range(spreads), fmt="none", ecolor=GREY)
    axes.yaxis.grid(visible=False)
    axes.invert_yaxis()


def _range(spreads: Sequence[Spread]) -> list[list[float]]:
    below = [spread.median - spread.low for spread in spreads]
    above = [spread.high - spread.median for spread in spreads]
    return [below, above]


def _draw_shares(axes: Axes, cases: Sequence[Case]) -> None:
    for case, colour in zip(cases, COLOURS, strict=True):
        label = f"{case.what},\n{case.server}"
        axes.ecdf(case.milliseconds, label=label, color=colour)
    axes.legend(fontsize=8)


def _from_zero(axes: Axes, spreads: Sequence[Spread]) -> None:
    axes.set_ylim(0, 1.1 * max(1, *(spread.high for spread in spreads)))


def _ticks(axes: Axes, at: Sequence[int]) -> None:
    axes.set_xticks(at, [f"{value:,}" for value in at])
    axes.minorticks_off()


_DRAWINGS: Mapping[type[Any], Callable[[Figure, Any], None]] = MappingProxyType(
    {
        Throughput: _draw_throughput,
        Latency: _draw_latency,
        Messages: _draw_messages,
        Children: _draw_children,
        Structure: _draw_structure,
        Growth: _draw_growth,
        Memory: _draw_memory,
        Waiting: _draw_waiting,
        Workers: _draw_workers,
        Command: _draw_command,
        Idle: _draw_idle,
        Peers: _draw_peers,
        Unused: _draw_unused,
    }
)

"""Interleaved rounds, and how their figures are summed up."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of one figure a round, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Self:
        return cls(median=statistics.median(figures), low=min(figures), high=max(figures))

    @classmethod
    def of_ratios(cls, ours: Sequence[float], theirs: Sequence[float]) -> Self:
        """One ratio a round, of what was measured side by side."""
        return cls.of([our / their for our, their in zip(ours, theirs, strict=True)])

    def show(self, digits: int = 0, unit: str = "") -> str:
        low, high = f"{self.low:,.{digits}f}", f"{self.high:,.{digits}f}"
        return f"{self.median:,.{digits}f}{unit} ({low} to {high})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """How many samples there are, and by what value half of them, 99 % and all have come."""

    count: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        ordered = sorted(samples)
        return cls(
            count=len(ordered), p50=rank(ordered, 0.5), p99=rank(ordered, 0.99), max=ordered[-1]
        )


def rank(ordered: Sequence[float], share: float) -> float:
    """The least sample that a share of all samples does not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1]


async def interleaved(
    rounds: int, contenders: Mapping[str, Callable[[], Awaitable[T]]]
) -> dict[str, list[T]]:
    """Measure A, B, C, then A, B, C again: what disturbs the machine disturbs all of them."""
    measured: dict[str, list[T]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            gc.collect()
            measured[name].append(await measure())
    return measured


def scattered(count: int, least: float, most: float) -> list[float]:
    """Pauses that are spread evenly between two bounds, in an order without a rhythm."""
    golden = (math.sqrt(5) - 1) / 2
    return [least + (most - least) * (place * golden % 1) for place in range(count)]

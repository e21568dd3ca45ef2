"""The time axis of a workflow, on which an hour's sleep does not hide its steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from math import log1p

WIDTH = 1000.0
_MILLISECOND = timedelta(milliseconds=1)


class Axis:
    """Places instants between 0 and `WIDTH`, in their order.

    The distance of two neighbours grows with the logarithm of the time between them, since a
    workflow may take milliseconds for a step and a month for the next one.
    """

    def __init__(self, instants: Iterable[datetime]) -> None:
        ordered = sorted(set(instants))
        places = [0.0]
        for before, after in pairwise(ordered):
            places.append(places[-1] + log1p((after - before) / _MILLISECOND))
        scale = WIDTH / (places[-1] or 1.0)
        self._places = {
            instant: place * scale for instant, place in zip(ordered, places, strict=False)
        }

    def place(self, instant: datetime) -> float:
        """The place of an instant that the axis was made of."""
        return self._places[instant]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Some time that is drawn as a bar. `tone` is its class in the style sheet."""

    begin: datetime
    end: datetime
    tone: str

    def drawn(self, axis: Axis) -> Bar:
        """The bar on an axis."""
        begin, end = axis.place(self.begin), axis.place(self.end)
        width = max(end - begin, 4.0)
        return Bar(x=round(min(begin, WIDTH - width), 1), width=round(width, 1), tone=self.tone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar of a drawing that is `WIDTH` wide."""

    x: float
    width: float
    tone: str

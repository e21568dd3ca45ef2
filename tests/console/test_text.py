"""Texts, spans of time and the axis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluestreak_console import text
from bluestreak_console.axis import WIDTH, Axis, Stretch

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def test_a_value_is_shown_as_json() -> None:
    assert text.value({"a": [1, "ü"], "at": NOW}, indent=None) == (
        '{"a": [1, "ü"], "at": "2026-12-01T00:00:00+00:00"}'
    )
    assert text.value({(1, 2): 3}) == "{(1, 2): 3}"
    assert text.value(b"\x00") == "\"b'\\\\x00'\""


def test_a_value_that_holds_itself_is_shown() -> None:
    circle: list[object] = []
    circle.append(circle)
    assert text.value(circle) == "[[...]]"


@given(st.text(), st.integers(1, 50))
def test_a_shown_text_is_short_and_harmless(found: str, limit: int) -> None:
    shown = text.line(found, limit)
    assert shown.isprintable()
    assert shown.endswith("…") or len(found) <= limit
    assert all(each.isprintable() or each in "\n\t" for each in text.block(found, limit))


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        (timedelta(), "0 ms"),
        (timedelta(milliseconds=999), "999 ms"),
        (timedelta(seconds=1.25), "1.2 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(seconds=61), "1 min 1 s"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(days=30, hours=3), "30 d 3 h"),
    ],
)
def test_a_span_has_its_two_largest_units(duration: timedelta, shown: str) -> None:
    assert text.span(duration) == shown


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_an_axis_keeps_the_order_of_instants(offsets: list[int]) -> None:
    instants = [NOW + timedelta(milliseconds=offset) for offset in offsets]
    axis = Axis(instants)
    places = [axis.place(instant) for instant in sorted(instants)]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= WIDTH + 1e-6


def test_a_month_does_not_hide_a_step() -> None:
    step = Stretch(begin=NOW, end=NOW + timedelta(milliseconds=50), tone="step")
    nap = Stretch(begin=step.end, end=step.end + timedelta(days=30), tone="nap")
    axis = Axis([step.begin, step.end, nap.end])
    assert step.drawn(axis).width > WIDTH / 10
    assert nap.drawn(axis).width > step.drawn(axis).width


def test_a_bar_at_the_end_stays_on_the_drawing() -> None:
    axis = Axis([NOW, NOW + timedelta(seconds=1)])
    end = Stretch(begin=NOW + timedelta(seconds=1), end=NOW + timedelta(seconds=1), tone="mark")
    drawn = end.drawn(axis)
    assert drawn.x + drawn.width <= WIDTH
    assert drawn.width > 0

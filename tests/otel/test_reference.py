"""The page and the dashboard name every metric, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def made() -> set[str]:
    """The metrics that the code makes."""
    code = "".join(path.read_text() for path in (ROOT / "bluestreak_otel").glob("*.py"))
    return set(re.findall(r'(?:create_counter\(|durations\(\s*meter,)\s*"([\w.]+)"', code))


def test_the_page_has_a_row_for_each_metric() -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text().partition("## Metrics")[2]
    assert set(re.findall(r"^\| `([\w.]+)` \| (?:counter|histogram)", page, re.MULTILINE)) == made()


def test_the_dashboard_shows_each_metric_by_its_name_in_prometheus() -> None:
    dashboard = (ROOT / "docs" / "dashboards" / "grafana.json").read_text()
    named = set(re.findall(r"(bluestreak_\w+?)_(?:total|seconds_bucket|seconds_count)", dashboard))
    assert named == {name.replace(".", "_") for name in made()}

"""The site builds without a warning, and leaves nothing out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bluestreak_core.machine import TRANSITIONS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = [
    "bluestreak_core",
    "bluestreak_core.testing",
    "bluestreak_memory",
    "bluestreak_mongo",
    "bluestreak_otel",
    "bluestreak_pydantic",
    "bluestreak_console",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    measured = {"COVERAGE_PROCESS_CONFIG"}  # nothing of ours runs in it
    inherited = {name: value for name, value in os.environ.items() if name not in measured}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=ROOT,
        env=inherited | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return site


def test_the_concepts_show_each_transition_in_a_diagram(site: Path) -> None:
    page = (site / "concepts" / "index.html").read_text()
    drawn = {
        (source, event, target)
        for sources, events, target in re.findall(
            r'<path [^>]*data-from="([\w ]+)" data-events="([\w, ]+)" data-to="(\w+)"', page
        )
        for source in sources.split()
        for event in events.split(", ")
    }
    assert drawn == {
        (status, event, target)
        for status, row in TRANSITIONS.items()
        for event, target in row.items()
    }


def test_the_diagram_names_each_state_and_event_as_text(site: Path) -> None:
    page = (site / "concepts" / "index.html").read_text()
    (diagram,) = re.findall(r"<svg [^>]*aria-labelledby=.*?</svg>", page, re.DOTALL)
    texts = re.findall(r"<text [^>]*>([^<]+)</text>", diagram)
    words = {word for text in texts for word in text.split(", ")}
    assert words == {"start"} | {*TRANSITIONS} | {e for row in TRANSITIONS.values() for e in row}


FOREIGN = re.compile(
    r"""<(?:script|link|img|iframe|source|object|embed)\b[^>]*\b(?:src|href|data)\s*=\s*["']?"""
    r"""(?:https?:)?//"""
    r"""|(?:url\(\s*|@import\s*)["']?(?:https?:)?//""",
    re.IGNORECASE,
)


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = {
        f"{path.relative_to(site)}: {found[0]}"
        for suffix in ("*.html", "*.css", "*.svg")
        for path in site.rglob(suffix)
        for found in FOREIGN.finditer(path.read_text())
    }
    assert loaded == set()
    mermaid = [path for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text()]
    assert mermaid == [], "the theme would load Mermaid from elsewhere"


def test_the_concepts_show_each_transition_in_a_table(site: Path) -> None:
    page = (site / "concepts" / "index.html").read_text()
    rows = [
        [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    ]
    start = rows.index(["from", "accepted"])
    assert rows[start + 1 : start + 1 + len(TRANSITIONS)] == [
        [status, ", ".join(f"{event} → {target}" for event, target in row.items()) or "nothing"]
        for status, row in TRANSITIONS.items()
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(site: Path, package: str) -> None:
    anchors = set(re.findall(r'id="([\w.]+)"', (site / "api" / "index.html").read_text()))
    public = {f"{package}.{name}" for name in import_module(package).__all__}
    assert public - anchors == set()


@pytest.mark.parametrize("package", ["bluestreak_core", "bluestreak_mongo"])
def test_every_error_has_its_place_in_the_table_of_errors(site: Path, package: str) -> None:
    page = (site / "errors" / "index.html").read_text()
    public = vars(import_module(package))
    errors = {name for name in public["__all__"] if _is_error(public[name])}
    assert errors - set(re.findall(r"<code>(\w+)</code>", page)) == set()


def test_every_setting_has_its_place_in_the_table_of_settings(site: Path) -> None:
    page = (site / "settings" / "index.html").read_text()
    settings = set(import_module("bluestreak_core").Bluestreak.__init__.__kwdefaults__)
    assert settings - set(re.findall(r"<td><code>(\w+)</code></td>", page)) == set()


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)

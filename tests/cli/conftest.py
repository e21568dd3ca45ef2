"""A new shop for each test."""

from __future__ import annotations

import pytest

from bluestreak_core import Bluestreak
from bluestreak_memory import MemoryStore
from tests.cli import shop


@pytest.fixture(autouse=True)
def bluestreak(monkeypatch: pytest.MonkeyPatch) -> Bluestreak:
    """An application without workflows, and an environment that names none."""
    for name in ("BLUESTREAK_MONGO", "BLUESTREAK_DATABASE", "BLUESTREAK_APP", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    bluestreak = shop.register(Bluestreak(MemoryStore(), max_failures=0, park_after=0))
    monkeypatch.setattr(shop, "bluestreak", bluestreak)
    monkeypatch.setattr(shop, "tokens", [])
    return bluestreak


@pytest.fixture
def server(
    mongodb_url: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The environment of an application on an empty database."""
    named = {"TEST_URL": mongodb_url, "TEST_DATABASE": empty_database}
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    return named

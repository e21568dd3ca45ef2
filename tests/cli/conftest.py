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

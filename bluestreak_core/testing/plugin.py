"""The pytest plugin, loaded wherever Bluestreak is installed: two fixtures and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bluestreak_core.testing.virtual import Environment


@pytest.fixture
def bluestreak_settings() -> dict[str, Any]:
    """The arguments of `bluestreak_environment`; override it in a module or in conftest.py."""
    return {}


@pytest.fixture
def bluestreak_environment(bluestreak_settings: dict[str, Any]) -> Iterator[Environment]:
    """An `Environment`, which is closed after the test."""
    with Environment(**bluestreak_settings) as environment:
        yield environment

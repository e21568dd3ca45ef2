"""How the simulation is run by the suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from coverage import Coverage


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """Without coverage, which would take twice as long as the simulation itself."""
    measured = Coverage.current()
    if measured is not None:
        measured.stop()
    yield
    if measured is not None:
        measured.start()

"""The fixtures that pytest has where Bluestreak is installed."""

from __future__ import annotations

from typing import Any

import pytest

from bluestreak_core import Context, Status
from bluestreak_core.testing import Environment


@pytest.fixture
def bluestreak_settings() -> dict[str, Any]:
    return {"max_failures": 2}


def test_the_environment_is_a_fixture_with_settings_of_its_own(
    bluestreak_environment: Environment,
) -> None:
    async def broken(ctx: Context, input: None) -> None:
        raise LookupError

    outcome = bluestreak_environment.run(broken)
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 3)

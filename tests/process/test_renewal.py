"""A workflow that restarts loses nothing and keeps nothing, wherever its process dies."""

from __future__ import annotations

import pytest

from tests.process.renewal import campaign


@pytest.mark.server
@pytest.mark.usefixtures("unmeasured")
def test_each_period_does_its_work_once_when_workers_are_killed(mongodb_url: str) -> None:
    audit = campaign(mongodb_url, workflows=40, workers=2, seed=7)
    assert audit.is_clean, str(audit)
    assert audit.kills > 0

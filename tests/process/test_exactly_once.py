"""Transactions happen exactly once, wherever their process dies."""

from __future__ import annotations

import pytest

from tests.process.exactly_once import campaign


@pytest.mark.server
@pytest.mark.usefixtures("unmeasured")
def test_no_transfer_is_lost_or_doubled_when_workers_are_killed(mongodb_url: str) -> None:
    audit = campaign(mongodb_url, workflows=150, workers=2, seed=7)
    assert audit.is_clean, str(audit)
    assert audit.kills > 0

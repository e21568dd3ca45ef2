"""Each message is received once, wherever the processes die."""

from __future__ import annotations

import pytest

from tests.process.correspondence import campaign


@pytest.mark.server
@pytest.mark.usefixtures("unmeasured")
def test_each_message_is_received_once_when_workers_and_senders_are_killed(
    mongodb_url: str,
) -> None:
    audit = campaign(mongodb_url, workflows=60, workers=2, seed=7)
    assert audit.is_clean, str(audit)
    assert audit.kills > 0

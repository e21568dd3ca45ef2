"""No child outlives its parent, and each result reaches it, wherever the processes die."""

from __future__ import annotations

import pytest

from tests.process.families import campaign


@pytest.mark.server
@pytest.mark.usefixtures("unmeasured")
def test_families_end_as_they_should_when_workers_are_killed(mongodb_url: str) -> None:
    audit = campaign(mongodb_url, trees=5, fans=1, crowds=3, workers=2, seed=7)
    assert audit.is_clean, str(audit)
    assert audit.is_in_the_middle, str(audit)
    assert audit.kills > 0

"""Messages count in words that fit the number."""

from __future__ import annotations

import pytest

from bluestreak_core import BluestreakError, StepFailed, WaitTimeout, WorkflowCrashed
from bluestreak_core.errors.text import counted


def test_one_is_singular_and_everything_else_plural() -> None:
    assert [counted(number, "lease") for number in range(3)] == ["0 leases", "1 lease", "2 leases"]


@pytest.mark.parametrize(
    ("error", "singular"),
    [
        (WaitTimeout("w", "idle", 1), "after 1 check$"),
        (StepFailed("w", "s", 1, "ValueError", "no", ""), "failed after 1 attempt: "),
        (WorkflowCrashed("w", 1, 0), ": 1 lease in a row "),
    ],
)
def test_an_error_that_counts_one_thing_says_so(error: BluestreakError, singular: str) -> None:
    with pytest.raises(type(error), match=singular):
        raise error

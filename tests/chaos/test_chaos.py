"""A short campaign. `make chaos` runs a longer one, with faults of every kind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.fleet import ROOT


@pytest.mark.server
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.timeout(300)
def test_nothing_is_lost_whatever_is_done_to_workers_and_servers() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seconds", "6", "--seed", "13"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "nothing lost" in ran.stdout

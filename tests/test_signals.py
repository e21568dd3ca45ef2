"""The suite does the same in every shell: one in the background has it ignore signals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IGNORED = """\
import signal
print([n.name for n in signal.Signals if signal.getsignal(n) is signal.SIG_IGN])
"""
PIPE_AND_LARGE_FILE = "['SIGPIPE', 'SIGXFSZ']\n"
"""What Python itself ignores."""


def test_a_process_that_a_test_starts_ignores_no_signal() -> None:
    ignored = subprocess.run(
        [sys.executable, "-c", IGNORED], capture_output=True, text=True, check=True
    )
    assert ignored.stdout == PIPE_AND_LARGE_FILE


@pytest.mark.slow
def test_a_process_that_a_test_of_a_background_shell_starts_ignores_none_either() -> None:
    in_background = ["sh", "-c", 'trap "" HUP INT QUIT TERM; exec "$@"', "sh", sys.executable]
    name = f"{__file__}::{test_a_process_that_a_test_starts_ignores_no_signal.__name__}"
    ran = subprocess.run(
        [*in_background, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout

"""`make check` fails for a known vulnerability, and not for a service that cannot be reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AUDIT = Path(__file__).parent.parent / ".ci" / "audit.py"

SOUND = {"name": "a", "version": "1", "vulns": []}
UNKNOWN = {"name": "b", "skip_reason": "not found"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNMENDED = {"name": "d", "version": "2", "vulns": [{"id": "CVE-2", "fix_versions": []}]}

ANSWERS: dict[str, tuple[str, int, str]] = {
    "sound": (
        json.dumps({"dependencies": [SOUND, SOUND, UNKNOWN]}),
        0,
        "pip-audit: no known vulnerabilities in 2 packages, 1 more are unknown to the service\n",
    ),
    "vulnerable": (
        json.dumps({"dependencies": [SOUND, BAD, UNMENDED]}),
        1,
        """\
c 2: CVE-1, mended in 3
d 2: CVE-2, mended in no version yet
pip-audit: 2 known vulnerabilities in 3 packages, 0 more are unknown to the service
""",
    ),
    "unknown": (
        json.dumps({"dependencies": [UNKNOWN, UNKNOWN]}),
        0,
        "pip-audit: not done, the service knows none of 2 packages\n",
    ),
    "unreachable": ("", 0, "pip-audit: not done, the last of what went wrong\n"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_audit_fails_for_a_vulnerability_and_for_nothing_else(name: str, tmp_path: Path) -> None:
    answer, code, said = ANSWERS[name]
    log = "wrong\nthe last of what went wrong"
    program = f"print({answer!r}); print({log!r}, file=sys.stderr); sys.exit(1)"
    (tmp_path / "pip_audit.py").write_text(f"import sys; {program}")
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, AUDIT], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (code, said)

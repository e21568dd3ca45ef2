"""`make check` fails for a known vulnerability, and says loudly when nothing was looked up."""

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

UNKNOWN_CORE = {"name": "pymongo", "skip_reason": "not found"}

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
    "without a package of ours": (
        json.dumps({"dependencies": [SOUND, UNKNOWN, UNKNOWN_CORE]}),
        1,
        """\
pip-audit: no known vulnerabilities in 1 packages, 2 more are unknown to the service
pip-audit: failed, the service should know pymongo
""",
    ),
}

NOTHING = {
    "unknown": (
        json.dumps({"dependencies": [UNKNOWN, UNKNOWN_CORE]}),
        "the service knows none of 2 packages",
    ),
    "unreachable": ("", "the last of what went wrong"),
}


def audit(answer: str, folder: Path, **variables: str) -> tuple[int, str]:
    """The exit code and output of an audit in which pip-audit answers this."""
    log = "wrong\nthe last of what went wrong"
    program = f"print({answer!r}); print({log!r}, file=sys.stderr); sys.exit(1)"
    (folder / "pip_audit.py").write_text(f"import sys; {program}")
    environment: dict[str, Any] = os.environ | {"PYTHONPATH": str(folder)} | variables
    run = subprocess.run(
        [sys.executable, AUDIT], env=environment, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout


@pytest.mark.parametrize("name", ANSWERS)
def test_an_audit_fails_for_a_vulnerability_and_for_a_package_of_ours_that_is_unknown(
    name: str, tmp_path: Path
) -> None:
    answer, code, said = ANSWERS[name]
    assert audit(answer, tmp_path) == (code, said)


@pytest.mark.parametrize(("required", "code"), [("", 0), ("required", 1)])
@pytest.mark.parametrize("name", NOTHING)
def test_an_audit_of_nothing_cannot_be_missed_and_fails_where_one_is_required(
    name: str, required: str, code: int, tmp_path: Path
) -> None:
    answer, reason = NOTHING[name]
    assert audit(answer, tmp_path, BLUESTREAK_AUDIT=required) == (
        code,
        f"""\
{"!" * 78}
!! WARNING: NOTHING WAS AUDITED for known vulnerabilities
!! {reason}
!! BLUESTREAK_AUDIT=required makes this a failure
{"!" * 78}
""",
    )

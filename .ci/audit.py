"""Looks up the packages of this environment in a list of known vulnerabilities, by pip-audit.

Fails for a vulnerability, and where the list knows some packages but not those that Bluestreak
itself brings to its users. Where the list cannot be had or knows nothing, as without a network,
nothing was audited: that is said so that it cannot be missed, and passes, unless
BLUESTREAK_AUDIT=required is set, as it should be where releases are made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

TIMEOUT = 60.0
CORE = frozenset({"pymongo", "pydantic", "pydantic-core", "rich", "typer", "typing-extensions"})
"""What is installed with Bluestreak and its extras: known to every list, or it is the wrong one."""

_COMMAND = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable"]
_OPTIONS = ["--format", "json", "--desc", "off", "--progress-spinner", "off", "--timeout", "5"]


def packages() -> list[dict[str, Any]] | str:
    """What pip-audit says of each package, or why it says nothing."""
    try:
        audit = subprocess.run(
            _COMMAND + _OPTIONS, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {TIMEOUT:.0f} s"
    try:
        found: list[dict[str, Any]] = json.loads(audit.stdout)["dependencies"]
    except ValueError:
        return (audit.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if all("skip_reason" in package for package in found):
        return f"the service knows none of {len(found)} packages"
    return found


def main() -> int:
    """0, or 1 for a vulnerability or an audit that should have known more."""
    found = packages()
    if isinstance(found, str):
        return _not_audited(found)
    known = [package for package in found if "skip_reason" not in package]
    vulnerable = [
        f"{package['name']} {package['version']}: {one['id']}, "
        f"mended in {', '.join(one['fix_versions']) or 'no version yet'}"
        for package in known
        for one in package["vulns"]
    ]
    missed = sorted(CORE & {package["name"] for package in found if package not in known})
    print(*vulnerable, sep="\n", end="\n" if vulnerable else "")
    count = f"{len(known)} packages, {len(found) - len(known)} more are unknown to the service"
    print(f"pip-audit: {len(vulnerable) or 'no'} known vulnerabilities in {count}")
    if missed:
        print(f"pip-audit: failed, the service should know {', '.join(missed)}")
    return 1 if vulnerable or missed else 0


def _not_audited(reason: str) -> int:
    is_required = os.environ.get("BLUESTREAK_AUDIT") == "required"
    remedy = "BLUESTREAK_AUDIT=required makes this a failure"
    lines = ["WARNING: NOTHING WAS AUDITED for known vulnerabilities", reason, remedy]
    rule = "!" * 78
    print(rule, *(f"!! {line}" for line in lines), rule, sep="\n")
    return 1 if is_required else 0


if __name__ == "__main__":
    sys.exit(main())

"""Looks up the packages of this environment in a list of known vulnerabilities, by pip-audit.

Fails for a vulnerability. Where the list cannot be had, as without a network, it says so and goes
on: what cannot be known must not keep anybody from checking the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

TIMEOUT = 60.0
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
    """0, or 1 for a vulnerability."""
    found = packages()
    if isinstance(found, str):
        print(f"pip-audit: not done, {found}")
        return 0
    known = [package for package in found if "skip_reason" not in package]
    vulnerable = [
        f"{package['name']} {package['version']}: {one['id']}, "
        f"mended in {', '.join(one['fix_versions']) or 'no version yet'}"
        for package in known
        for one in package["vulns"]
    ]
    print(*vulnerable, sep="\n", end="\n" if vulnerable else "")
    count = f"{len(known)} packages, {len(found) - len(known)} more are unknown to the service"
    print(f"pip-audit: {len(vulnerable) or 'no'} known vulnerabilities in {count}")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.chaos [--seconds 120] [--seed N] [--rate 40] [--markdown FILE] [--logs DIR]`.

Real workers on a real replica set; processes are killed and halted, servers killed, halted,
stepped down and partitioned, connections broken. Afterwards the evidence is audited. The status is
1 if a promise was not kept. A run takes some 20 s more than `--seconds`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.audit import Violation, audit
from tests.chaos.campaign import campaign
from tests.chaos.report import tables

_SHOWN = 20
"""Violations of a rule that are shown."""


def main() -> int:
    options = _parse()
    folder = options.logs or Path(tempfile.mkdtemp(prefix="bluestreak-chaos-"))
    folder.mkdir(exist_ok=True)
    _say(f"seed {options.seed}, {options.seconds:g} seconds of faults")
    logging.basicConfig(
        filename=folder / "client.log", level=logging.INFO, format="%(asctime)s %(message)s"
    )
    outcome = asyncio.run(campaign(options.seed, options.seconds, options.rate, folder))
    found = tables(outcome)
    for table in found:
        _say(f"\n{table.text()}")
    if options.markdown is not None:
        options.markdown.write_text("\n".join(table.markdown() for table in found))
    violations = audit(outcome.evidence)
    if violations:
        _say(f"\n{_account(violations)}\n\nseed {options.seed}; the workers' logs are in {folder}")
        return 1
    if options.logs is None:
        shutil.rmtree(folder)
    _say(f"\nnothing lost, nothing done twice, nothing early (seed {options.seed})")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long there are faults")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--rate", type=float, default=40, help="workflows started in a second")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="keep the tables in a file")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep the logs there")
    return parser.parse_args()


def _account(violations: Sequence[Violation]) -> str:
    """Each rule that was broken, with some of the cases."""
    lines = [f"{len(violations)} promises were not kept:"]
    for rule, count in Counter(violation.rule for violation in violations).most_common():
        cases = [violation for violation in violations if violation.rule == rule]
        lines.append(f"\n{rule}: {count} times not so")
        lines += [f"  {case.about}: {case.what}" for case in cases[:_SHOWN]]
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""A process of a fleet.

`python -m bluestreak_cli.child NAME LINK APP [--beat SECONDS] [--json] [--debug]`.
"""

from __future__ import annotations

import argparse
import sys

from bluestreak_cli.application import load_worker
from bluestreak_cli.command import guarded
from bluestreak_cli.event_loop import run_fast
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.link import linked
from bluestreak_cli.logs import set_up_logs
from bluestreak_cli.output import Output
from bluestreak_cli.running import work


def main() -> ExitCode:
    """Run a worker until a signal comes, or until the link to the fleet breaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("link", type=int)
    parser.add_argument("app")
    parser.add_argument("--beat", type=float)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--debug", action="store_true")
    given = parser.parse_args()

    async def run() -> ExitCode:
        bluestreak = load_worker(given.app)
        set_up_logs(as_json=given.json)
        tie = linked(given.link, given.name, bluestreak, given.beat)
        async with tie as link:
            return await work(given.name, bluestreak, link.ready)

    return guarded("worker", lambda: run_fast(run()), Output(as_json=given.json), debug=given.debug)


if __name__ == "__main__":
    sys.exit(main())

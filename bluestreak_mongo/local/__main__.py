"""Runs a server in the foreground: `python -m bluestreak_mongo.local --help`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING

from bluestreak_core.errors import InvalidArgument
from bluestreak_mongo.local.mongod import LocalMongoError
from bluestreak_mongo.local.server import LocalMongo

if TYPE_CHECKING:
    from collections.abc import Sequence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bluestreak_mongo.local",
        description="Run a MongoDB replica set on this machine until Ctrl-C, and print its URL.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--port",
        type=int,
        help="the port of the first member; the others get those after it (default: free ones)",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="keep the data in this folder (default: a temporary one, removed at the end)",
    )
    parser.add_argument(
        "--members", metavar="N", type=int, default=1, help="how many, 1 to 7 (default: 1)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the URL of a server, and run it until SIGINT or SIGTERM."""
    parser = _parser()
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with LocalMongo(members=given.members, port=given.port, data=given.data) as server:
            print(server.url, flush=True)  # noqa: T201 - this is a command
            while True:
                time.sleep(1)  # not pause(), which a signal just before it would not end
    except InvalidArgument as error:
        parser.error(str(error))
    except LocalMongoError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()

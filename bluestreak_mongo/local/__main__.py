"""Runs a server in the foreground: `python -m bluestreak_mongo.local`."""

import contextlib
import signal
import time

from bluestreak_mongo.local.server import LocalMongo

signal.signal(signal.SIGTERM, signal.default_int_handler)
with contextlib.suppress(KeyboardInterrupt), LocalMongo() as server:
    print(server.url, flush=True)  # noqa: T201 - this is a command
    while True:
        time.sleep(1)  # not pause(), which a signal just before it would not end

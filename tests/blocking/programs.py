"""Programs that use a blocking client: `python -m tests.blocking.programs NAME URL DATABASE`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from bluestreak_core import Client, ClientClosed
from bluestreak_core.blocking import BlockingClient
from bluestreak_memory import MemoryStore
from bluestreak_mongo import MongoStore


def forked(url: str, database: str) -> None:
    """As a server that imports the application, calls it, and then forks its workers."""
    client = BlockingClient(lambda: Client(MongoStore(url, database=database)))
    client.start("of the parent", "h", delay=3600)
    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            client.start(f"of child {number}", "h", delay=3600)
            client.close()
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.start("of the parent, later", "h", delay=3600)
    print(*sorted(summary.workflow_id for summary in client.list()), sep="\n")  # noqa: T201


def interrupted(url: str, database: str) -> None:
    """Ctrl-C while a call waits; the client goes on."""
    client = BlockingClient(lambda: Client(MemoryStore()))
    client.start("w", "h", delay=3600)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
    try:
        client.wait("w", timeout=600)
    except KeyboardInterrupt:
        print("interrupted", client.count()["idle"])  # noqa: T201


def forgotten(url: str, database: str) -> None:
    """The program ends while a thread waits, and closes nothing."""
    client = BlockingClient(lambda: Client(MongoStore(url, database=database)))
    client.start("w", "h", delay=3600)
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        with suppress(ClientClosed):
            client.wait("w", timeout=600)

    threading.Thread(target=wait, daemon=True).start()
    waiting.wait()
    print("the end")  # noqa: T201


PROGRAMS: dict[str, Callable[[str, str], None]] = {
    "forked": forked,
    "interrupted": interrupted,
    "forgotten": forgotten,
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])

"""console: pages behind a key, until a signal."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.cli.arrange import COMMAND, ROOT, SHOP, environment, error_of

pytestmark = pytest.mark.slow


@contextmanager
def serving(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A console of the shop in a process of its own, and its first line."""
    with subprocess.Popen(
        [*COMMAND, "console", SHOP, "--port", "0", *words],
        cwd=ROOT,
        env=environment({}),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def test_it_serves_pages_to_whoever_has_the_key_until_a_signal() -> None:
    with serving() as (process, line):
        name, _, address = line.strip().partition(": ")
        assert name == "console"
        with httpx.Client(follow_redirects=True) as browser:
            assert browser.get(address.partition("?")[0]).status_code == 403
            page = browser.get(address)
            assert page.status_code == 200
            assert "key=" not in str(page.url)
            assert "Overview" in page.text
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_ctrl_c_ends_it_also_while_a_page_is_open() -> None:
    with serving("--json", "--read-only") as (process, line):
        address = json.loads(line)["address"]
        with httpx.Client(follow_redirects=True) as browser:
            assert "read-only" in browser.get(address).text
            live = address.partition("?")[0] + "live"
            with browser.stream("GET", live) as stream:
                assert next(stream.iter_lines()) == "retry: 2000"
                process.send_signal(signal.SIGINT)
                assert process.wait() == 130


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = error_of("console", SHOP, "--port", port, code=2)
    assert f"cannot listen on 127.0.0.1 port {port}" in line
    assert "--port" in line

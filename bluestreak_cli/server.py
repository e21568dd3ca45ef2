"""The server behind the port of a worker.

It is answered by `http.server` in a thread, so that an event loop that is blocked can be seen from
outside. A probe a second and a scrape now and then need no more than that.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from typing_extensions import override

from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_cli.figures import merged
from bluestreak_cli.json_form import dumped
from bluestreak_cli.port import Address
from bluestreak_cli.standing import Verdict, Watched, judge_health, judge_readiness

logger = logging.getLogger("bluestreak_cli.port")

_LOOK_AROUND = 0.2
"""Seconds after which the thread notices at the latest that it should end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    text: str


_Routes = Mapping[str, Callable[[], _Answer]]


class Server:
    """An HTTP server in a thread of its own, from its making until `close`.

    Raises `CommandError` if the address cannot be had.
    """

    def __init__(self, address: Address, watched: Watched) -> None:
        self._server = _open(address, _routes(watched, address.hung_after))
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_LOOK_AROUND,),
            name="bluestreak port",
            daemon=True,
        )
        self._thread.start()
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        logger.info("port: http://%s:%d has /healthz, /readyz and /metrics", shown, port)

    def close(self) -> None:
        """Let go of the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _open(address: Address, routes: _Routes) -> _Server:
    host, port = address.host, address.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return _Server(found[0], routes)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = "take another one by --port, or end the program that has it"
            message = f"port {port} of {host} is in use"
        else:
            remedy = "give another --port or --host"
            message = f"port {port} of {host} cannot be opened: {error.strerror or error}"
        raise CommandError(message, remedy, ExitCode.REFUSED) from error


def _routes(watched: Watched, hung_after: float) -> _Routes:
    def metrics() -> _Answer:
        text = merged(watched.figures(), watched.standings(), hung_after)
        return _Answer(status=HTTPStatus.OK, content_type=CONTENT_TYPE_LATEST, text=text)

    return {
        "/healthz": lambda: _of(judge_health(watched.standings(), hung_after)),
        "/readyz": lambda: _of(judge_readiness(watched.standings(), hung_after)),
        "/metrics": metrics,
    }


def _of(verdict: Verdict) -> _Answer:
    status = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
    text = f"{dumped(asdict(verdict))}\n"
    return _Answer(status=status, content_type="application/json", text=text)


class _Server(ThreadingHTTPServer):
    allow_reuse_port = False  # a second command must notice that the port is taken

    def __init__(self, found: tuple[Any, ...], routes: _Routes) -> None:
        self.address_family = found[0]
        self.routes = routes
        super().__init__(found[4], _Request)

    @override
    def server_bind(self) -> None:
        """Bind without the look-up of this machine's name, which may take seconds."""
        TCPServer.server_bind(self)

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong, unless the client has only gone, or sent nothing."""
        is_usual = isinstance(sys.exception(), ConnectionError | TimeoutError)
        logger.log(
            logging.DEBUG if is_usual else logging.WARNING,
            "port: a request was not answered",
            exc_info=True,
        )


class _Request(BaseHTTPRequestHandler):
    server: _Server
    server_version = "bluestreak"
    sys_version = ""
    timeout = 10  # seconds, in which a client must have sent its request

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            known = ", ".join(self.server.routes)
            self.send_error(HTTPStatus.NOT_FOUND, explain=f"there are {known}")
            return
        answer = route()
        body = answer.text.encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("port: %s", format % args)

"""The port of the job: /healthz, /readyz and /metrics, for probes and for Prometheus. Read only, and never in the way of a lane.

Whatever callers do costs bounded memory, threads and time: at most MOST_CALLERS connections, each closed after
LONGEST_CALL_S. On a loopback address only requests for a local name are answered, so that no web page can read it
through a name of its own; on any other address errors are named by their class alone, for their words may name hosts.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, ClassVar, Final

from streaming import secrets
from streaming.config.sections import JobSection
from streaming.config.values import is_loopback
from streaming.errors import EnvironmentFailure
from streaming.monitor.health import Health

log = logging.getLogger(__name__)

MOST_CALLERS: Final = 16
LONGEST_CALL_S: Final = 10.0
#: How soon a port that is taken is asked for again.
_AGAIN_S: Final = 2.0

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
#: Prometheus' text format, as its client library writes it.
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"

Answer = tuple[int, str, bytes]


def answer(path: str, health: Health, metrics: Callable[[], bytes], *, words: bool) -> Answer:
    """Status, content type and body of an answer. `words`: whether errors are told in full."""
    match path.partition("?")[0]:
        case "/healthz":
            return (200, _TEXT, b"ok\n") if health.alive else (503, _TEXT, b"the job does not look at its lanes any more; restart it\n")
        case "/readyz":
            return 200 if health.ready else 503, _JSON, secrets.redact(json.dumps(health.report(words=words), indent=1)).encode() + b"\n"
        case "/metrics":
            return 200, _METRICS, metrics()
        case _:
            return 404, _TEXT, b"there are /healthz, /readyz and /metrics\n"


@contextmanager
def listening(settings: JobSection, health: Health, metrics: Callable[[], bytes]) -> Iterator[int | None]:
    """Answer on the configured port while the block runs; gives the port, None when there is none.

    A port that is taken keeps nobody from scoring. One that was asked for is waited for: whoever has it may be the job before this
    one. One that nobody asked for is passed over for the next. A warning says so. EnvironmentFailure when a port can never be had.
    """
    server = _open(settings, health, metrics)
    if server is None and not settings.asks_for_port:
        yield None
        return
    ended = threading.Event()

    def answer_calls() -> None:
        ready = server
        while ready is None and not ended.wait(_AGAIN_S):
            with suppress(OSError):
                ready = _Server((settings.host, settings.ports()[0]), health, metrics)
        if ready is not None:
            ready.answer_until(ended)

    thread = threading.Thread(target=answer_calls, name="job-endpoint", daemon=True)
    thread.start()
    try:
        yield settings.port if server is None else int(server.server_address[1])
    finally:
        ended.set()
        thread.join()


def _open(settings: JobSection, health: Health, metrics: Callable[[], bytes]) -> _Server | None:
    """The server on the first port that is free; None when none is now."""
    refused = ""
    for port in settings.ports():
        try:
            server = _Server((settings.host, port), health, metrics)
        except OSError as error:
            refused = refused or f"job.port: {settings.host} port {port}: {error.strerror or error}"
            if settings.asks_for_port and error.errno != errno.EADDRINUSE:
                raise EnvironmentFailure(f"{refused}; choose another job.host or job.port (--port), or null for none") from error
        else:
            if refused:
                log.warning("%s; this job answers on port %d instead: give each job a job.port (or --port) of its own", refused, port)
            return server
    if refused and settings.asks_for_port:
        log.warning("no health and no metrics until the port is free: %s; end who has it, or choose another job.port (--port)", refused)
    elif refused:
        log.warning("no health and no metrics: %s, nor on the %d ports behind it; set job.port", refused, len(settings.ports()) - 1)
    return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    #: How long it waits for a call before it looks after those that are there.
    timeout = 0.5
    # The threads end with their connections, which server_close does not wait for.
    block_on_close = False
    request_queue_size = 2 * MOST_CALLERS

    def __init__(self, at: tuple[str, int], health: Health, metrics: Callable[[], bytes]) -> None:
        family, _, _, _, address = socket.getaddrinfo(*at, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        self.local = is_loopback(at[0])
        self.answer: Callable[[str], Answer] = lambda path: answer(path, health, metrics, words=self.local)
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]

    def answer_until(self, ended: threading.Event) -> None:
        """Answer every call until the event is set, then close the port."""
        host, port = self.server_address[:2]
        at = f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"
        log.info("health=http://%s/readyz metrics=http://%s/metrics", at, at)
        with self:
            while not ended.is_set():
                self.handle_request()
                self.hang_up_on_the_slow()

    def server_bind(self) -> None:
        """Without asking the name service what this machine is called, which HTTPServer does and which may take its time."""
        TCPServer.server_bind(self)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Turn away whoever comes while too many are here."""
        with self._lock:
            if len(self._open) >= MOST_CALLERS:
                return False
            self._open[request] = time.monotonic()
            return True

    def hang_up_on_the_slow(self) -> None:
        """Close the connections that have been open for too long."""
        with self._lock:
            late = [request for request, since in self._open.items() if time.monotonic() - since > LONGEST_CALL_S]
        for request in late:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """A connection has ended, or was never let in."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller who hangs up is no event of the job's."""
        log.debug("a call to the health endpoint ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "streaming"
    sys_version = ""
    timeout: ClassVar[float] = LONGEST_CALL_S

    def do_GET(self) -> None:
        if self.server.local and not _is_local(self.headers.get("Host", "")):
            status, kind, body = 403, _TEXT, b"answers only to requests for a local name\n"
        else:
            status, kind, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come every few seconds; nobody wants a line for each."""


def _is_local(host: str) -> bool:
    """Whether a Host header names this machine; none at all is no browser's."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return not host or is_loopback(name)

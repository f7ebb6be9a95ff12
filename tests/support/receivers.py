"""A small real HTTP server that takes what is POSTed to it: a webhook's receiver, a collector of traces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Received:
    """What came, in order: path, headers, body. `answers`: the status of the next ones, `otherwise` when there is none."""

    port: int
    answers: list[int] = field(default_factory=list)
    otherwise: int = 200
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Keeps a request; the status to answer it with."""
        with self.lock:
            self.got.append((path, headers, body))
            return self.answers.pop(0) if self.answers else self.otherwise


@contextmanager
def receiving(*answers: int, otherwise: int = 200) -> Iterator[Received]:
    """A receiver on a free port of this machine, until the block ends. It answers with these statuses first, then with `otherwise`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = received.take(self.path, dict(self.headers), body)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received = Received(server.server_port, [*answers], otherwise)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

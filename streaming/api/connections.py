"""One connection: what it may send before anybody knows who it is, for how long, and how many there may be at once."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

#: Request line and headers together; a token, a trace and some cookies are far below.
MOST_HEAD_BYTES: Final = 1 << 15
MOST_HEADERS: Final = 100
#: How long a head may take from its first byte, and from the moment a connection stands.
HEAD_S: Final = 10.0
#: How long a whole request may take to come: longer than a route waits for its body, and answers with words.
REQUEST_S: Final = 40.0


class BoundedProtocol(HttpToolsProtocol):
    """The server's own protocol for one connection, within bounds.

    A head that is too long is refused with 431, one that does not come in time ends the connection. Of more connections
    than `most`, the one that has been idle longest makes room; when all are busy the new one gets 503.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        most: int,
        head_s: float = HEAD_S,
        request_s: float = REQUEST_S,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._most, self._head_s, self._request_s = most, head_s, request_s
        self._head_bytes = 0
        self._too_long = False
        #: When what is on its way must be complete; infinity when nothing is.
        self._due = math.inf
        self._last_use = 0.0
        self._was_closing = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection if there is room for it."""
        super().connection_made(transport)
        self._last_use = self.loop.time()
        self._due = self._last_use + self._head_s
        self._timer = self.loop.call_later(self._head_s, self._look)
        if len(self.connections) > self._most and not self._make_room():
            self._refuse(503, "too many connections; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before the request is known. Line ends without a request count as well: they keep a connection busy."""
        if self._due == math.inf:
            self._due = self.loop.time() + self._head_s
            self._head_bytes = 0
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"the head of the request is longer than {MOST_HEAD_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Of one that came in whole, with its request's end, the length counts too."""
        if len(self.headers) >= MOST_HEADERS or len(name) + len(value) > MOST_HEAD_BYTES:
            self._too_long = True
            raise ValueError("the head is too long")  # the parser stops, and `send_400_response` answers
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: from here on the gate counts the body."""
        self._head_bytes = -(1 << 62)
        self._due = self.loop.time() + self._request_s
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is there: from here on it is up to the answer."""
        self._due, self._last_use = math.inf, self.loop.time()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """The answer to what is no HTTP, or too much of it."""
        if self._too_long:
            self._refuse(431, f"more than {MOST_HEADERS} headers, or one longer than {MOST_HEAD_BYTES} bytes")
        else:
            super().send_400_response(msg)

    def _refuse(self, status: int, words: str) -> None:
        body = f'{{"error":"{words}"}}'.encode()
        reason = {431: b"Request Header Fields Too Large", 503: b"Service Unavailable"}[status]
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, reason, len(body)) + body)
        self.transport.close()

    def _idle(self) -> bool:
        return self._due == math.inf and (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def _make_room(self) -> bool:
        idle = [each for each in self.connections if isinstance(each, BoundedProtocol) and each is not self and each._idle()]
        if idle:
            min(idle, key=lambda each: each._last_use).transport.abort()
        return bool(idle)

    def _look(self) -> None:
        """End the connection when something is overdue, or when the other side does not even take the last bytes; else look again later."""
        now, closing = self.loop.time(), self.transport.is_closing()
        if now >= self._due or (closing and self._was_closing):
            self.transport.abort()
            return
        self._was_closing = closing
        self._timer = self.loop.call_later(min(max(self._due - now, 0.01), self._head_s), self._look)

    def timeout_keep_alive_handler(self) -> None:
        """Nobody asked anything more; an answer that was not even fetched by now never will be."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

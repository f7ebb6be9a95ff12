"""What every request passes before anything reads it: rate, token, host and size. What every answer passes: headers, metrics."""

from __future__ import annotations

import hmac
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streaming.api.metrics import Metrics
from streaming.api.replies import Refusal
from streaming.config.sections import Api
from streaming.config.values import is_loopback

log: Final = logging.getLogger(__name__)

#: Probes, and the files of the page: they hold no data, and the page is where a person types the token.
OPEN: Final = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/docs", "/favicon.ico"})
OPEN_FOLDER: Final = "/page/"
_PROBES: Final = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
#: Clients that are remembered; the one that asked longest ago is forgotten first, with a full bucket for it when it comes back.
_CLIENTS: Final = 10_000
_SECURITY: Final = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer")]


class Rate:
    """One token bucket per client: `per_second` tokens flow in, at most one second's worth is kept, each request takes one."""

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._size, self._clock = per_second, max(per_second, 1.0), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """0 when the client may ask now; otherwise how long until it may, in seconds. A refused request costs nothing."""
        now = self._clock()
        level, at = self._buckets.pop(client, (self._size, now))
        level = min(self._size, level + (now - at) * self._per_second)
        allowed = level >= 1.0
        self._buckets[client] = (level - 1.0 if allowed else level, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1.0 - level) / self._per_second


class Gate:
    """The ASGI application around all routes."""

    def __init__(self, app: ASGIApp, *, settings: Api, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._token = None if settings.token is None else settings.token.get_secret_value().encode()
        self._most = settings.max_body_bytes
        self._rate = None if settings.requests_per_second is None else Rate(settings.requests_per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it without reading its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_SECURITY]}
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal.response()(scope, receive, noting)
            else:
                await self._app(scope, self._limited(receive), noting)
        finally:
            endpoint = scope.get("endpoint")
            route = getattr(endpoint, "__name__", "none") if endpoint is not None else "none"
            self._metrics.answered(route=route, status=status, seconds=time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> Refusal | None:
        path, headers = scope["path"], scope["headers"]
        if self._rate is not None and path not in _PROBES:
            wait_s = self._rate.wait_s(scope["client"][0] if scope.get("client") else "")
            if wait_s > 0.0:
                return Refusal(429, "too many requests from this address; try again later", headers={"retry-after": str(math.ceil(wait_s))})
        token = length = host = b""
        for name, value in headers:
            if name == b"authorization":
                token = value
            elif name == b"content-length":
                length = value
            elif name == b"host":
                host = value
        if self._token is not None:
            if not (path in OPEN or path.startswith(OPEN_FOLDER)) and not self._known(token):
                words = "send the header Authorization: Bearer TOKEN with the service's token"
                return Refusal(401, words, headers={"www-authenticate": "Bearer"})
        elif not _is_local(host):
            # Without a token any web page could have its own name point here, and read the answers in its visitor's browser.
            return Refusal(403, "without a token this service answers only to localhost; ask for it by that name, or set api.token")
        if length and (not length.isdigit() or len(length) > 18 or int(length) > self._most):
            return too_large(self._most)
        return None

    def _known(self, header: bytes) -> bool:
        assert self._token is not None
        scheme, _, token = header.partition(b" ")
        return hmac.compare_digest(token.strip(), self._token) and scheme.lower() == b"bearer"

    def _limited(self, receive: Receive) -> Receive:
        """The same body, until it gets too long: a body without a length is counted while it comes."""
        left = self._most

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    raise too_large(self._most)
            return message

        return counted


def too_large(most: int) -> Refusal:
    """The answer to a body that is too long; the connection is closed, so that the rest of it is never read."""
    return Refusal(413, f"the body is longer than {most} bytes; send fewer rows at once", headers={"connection": "close"})


@lru_cache(maxsize=64)
def _is_local(host: bytes) -> bool:
    name = host.decode("latin-1")
    name = name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.rsplit(":", 1)[0] if ":" in name else name
    return not name or is_loopback(name)

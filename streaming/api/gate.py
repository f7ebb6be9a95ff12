"""What every request passes before anything reads it: rate, token and role, host, origin and size. What every answer passes: headers, metrics."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streaming.api.metrics import Metrics
from streaming.api.replies import Refusal
from streaming.api.tokens import Role, Tokens
from streaming.config.sections import Api
from streaming.config.values import is_loopback

log: Final = logging.getLogger(__name__)

#: Probes, and the files of the page: they hold no data, and the page is where a person types the token.
OPEN: Final = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/health", "/docs", "/favicon.ico"})
OPEN_FOLDER: Final = "/page/"
_PROBES: Final = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
#: Clients that are remembered; the one that asked longest ago is forgotten first, with a full bucket for it when it comes back.
_CLIENTS: Final = 10_000
_SECURITY: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
#: Nothing may run in an answer that is opened in a browser. Everything that the page needs comes from here.
_NOTHING_RUNS: Final = b"default-src 'none'; frame-ancestors 'none'"
_PAGE_RUNS: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
#: A browser that came by TLS once comes by nothing else for a year.
_ONLY_TLS: Final = (b"strict-transport-security", b"max-age=31536000")
#: Where :func:`caller` finds who asks.
_CALLER: Final = "streaming.caller"


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

    def __init__(self, app: ASGIApp, *, settings: Api, metrics: Metrics, tokens: Tokens) -> None:
        self._app, self._metrics, self._tokens = app, metrics, tokens
        headers = [*_SECURITY, _ONLY_TLS] if settings.tls is not None else _SECURITY
        self._headers = [*headers, (b"content-security-policy", _NOTHING_RUNS)]
        self._page_headers = [*headers, (b"content-security-policy", _PAGE_RUNS)]
        self._most = settings.max_body_bytes
        self._rate = None if settings.requests_per_second is None else Rate(settings.requests_per_second)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it without reading its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        added = self._page_headers if _is_page(scope["path"]) else self._headers

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
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
        token = length = host = origin = site = b""
        body = False
        for name, value in headers:
            if name == b"authorization":
                token = value
            elif name == b"content-length":
                length, body = value, body or value != b"0"
            elif name == b"transfer-encoding":
                body = True
            elif name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        refusal = self._stranger(scope, token, host) or _foreign_page(scope["method"], origin, site, host)
        if refusal is None and length and (not length.isdigit() or len(length) > 18 or int(length) > self._most):
            refusal = too_large(self._most)
        if refusal is not None and body:
            refusal.headers["connection"] = "close"  # the body is never read, and must not keep the connection busy
        return refusal

    def _stranger(self, scope: Scope, token: bytes, host: bytes) -> Refusal | None:
        """Why the one who asks may not, or None; who it is stands in the scope from here on."""
        path = scope["path"]
        if not self._tokens:
            # Without a token any web page could have its own name point here, and read the answers in its visitor's browser.
            words = "without a token this service answers only to localhost; ask for it by that name, or set api.token"
            return None if _is_local(host) else Refusal(403, words)
        caller = scope[_CALLER] = self._tokens.caller(token)
        if path in OPEN or path.startswith(OPEN_FOLDER):
            return None
        if caller is None:
            words = "send the header Authorization: Bearer TOKEN with the service's token"
            return Refusal(401, words, headers={"www-authenticate": "Bearer"})
        role = needed(scope["method"], path)
        return None if role in caller.roles else Refusal(403, f"this token may not {role}; its roles: {', '.join(sorted(caller.roles))}")

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


def needed(method: str, path: str) -> Role:
    """The role that a request takes."""
    return "reload" if path.rstrip("/").endswith(":reload") else "read" if method in {"GET", "HEAD", "OPTIONS"} else "predict"


def caller(scope: Scope) -> str | None:
    """The name of the token that was shown; None when none was, or none that is known."""
    known = scope.get(_CALLER)
    return None if known is None else str(known.name)


def actor(scope: Scope) -> str:
    """Who asks, for the record: the token's name, or the address where there are no tokens."""
    client = scope.get("client")
    return caller(scope) or f"anonymous@{client[0] if client else 'unknown'}"


def _is_page(path: str) -> bool:
    return path in {"/", "/health", "/docs", "/favicon.ico"} or path.startswith(OPEN_FOLDER)


def _foreign_page(method: str, origin: bytes, site: bytes, host: bytes) -> Refusal | None:
    """A page of another origin may send here in its visitor's name, though not read the answer: nothing may come of it."""
    if method in {"GET", "HEAD", "OPTIONS"}:
        return None
    # Browsers say it themselves, whatever a proxy made of the host's name; older ones send the origin alone.
    same = site in {b"same-origin", b"none"} if site else not origin or urlsplit(origin.decode("latin-1")).netloc.encode("latin-1") == host
    return None if same else Refusal(403, "this was sent by a page of another origin; only this service's own page may")


def too_large(most: int) -> Refusal:
    """The answer to a body that is too long; the connection is closed, so that the rest of it is never read."""
    return Refusal(413, f"the body is longer than {most} bytes; send fewer rows at once", headers={"connection": "close"})


@lru_cache(maxsize=64)
def _is_local(host: bytes) -> bool:
    name = host.decode("latin-1")
    name = name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.rsplit(":", 1)[0] if ":" in name else name
    return not name or is_loopback(name)

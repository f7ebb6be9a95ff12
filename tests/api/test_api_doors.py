"""What the service bears from strangers: heads, connections and pages of others; and what each token opens."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from streaming import secrets
from streaming.api import connections
from streaming.api.app import create_app
from streaming.api.connections import BoundedProtocol
from streaming.api.routes_stored import BoundedLookup
from streaming.api.served import Models
from streaming.api.server import configured
from streaming.config.sections import Api
from streaming.errors import StoreUnavailable
from tests.support.api_server import bearer, connected, rest_of, serving
from tests.support.churn_models import ROW, churn

TOKEN = "a-token-of-some-length"
BODY = json.dumps({"instance": ROW}).encode()
MOST = 4


@pytest.fixture(scope="module")
def bounded() -> Iterator[httpx.Client]:
    """A service with short times and few connections."""
    settings = Api(token=TOKEN, requests_per_second=None)  # type: ignore[arg-type]
    app = create_app(Models.fixed(churn()), None, settings)
    setup = configured(app, settings)
    setup.http = partial(BoundedProtocol, most=MOST, head_s=0.4, request_s=1.0)  # type: ignore[assignment]
    with serving(app, setup) as client:
        yield client


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b""),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X: y\r\n"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n"),
        (b"POST /v1/models/churn:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b" "),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b" "),
    ],
    ids=["nothing", "half a head", "line ends", "half a body without a token", "half a body nobody reads"],
)
def test_what_is_sent_by_halves_is_hung_up_on(bounded: httpx.Client, first: bytes, again: bytes) -> None:
    """A byte now and then does not keep the connection."""
    with connected(bounded) as connection:
        ended = threading.Event()

        def drip() -> None:
            while again and not ended.wait(0.05):
                try:
                    connection.sendall(again)
                except OSError:
                    return

        connection.sendall(first)
        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            rest_of(connection)  # returns: the server hung up
        finally:
            ended.set()
            dripping.join()
    assert bounded.get("/healthz").status_code == 200


@pytest.mark.parametrize("piece", [b"X: " + b"y" * 1000 + b"\r\n", b"X: y\r\n", b"X: " + b"y" * 100_000, b"GET /" + b"a" * 100_000])
def test_a_head_without_end_is_refused(bounded: httpx.Client, piece: bytes) -> None:
    sent = 0
    with connected(bounded) as connection:
        if not piece.startswith(b"GET"):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        try:
            while sent < 40_000_000:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        said = rest_of(connection)
    assert sent < 10_000_000  # what two sockets hold
    assert said[:12] in {b"HTTP/1.1 431", b"HTTP/1.1 400", b""}  # the kernel may have dropped it with the reset


def test_a_head_that_is_too_long_but_complete_is_refused(bounded: httpx.Client) -> None:
    for headers in ({"x": "y" * (connections.MOST_HEAD_BYTES + 1)}, {f"x{i}": "y" for i in range(connections.MOST_HEADERS + 1)}):
        refused = bounded.get("/healthz", headers=headers)
        assert refused.status_code == 431
        assert "head" in refused.json()["error"]
    assert bounded.get("/healthz", headers={"x": "y" * 20_000}).status_code == 200


def test_of_too_many_connections_the_idle_ones_make_room_and_busy_ones_do_not(bounded: httpx.Client) -> None:
    open_ = [connected(bounded) for _ in range(MOST)]
    try:
        for each in open_:
            each.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert each.recv(4096).startswith(b"HTTP/1.1 200")
        assert bounded.get("/healthz").status_code == 200  # the one that was idle longest is gone
        assert rest_of(open_[0]) == b""
    finally:
        for each in open_:
            each.close()
    busy = [connected(bounded) for _ in range(MOST + 1)]
    try:
        for each in busy:
            each.sendall(b"POST /healthz HTTP/1.1\r\n")
        with connected(bounded) as late:
            late.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert rest_of(late)[:12] in {b"HTTP/1.1 503", b""}
    finally:
        for each in busy:
            each.close()
    deadline = time.monotonic() + 20
    while True:  # and when they are gone everybody is answered again
        try:
            assert bounded.get("/healthz").status_code == 200
        except (httpx.TransportError, AssertionError):
            assert time.monotonic() < deadline
        else:
            break


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "https://behind.a.proxy"}, 200),
        ({}, 200),
    ],
)
def test_a_page_of_another_origin_may_not_reload(headers: dict[str, str], status: int) -> None:
    with serving(create_app(Models.fixed(churn()), None, Api())) as client:
        assert client.post("/v1/models/churn:reload", headers=headers).status_code == status
        assert client.post("/v1/models/churn:predict", content=BODY, headers=headers).status_code == status
        assert client.get("/healthz", headers=headers).status_code == 200


def test_the_own_page_may_reload(bounded: httpx.Client) -> None:
    origin = str(bounded.base_url).rstrip("/")
    assert bounded.post("/v1/models/churn:reload", headers=bearer(TOKEN) | {"origin": origin}).status_code == 200


def test_names_and_versions_are_not_for_strangers(bounded: httpx.Client) -> None:
    assert bounded.get("/readyz").json() == {"ready": True, "store": "none"}
    assert bounded.get("/readyz", headers=bearer("wrong")).json() == {"ready": True, "store": "none"}
    assert bounded.get("/readyz", headers=bearer(TOKEN)).json()["models"] == {"churn": "7"}


def test_no_answer_may_run_anything_but_the_pages_own_files(bounded: httpx.Client) -> None:
    pages = ("/", "/docs", "/page/index.html", "/page/docs.html", "/page/page.js")
    for path in (*pages, "/healthz", "/v1/models", "/nothing"):
        headers = bounded.get(path, headers=bearer(TOKEN)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'"), path
        assert "unsafe" not in headers["content-security-policy"]
        assert ("script-src 'self'" in headers["content-security-policy"]) == (path in pages)
        assert headers["x-frame-options"] == "DENY"


class Hanging:
    """A store that does not answer until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def get(self, key: str) -> list[dict[str, object]]:
        self.go.wait(30)
        return [{"key": key}]


def test_a_store_that_hangs_is_unavailable_in_time_and_others_wait_no_longer() -> None:
    store = Hanging()

    async def ask() -> list[object]:
        bounded = BoundedLookup(store, at_once=1, seconds=0.3)
        try:
            return await asyncio.gather(*(bounded.get("k") for _ in range(3)), return_exceptions=True)
        finally:
            store.go.set()

    answers = asyncio.run(ask())
    assert [type(each) for each in answers] == [StoreUnavailable] * 3
    assert "no answer within" in str(answers[0])


def test_an_answer_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_process", secrets.Redactor())
    secrets.remember("hush-hush-hush")

    class Telling:
        def get(self, key: str) -> list[dict[str, object]]:
            raise StoreUnavailable("postgres: hush-hush-hush")

    with serving(create_app(Models.fixed(churn()), Telling(), Api())) as client:
        refused = client.get("/v1/predictions/k")
        assert (refused.status_code, refused.json()["error"]) == (503, "the store does not answer: postgres: ***")
        assert "hush" not in client.post("/v1/models/churn:predict", content=b'{"instance": {"hush-hush-hush": 1}}').text
        assert "hush" not in client.get("/metrics").text

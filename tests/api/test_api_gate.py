"""Who may ask, how often and how much: refused before anything of the request is read."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from pydantic import ValidationError

from streaming.api.app import create_app
from streaming.api.gate import Rate
from streaming.api.served import Models
from streaming.config.sections import Api
from streaming.config.values import is_loopback
from tests.support.api_server import serving
from tests.support.churn_models import ROW, churn

TOKEN = "a-token-of-some-length"
BODY = json.dumps({"instance": ROW}).encode()


@pytest.fixture(scope="module")
def guarded() -> Iterator[httpx.Client]:
    settings = Api(token=TOKEN, max_body_bytes=20_000)  # type: ignore[arg-type]
    with serving(create_app(Models.fixed(churn()), None, settings)) as client:
        yield client


def test_every_route_but_probes_and_page_needs_the_token(guarded: httpx.Client) -> None:
    for path in ("/v1/models", "/v1/predictions/x", "/metrics", "/openapi.json", "/v2", "/v2/models/churn", "/nothing"):
        refused = guarded.get(path)
        assert (path, refused.status_code, refused.headers["www-authenticate"]) == (path, 401, "Bearer")
    for path in ("/v1/models/churn:predict", "/v1/models/churn:explain", "/v1/models/churn:reload", "/v2/models/churn/infer"):
        assert guarded.post(path, content=BODY).status_code == 401
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/docs", "/page/page.js"):
        assert (path, guarded.get(path).status_code) == (path, 200)


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"])
def test_a_wrong_token_is_refused(guarded: httpx.Client, header: str) -> None:
    assert guarded.get("/v1/models", headers={"authorization": header}).status_code == 401


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}"])
def test_the_token_opens_every_route(guarded: httpx.Client, header: str) -> None:
    given = {"authorization": header, "host": "scoring.example"}
    assert guarded.post("/v1/models/churn:predict", content=BODY, headers=given).status_code == 200
    assert guarded.get("/openapi.json", headers=given).json()["openapi"].startswith("3.")


def test_without_a_token_only_local_names_are_answered() -> None:
    with serving(create_app(Models.fixed(churn()), None, Api())) as client:
        for host, status in (
            ("localhost:8000", 200),
            ("127.0.0.1", 200),
            ("[::1]:8000", 200),
            ("evil.example", 403),
            ("127.0.0.1.evil", 403),
        ):
            assert (host, client.get("/v1/models", headers={"host": host}).status_code) == (host, status)


def test_a_body_that_says_it_is_too_long_is_refused_before_it_comes(guarded: httpx.Client) -> None:
    address = (guarded.base_url.host, guarded.base_url.port)
    head = f"POST /v1/models/churn:predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 50000000\r\n\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head.encode())  # and nothing of the body
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_without_a_length_is_counted_while_it_comes(guarded: httpx.Client) -> None:
    address = (guarded.base_url.host, guarded.base_url.port)
    head = f"POST /v1/models/churn:predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent, chunk = 0, b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    answer = b""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head.encode())
        try:
            while sent < 50_000_000:  # the service hangs up long before
                connection.sendall(chunk)
                sent += len(chunk)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            answer = connection.recv(4096)
        except ConnectionResetError:
            answer = b"reset"
    assert sent < 20_000_000
    assert answer.startswith(b"HTTP/1.1 413") or answer in {b"", b"reset"}  # what the kernel kept of the answer after the reset
    assert guarded.get("/healthz").status_code == 200


def test_a_body_just_short_enough_is_read(guarded: httpx.Client) -> None:
    given = {"authorization": f"Bearer {TOKEN}"}
    assert guarded.post("/v1/models/churn:predict", content=BODY.ljust(20_000), headers=given).status_code == 200
    assert guarded.post("/v1/models/churn:predict", content=BODY.ljust(20_001), headers=given).status_code == 413

    def chunks() -> Iterator[bytes]:
        yield BODY
        yield b" " * 20_000

    assert guarded.post("/v1/models/churn:predict", content=chunks(), headers=given).status_code == 413


def test_a_client_that_asks_too_often_is_told_when_to_come_back() -> None:
    settings = Api(requests_per_second=0.1)
    with serving(create_app(Models.fixed(churn()), None, settings)) as client:
        assert client.get("/v1/models").status_code == 200
        refused = client.get("/v1/models")
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert client.get("/healthz").status_code == 200  # probes are never refused
        assert 'status="429"' not in client.get("/readyz").text


def test_the_bucket_refills_and_clients_do_not_share_it() -> None:
    now = 0.0
    rate = Rate(2.0, clock=lambda: now)
    assert [rate.wait_s("a") for _ in range(2)] == [0.0, 0.0]
    assert rate.wait_s("a") == pytest.approx(0.5)
    assert rate.wait_s("b") == 0.0
    now = 0.5
    assert rate.wait_s("a") == 0.0
    assert rate.wait_s("a") == pytest.approx(0.5)
    now = 1000.0
    assert [rate.wait_s("a") == 0.0 for _ in range(3)] == [True, True, False]


def test_the_bucket_forgets_old_clients() -> None:
    rate = Rate(1.0, clock=lambda: 0.0)
    for client in range(20_000):
        rate.wait_s(str(client))
    assert len(rate._buckets) == 10_000
    assert rate.wait_s("19999") > 0.0


def test_the_page_may_run_nothing_but_its_own_files(guarded: httpx.Client) -> None:
    for path in ("/", "/docs"):
        headers = guarded.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        text = guarded.get(path).text
        assert "://" not in text
        assert "<style" not in text
        assert " style=" not in text
    assert guarded.get("/page/../app.py").status_code == 401  # a path of its own, not a way out of the folder
    assert guarded.get("/page/%2e%2e/app.py").status_code in {401, 404}


def test_an_open_address_needs_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "scoring.example"):
        with pytest.raises(ValidationError, match="token: missing; host"):
            Api(host=host)
        assert Api(host=host, token=TOKEN).host == host  # type: ignore[arg-type]
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "example.org", "")))


@pytest.mark.parametrize("token", ["short", "with a space in between", "umlaute-äöüäöüäöüäöü"])
def test_a_weak_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Api(token=token)  # type: ignore[arg-type]
    assert token not in str(refused.value)

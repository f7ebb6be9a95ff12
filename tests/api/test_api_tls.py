"""The service's own certificate: shown, exchanged while it runs, and never broken."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from streaming.api.app import create_app
from streaming.api.certificate import Certificate
from streaming.api.served import Models
from streaming.api.server import configured
from streaming.config.sections import Api, Tls
from streaming.errors import ConfigError
from tests.support.api_server import bearer, connected, rest_of, serving
from tests.support.churn_models import ROW, churn

TOKEN = "a-token-of-some-length"
BODY = json.dumps({"instance": ROW}).encode()


def pair(folder: Path, name: str) -> Tls:
    """A certificate for this machine that signs itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "new-key", "-out", folder / "new-cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    os.replace(folder / "new-key", key)  # noqa: PTH105
    os.replace(folder / "new-cert", cert)  # noqa: PTH105
    return Tls(cert=str(cert), key=str(key))


def shown(client: httpx.Client) -> bytes:
    """The certificate that a new connection gets."""
    return ssl.get_server_certificate((client.base_url.host, client.base_url.port)).encode()


def test_it_speaks_tls_and_takes_a_new_certificate_up_while_it_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = pair(tmp_path, "one")
    settings = Api(token=TOKEN, tls=files)  # type: ignore[arg-type]
    certificate = Certificate(files)
    app = create_app(Models.fixed(churn()), None, settings)
    setup = configured(app, settings)
    certificate.install(setup)
    with serving(app, setup, scheme="https", verify=files.cert) as client:
        answer = client.post("/v1/models/churn:predict", content=BODY, headers=bearer(TOKEN))
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        first = Path(files.cert).read_bytes()
        assert shown(client).split() == first.split()
        Path(files.cert).write_text("half a certificate")
        certificate.look()
        assert shown(client).split() == first.split()
        pair(tmp_path, "two")
        certificate.look()
        assert shown(client).split() == Path(files.cert).read_bytes().split() != first.split()
        assert client.get("/healthz").status_code == 200  # on the connection there was
        with connected(client) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in rest_of(plain)
    assert "the certificate before stays in force" in caplog.text


def test_a_certificate_that_does_not_fit_stops_the_start(tmp_path: Path) -> None:
    files = pair(tmp_path, "one")
    with pytest.raises(ConfigError, match=r"api\.tls: .*gone\.pem .*no pair of certificate and key: No such file"):
        Certificate(Tls(cert=str(tmp_path / "gone.pem"), key=files.key))
    with pytest.raises(ConfigError, match="no pair of certificate and key"):
        Certificate(Tls(cert=files.cert, key=files.cert))

"""What each token opens, and how tokens are exchanged while the service runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from streaming.api.app import create_app
from streaming.api.served import Models
from streaming.api.tokens import Tokens
from streaming.config.sections import Api
from streaming.errors import ConfigError
from tests.support.api_server import bearer, serving
from tests.support.churn_models import ROW, churn

TOKEN = "a-token-of-some-length"
BODY = json.dumps({"instance": ROW}).encode()


def tokens_file(folder: Path, *entries: dict[str, object]) -> Path:
    path = folder / "tokens.yaml"
    new = folder / "new"
    new.write_text(yaml.safe_dump(list(entries)))
    new.replace(path)
    return path


def test_a_token_opens_what_its_roles_say(tmp_path: Path) -> None:
    hashed = hashlib.sha256(b"ops-token-0123456789").hexdigest()
    path = tokens_file(
        tmp_path,
        {"name": "page", "roles": ["read"], "token": "page-token-0123456789"},
        {"name": "shop", "roles": ["predict"], "token": "shop-token-0123456789"},
        {"name": "ops", "roles": ["reload"], "sha256": hashed},
    )
    settings = Api(token=TOKEN, tokens=str(path))  # type: ignore[arg-type]
    with serving(create_app(Models.fixed(churn()), None, settings)) as client:
        asked = {
            "read": lambda who: client.get("/v1/models", headers=who).status_code,
            "metrics": lambda who: client.get("/metrics", headers=who).status_code,
            "predict": lambda who: client.post("/v1/models/churn:predict", content=BODY, headers=who).status_code,
            "explain": lambda who: client.post("/v1/models/churn:explain", content=BODY, headers=who).status_code,
            "reload": lambda who: client.post("/v1/models/churn:reload", headers=who).status_code,
        }
        for token, may in {
            "page-token-0123456789": {"read", "metrics"},
            "shop-token-0123456789": {"predict", "explain"},
            "ops-token-0123456789": {"reload"},
            TOKEN: set(asked),
        }.items():
            assert {name for name, ask in asked.items() if ask(bearer(token)) == 200} == may, token
        refused = client.post("/v1/models/churn:reload", headers=bearer("shop-token-0123456789"))
        assert (refused.status_code, refused.json()["error"]) == (403, "this token may not reload; its roles: predict")
        assert client.get("/v1/models", headers=bearer(hashed)).status_code == 401  # the digest is no token


def test_tokens_are_exchanged_while_the_service_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = ({"name": "shop", "roles": ["read"], "token": f"{word}-token-0123456789"} for word in ("first", "second"))
    tokens = Tokens(Api(tokens=str(tokens_file(tmp_path, first))))

    def open_to() -> list[str]:
        tokens.look()
        return [word for word in ("first", "second") if tokens.caller(f"Bearer {word}-token-0123456789".encode())]

    assert open_to() == ["first"]
    path = tokens_file(tmp_path, first, second)
    assert open_to() == ["first", "second"]
    tokens_file(tmp_path, second)
    assert open_to() == ["second"]
    path.write_text("- {name: x, token: half-a-line-with-a-secr")
    assert open_to() == ["second"]  # half a file opens and closes nothing
    path.unlink()
    assert open_to() == ["second"]
    tokens_file(tmp_path, first)
    assert open_to() == ["first"]
    assert "half-a-line" not in caplog.text
    assert caplog.text.count("the tokens before stay in force") == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {name: x, roles: [read], token: short-secret}", "at least 16"),
        ("- {name: x, roles: [write], token: a-token-0123456789}", "'read', 'predict' or 'reload'"),
        ("- {name: x, roles: [], token: a-token-0123456789}", "roles"),
        ("- {name: x, roles: [read]}", "either token or sha256"),
        ("a-token-0123456789", "expected a list"),
        ("[]", "no token"),
        ("- {name: a, roles: [read], token: a-token-0123456789}\n- {name: b, roles: [read], token: a-token-0123456789}", "the same token"),
        ("- {name: 'a-token-0123456789", "not valid YAML"),
    ],
)
def test_a_file_of_tokens_that_is_wrong_stops_the_start_and_shows_no_token(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as refused:
        Tokens(Api(tokens=str(path)))
    assert "a-token-0123456789" not in str(refused.value)
    assert "short-secret" not in str(refused.value)


def test_an_open_address_is_content_with_a_file_of_tokens() -> None:
    assert Api(host="0.0.0.0", tokens="tokens.yaml").tokens == "tokens.yaml"
    with pytest.raises(ValidationError, match="or tokens: FILE"):
        Api(host="0.0.0.0")

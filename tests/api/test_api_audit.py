"""What the API leaves in the audit log: each look for a new version, and the counts of each caller."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streaming.api.app import create_app
from streaming.api.served import Models, Served
from streaming.api.trail import EVERY_S, Trail
from streaming.config.sections import Api
from streaming.errors import StateError
from streaming.runtime.audit import AuditLog, verify
from tests.support.api_server import serving
from tests.support.churn_models import ROW, churn

TOKEN = "a-token-of-some-length"


class Exchanged:
    """A source whose version a test sets."""

    def __init__(self) -> None:
        self.served: Served | Exception = replace(churn(), version="1")

    def mark(self) -> str:
        return ""

    def load(self) -> Served:
        if isinstance(self.served, Exception):
            raise self.served
        return self.served


def records(log: AuditLog) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.lines()]


def test_who_reloaded_and_who_predicted_is_recorded(tmp_path: Path) -> None:
    log, source = AuditLog(tmp_path / "audit.jsonl"), Exchanged()
    settings = Api(token=TOKEN)  # type: ignore[arg-type]
    with serving(create_app(Models({"churn": source}), None, settings, audit=log)) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        source.served = replace(churn(), version="2")
        assert client.post("/v1/models/churn:reload").status_code == 200
        source.served = StateError("broken")
        assert client.post("/v1/models/churn:reload").status_code == 409
        for _ in range(3):
            assert client.post("/v1/models/churn:predict", json={"instances": [ROW, {**ROW, "tenure": None}]}).status_code == 200
    begun, reloaded, _, refused, predicted = records(log)
    assert [begun[name] for name in ("action", "actor", "before", "result")] == ["reload", "api.token", "1", "begun"]
    assert [reloaded[name] for name in ("before", "after", "result")] == ["1", "2", "done"]
    assert [refused[name] for name in ("before", "after", "result")] == ["2", "2", "refused: broken"]
    assert [predicted[name] for name in ("action", "actor", "about", "requests", "rows", "errors")] == [
        "predict", "api.token", "model churn version 2", 3, 6, 3,
    ]  # fmt: skip
    assert verify(log).broken == ()


def test_nothing_is_reloaded_that_cannot_be_recorded_and_predictions_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = Exchanged()
    with serving(create_app(Models({"churn": source}), None, Api(), audit=AuditLog(tmp_path / "file" / "audit.jsonl"))) as client:
        source.served = replace(churn(), version="2")
        refused = client.post("/v1/models/churn:reload")
        assert (refused.status_code, "what is not recorded is not done" in refused.json()["error"]) == (503, True)
        (answer,) = client.post("/v1/models/churn:predict", json={"instance": ROW}).json()["predictions"]
        assert answer["model_version"] == "1"


def test_requests_become_a_line_for_each_caller_once_a_minute(tmp_path: Path) -> None:
    now = 0.0
    log, served = AuditLog(tmp_path / "audit.jsonl"), churn()
    trail = Trail(log, clock=lambda: now)
    for actor in ("shop", "shop", "desk"):
        trail.predicted(actor, served, [{}, {"error": "x"}])
    assert not trail.due()
    now = EVERY_S
    assert trail.due()
    trail.flush()
    assert not trail.due()
    trail.flush()
    assert [(each["actor"], each["requests"], each["rows"]) for each in records(log)] == [("shop", 2, 4), ("desk", 1, 2)]


@pytest.mark.parametrize("log", [None])
def test_without_a_log_nothing_is_kept(log: None) -> None:
    trail = Trail(log)
    trail.predicted("shop", churn(), [{}])
    assert not trail.due()

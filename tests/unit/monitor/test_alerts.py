"""When an alert is raised, when it is over, what it says, who is told, and what it must never say."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from streaming.config.monitoring import Alerts, Rule, Silence, Webhook
from streaming.errors import ConfigError
from streaming.monitor import alerts, overview, webhook
from streaming.monitor.alerts import Alert, Memory, Raised, Service
from streaming.monitor.record import Measure, Record
from tests.support.receivers import Received, receiving

SERVICE = Service("svc", "churn", "conf.yaml")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def record(number: int, value: float, *, revision: int = 0, judged: bool = True, sure: bool = True, kind: str = "feature") -> Record:
    figure = Measure(kind, "tenure", "psi", value, threshold=0.1, p=1e-9 if sure else 0.5, rows=500, drifted=value >= 0.1 and sure)
    return Record(number * 1000, number * 1000 + 1000, revision, "7", number * 1000, judged, (figure,))


def run(values: list[float], rule: Rule, *, silence: tuple[Silence, ...] = (), now: datetime = NOON) -> list[tuple[int, str]]:
    """(window, state) of each alert that is told."""
    memory: dict[str, Memory] = {}
    told = []
    for number, value in enumerate(values):
        outcome = alerts.judge(record(number, value), (rule,), memory, SERVICE, silence=silence, now=now)
        memory = {on: Memory.from_json(json.loads(json.dumps(m.to_json()))) for on, m in outcome.memory.items()}
        told += [(number, alert.state) for alert in outcome.alerts]
    return told


@pytest.mark.parametrize(
    ("values", "changes", "told"),
    [
        ([0, 0.2, 0.2, 0.2], {}, [(1, "raised")]),
        ([0, 0.2, 0, 0, 0], {}, [(1, "raised"), (3, "over")]),
        # Between 80 % of the threshold and the threshold nothing changes: no flapping.
        ([0.2, 0.09, 0.2, 0.09, 0.09, 0.09], {}, [(0, "raised")]),
        ([0.2, 0, 0.09, 0, 0], {}, [(0, "raised"), (4, "over")]),
        ([0.2, 0, 0.2, 0, 0], {"after": 2}, []),
        ([0.2, 0.2, 0, 0.2, 0.2], {"after": 2, "clear_after": 1}, [(1, "raised"), (2, "over"), (4, "raised")]),
    ],
)
def test_raised_once_and_over_once(values: list[float], changes: dict[str, Any], told: list[tuple[int, str]]) -> None:
    assert run(values, Rule(on="data_drift", **changes)) == told


def judge(record: Record, memory: dict[str, Memory] | None = None) -> Raised:
    return alerts.judge(record, (Rule(on="data_drift"),), memory or {}, SERVICE, now=NOON)


def test_a_revision_of_the_newest_window_may_raise_but_never_ends_and_an_older_one_says_nothing() -> None:
    quiet = judge(record(5, 0.0))
    raised = judge(record(5, 0.3, revision=1), dict(quiet.memory))
    assert [a.state for a in raised.alerts] == ["raised"]
    assert judge(record(5, 0.3, revision=2), dict(raised.memory)).alerts == ()
    calm = judge(record(5, 0.0, revision=3), dict(raised.memory))
    assert calm.alerts == ()
    assert calm.memory["data_drift"].raised
    assert judge(record(4, 0.9, revision=4), dict(quiet.memory)).alerts == ()


def test_a_window_that_says_nothing_changes_nothing() -> None:
    raised = judge(record(1, 0.3))
    for silent in (record(2, 0.0, judged=False), record(2, 0.0, kind="quality")):
        outcome = judge(silent, dict(raised.memory))
        assert outcome.memory == raised.memory
    assert judge(record(2, 9.0, sure=False)).alerts == ()


def test_an_alert_says_what_since_when_how_sure_which_version_and_what_next() -> None:
    first = judge(record(3, 0.3))
    alert = alerts.judge(record(4, 0.0), (Rule(on="data_drift", clear_after=1),), first.memory, SERVICE, now=NOON).alerts[0]
    said = first.alerts[0].to_json()
    assert (said["id"], said["since"], said["model_version"], said["severity"]) == (
        "data_drift-3000",
        "1970-01-01T00:00:03.000Z",
        "7",
        "warning",
    )
    assert said["says"] == "data drift: tenure (psi 0.3, threshold 0.1, by chance 1e-09)"
    assert said["next"] == "streaming drift conf.yaml --window 1970-01-01T00:00:03.000Z"
    assert said["figures"][0]["subject"] == "tenure"
    assert (alert.id, alert.state, alert.since) == ("data_drift-3000", "over", said["since"])


NIGHT = Silence.model_validate({"from": "22:00", "until": "06:00"})


@pytest.mark.parametrize(("hour", "quiet"), [(21, False), (22, True), (3, True), (6, False)])
def test_a_night_that_is_silenced_goes_over_midnight(hour: int, quiet: bool) -> None:
    assert alerts.silenced("quality", [NIGHT], NOON.replace(hour=hour)) is quiet


def test_dates_and_subjects_of_a_silence() -> None:
    once = Silence.model_validate({"from": "2026-05-01T11:00:00Z", "until": "2026-05-01T13:00:00", "on": ["quality"]})
    assert alerts.silenced("quality", [once], NOON)
    assert not alerts.silenced("data_drift", [once], NOON)
    assert not alerts.silenced("quality", [once], NOON.replace(hour=13))


def test_what_was_raised_in_a_silence_is_told_when_it_ends_if_it_still_is() -> None:
    rule = Rule(on="data_drift")
    night = alerts.judge(record(1, 0.3), (rule,), {}, SERVICE, silence=(NIGHT,), now=NOON.replace(hour=23))
    assert [(a.silenced, a.state) for a in night.alerts] == [(True, "raised")]
    assert len(night.new) == 1  # what the rule does is done all the same
    still = alerts.judge(record(2, 0.3), (rule,), night.memory, SERVICE, silence=(NIGHT,), now=NOON.replace(hour=23))
    assert still.alerts == ()
    morning = alerts.judge(record(3, 0.3), (rule,), still.memory, SERVICE, silence=(NIGHT,), now=NOON.replace(hour=7))
    assert [(a.silenced, a.since) for a in morning.alerts] == [(False, "1970-01-01T00:00:01.000Z")]
    assert morning.new == ()
    later = alerts.judge(record(4, 0.3), (rule,), morning.memory, SERVICE, silence=(NIGHT,), now=NOON)
    assert later.alerts == ()


@pytest.fixture
def receiver() -> Iterator[Received]:
    with receiving() as received:
        yield received


def hook(receiver: Received, **changes: Any) -> Webhook:
    return Webhook.model_validate({"url": f"{receiver.url}/in", "secret": "s3cret", "timeout": "2 seconds", **changes})


BODY = {"id": "data_drift-1", "state": "raised", "says": "ä"}


def test_a_slice_is_named_where_it_drifted_alone_or_twice_as_far_as_the_whole() -> None:
    def drifted(subject: str, value: float, where: str = "") -> Measure:
        return Measure("quality", subject, "accuracy", value, where, threshold=0.05, p=1e-9, rows=500, drifted=True)

    culprit, whole, like_it, alone = (
        drifted("churn", 0.7, "plan#1"),
        drifted("churn", 0.14),
        drifted("churn", 0.15, "plan#0"),
        drifted("b", 0.1, "plan#2"),
    )
    figures = [culprit, like_it, whole, alone]
    assert alerts.greatest(figures) == [culprit, whole, alone]
    (alert,) = alerts.judge(replace(record(1, 0.3), measures=tuple(figures)), (Rule(on="quality"),), {}, SERVICE, now=NOON).alerts
    assert alert.says.startswith("quality: churn where plan#1, churn, b where plan#2 (accuracy 0.7,")
    rows = [{"kind": m.kind, "subject": m.subject, "statistic": m.statistic, "slice": m.slice, "value": m.value} for m in figures]
    assert [row["slice"] for row in overview.by_themselves(rows)] == ["plan#1", "", "plan#2"]


def test_an_alert_about_a_window_without_answers_names_the_version_that_is_configured() -> None:
    silent = replace(record(1, 0.3), model_version="")
    (alert,) = alerts.judge(silent, (Rule(on="data_drift"),), {}, replace(SERVICE, version="8"), now=NOON).alerts
    assert alert.model_version == "8"


def test_the_webhook_signs_the_bytes_it_sends(receiver: Received) -> None:
    assert webhook.deliver([BODY], hook(receiver)) == []
    _, headers, body = receiver.got[0]
    assert json.loads(body) == BODY
    assert headers["X-Signature-256"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["X-Alert-Id"] == "data_drift-1:raised"


@pytest.mark.parametrize(
    ("answers", "left", "asked"),
    [([503, 500, 200], 0, 4), ([503, 503, 503], 2, 3), ([400], 0, 2), ([429, 200], 0, 3), ([302, 302, 302], 2, 3)],
)
def test_the_webhook_tries_again_gives_up_and_keeps_what_is_left(receiver: Received, answers: list[int], left: int, asked: int) -> None:
    receiver.answers = answers
    pauses: list[float] = []
    kept = webhook.deliver([BODY, {**BODY, "id": "b"}], hook(receiver), pause=pauses.append)
    assert len(kept) == left
    assert len(receiver.got) == asked
    assert all(p <= 1 for p in pauses)


def test_a_receiver_that_is_not_there_costs_no_more_than_its_tries(caplog: pytest.LogCaptureFixture) -> None:
    kept = webhook.deliver(
        [BODY] * 150, Webhook.model_validate({"url": "http://127.0.0.1:9/a?token=sk-1", "tries": 2}), pause=lambda _: None
    )
    assert len(kept) == webhook.KEPT
    assert "sk-1" not in caplog.text


def test_a_receiver_that_does_not_speak_http_is_down() -> None:
    """Something else listens there: that must not end the lane, batch after batch."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def answer() -> None:
            for _ in range(2):
                with stranger.accept()[0] as caller:
                    caller.recv(65536)
                    caller.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        at = Webhook.model_validate({"url": f"http://127.0.0.1:{stranger.getsockname()[1]}/a", "tries": 2})
        assert webhook.deliver([BODY], at, pause=lambda _: None) == [BODY]
        thread.join()


def test_rules_are_one_a_subject_and_a_webhook_is_http() -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="two rules on quality"):
        Alerts(rules=(Rule(on="quality"), Rule(on="quality")))
    with pytest.raises(ValidationError, match="https"):
        Webhook.model_validate({"url": "file:///etc/passwd"})
    with pytest.raises(ValidationError, match="two times of the day"):
        Silence.model_validate({"from": "22:00", "until": "2026-01-01"})
    assert issubclass(ConfigError, Exception)


def test_on_needs_no_quotes_in_yaml() -> None:
    section = Alerts.model_validate(
        yaml.safe_load("{rules: [{on: quality, after: 2}], silence: [{from: '22:00', until: '06:00', on: [quality]}]}")
    )
    assert (section.rules[0].on, section.silence[0].on) == ("quality", ("quality",))


def test_the_memory_survives_its_json() -> None:
    raised = judge(record(3, 0.3)).memory["data_drift"]
    assert Memory.from_json(json.loads(json.dumps(raised.to_json()))) == raised
    assert replace(raised, at=1) != raised
    assert isinstance(judge(record(3, 0.3)).alerts[0], Alert)

"""From the fold's outcome to what is said and done: the record of a window, concept drift, alerts on their way, actions once."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from streaming import config as cfg
from streaming.config.monitoring import Alerts
from streaming.lanes import monitor_alerts
from streaming.lanes.monitor_state import States
from streaming.learning.commands import Command, Commands
from streaming.monitor import ledger, record, verdict, windows
from streaming.monitor.alerts import Alert, Service
from streaming.monitor.baseline import AnsweredRows, of_table
from streaming.monitor.history import History
from streaming.monitor.record import Record, Settings, of_window
from streaming.monitor.statistics import Statistics, of_rows, of_scores
from streaming.monitor.windows import BatchOutcome, Payload, State, Watch, Watched, fold
from streaming.runtime.files import LocalFolder

N = 3000
RNG = np.random.default_rng(4)
P = RNG.beta(2, 2, N)
TABLE = pa.table({"x": RNG.normal(size=N), "plan": RNG.choice(["gold#1", "sil'ver", "Ada Lovelace"], N)})
SAID = AnsweredRows("m", "probability", (P > 0.5).astype(float), P, (RNG.random(N) < P).astype(float))
BASE = of_table(TABLE, columns=["x", "plan"], slices=["plan"], source="test", answers=SAID)
assert BASE.score is not None
WATCH = Watch(BASE, (Watched("m", "probability", BASE.score),), window=1000, least_rows=100)


def payload(n: int, start: int, *, seed: int, flipped: bool = False, shift: float = 0.0, rejected: int = 0) -> Payload:
    """A window's events with their answers and labels."""
    rng = np.random.default_rng(seed)
    p, at = rng.beta(2, 2, n), start + np.sort(rng.integers(0, 1000, n))
    table = pa.table({"x": rng.normal(size=n) + shift, "plan": rng.choice(["gold#1", "sil'ver", "Ada Lovelace"], n)})
    events = np.zeros(n, ledger.EVENT + ledger.codes(1))
    answers = np.zeros(n, ledger.ANSWER + ledger.codes(1))
    labels = np.zeros(n, ledger.LABEL)
    for rows in (events, answers):
        rows["id"], rows["at"] = np.arange(n) + start * 10, at
    events["codes"][:, 0] = BASE.layout.column("plan").codes(table.column("plan").combine_chunks())
    answers["pair"], answers["score"], answers["prediction"] = answers["id"], p, p > 0.5
    labels["pair"], labels["at"] = answers["pair"], at
    labels["y"] = (rng.random(n) < p) != flipped
    refused = Statistics({("", "rejected:wrong_type"): np.asarray([float(rejected)])}) if rejected else Statistics()
    versions = Statistics({("", "version:m:7"): np.asarray([float(n)])})
    return Payload({start: of_rows(table, BASE.layout) + refused + versions}, events, answers, labels, int(start + 1150))


def run(*payloads: Payload) -> tuple[list[Record], list[BatchOutcome]]:
    state, records, outcomes = State.empty(WATCH), [], []
    for n, brought in enumerate(payloads):
        folded = verdict.concepts(fold(state, brought, WATCH, recall=lambda _: None), WATCH)
        beside = folded.state.beside
        more = {w.start: [*verdict.of_concept(w, beside, WATCH)] for w in folded.published}
        records += [of_window(w, n, WATCH, settings=Settings(), more=more[w.start]) for w in folded.published]
        state = windows.from_bytes(windows.to_bytes(folded.state))
        outcomes.append(folded)
    return records, outcomes


def figure(window: Record, kind: str, statistic: str, slice_: str = "") -> record.Measure:
    return next(m for m in window.measures if (m.kind, m.statistic, m.slice) == (kind, statistic, slice_))


def test_a_record_has_the_estimate_the_truth_and_what_was_expected_of_the_same_answers() -> None:
    (window,), _ = run(payload(1500, 0, seed=1))
    estimate, expected, truth = (figure(window, kind, "accuracy") for kind in ("estimate", "expected", "truth"))
    assert estimate.value == pytest.approx(expected.value)
    assert abs(expected.value - truth.value) < 0.03
    assert truth.low is not None
    assert truth.low < truth.value
    assert figure(window, "truth", "accuracy", "plan#1").rows
    assert (window.model_version, window.judged) == ("7", True)
    assert not any(m.drifted for m in window.measures)
    assert figure(window, "window", "labels").value == 1500


def test_flipped_labels_are_quality_that_fell_and_a_concept_that_drifted() -> None:
    quiet = [payload(1500, i * 1000, seed=i) for i in range(4)]
    records, _ = run(*quiet, *(payload(1500, i * 1000, seed=i, flipped=True) for i in range(4, 6)))
    assert [bool(r.drifted("concept")) for r in records[:4]] == [False] * 4
    assert any(r.drifted("concept") for r in records[4:])
    assert all(r.drifted("quality") for r in records[4:])
    # The inputs have not moved: the estimate without labels does not see it, and the page says why.
    assert figure(records[5], "estimate", "accuracy").value > figure(records[5], "truth", "accuracy").value + 0.1


def test_rejected_events_are_a_rate_with_a_threshold() -> None:
    (calm,), _ = run(payload(1500, 0, seed=1, rejected=5))
    (bad,), _ = run(payload(1500, 0, seed=1, rejected=60))
    assert not calm.drifted("rejected")
    assert bad.drifted("rejected")[0].value == pytest.approx(60 / 1560)


def test_events_that_are_all_rejected_raise_the_alert_though_no_good_row_comes() -> None:
    """A producer renamed a field: nothing is left to judge drift by, and that is when somebody must be told."""
    alarm = Alerts.model_validate({"rules": [{"on": "rejected"}]})
    records, _ = run(payload(1500, 0, seed=1), *(payload(0, i * 1000, seed=i, rejected=30) for i in range(1, 7)))
    assert [each.judged for each in records] == [True] + [False] * 6
    assert [bool(each.drifted("rejected")) for each in records] == [False] * 4 + [True] * 3  # the fourth makes a hundred rows
    _, told, _ = verdict.alarms(records, {}, alarm, Service("s", "m"), now=datetime.now(UTC))
    assert [(alert.id, alert.state) for alert in told] == [("rejected-4000", "raised")]
    # One of seven in a window, two of a hundred in all that is judged together: within what the threshold allows.
    few, _ = run(payload(1500, 0, seed=1), *(payload(49, i * 1000, seed=i, rejected=int(i == 3)) for i in range(1, 6)))
    assert not any(record.drifted("rejected") for record in few)


def test_no_value_of_an_event_in_record_alert_or_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records, outcomes = run(payload(1500, 0, seed=1, shift=2.0))
    _, told, _ = verdict.alarms(records, outcomes[0].state.beside, section().monitor.alerts, Service("s", "m"), now=datetime.now(UTC))  # type: ignore[union-attr]
    assert {a.on for a in told} >= {"data_drift"}
    with caplog.at_level("DEBUG"):
        monitor_alerts.tell(told, {}, section(), lambda topic, values: caplog.records and None)
    said = caplog.text + json.dumps([r.to_json() for r in records]) + json.dumps([a.to_json() for a in told])
    for value in ("Lovelace", "gold", "sil'ver"):
        assert value not in said
    table = records[0].to_arrow({s: BASE.slice_value(s) for s in BASE.layout.slice_names() if s})
    assert any("Lovelace" in (row or "") for row in table.column("slice_value").to_pylist())


def section(**alerts: Any) -> cfg.Config:
    return cfg.parse(
        {
            "name": "s", "kafka": {"bootstrap_servers": "x:1"}, "state": "s", "events": {"topic": "e", "schema": "id STRING", "key": "id"},
            "model": {"name": "m", "version": "1", "uri": "u"}, "predictions": {"topic": "p", "rejected_topic": "r", "shadow_topic": "h"},
            "store": {"kind": "sqlite", "path": "x"}, "labels": {"topic": "l"}, "learners": [{"name": "online", "algorithm": "logistic_regression"}],
            "monitor": {"alerts": {"topic": "alerts", **alerts}},
        }
    )  # fmt: skip


ALERT = Alert(
    "concept_drift-1",
    "raised",
    "concept_drift",
    "critical",
    "s",
    "m",
    "7",
    "a",
    "b",
    "c",
    "says",
    "next",
    do=("notify", "freeze_learner", "retrain"),
)


def test_actions_are_asked_once_and_wait_for_what_a_person_asked(tmp_path: Path) -> None:
    state = LocalFolder(tmp_path)
    commands = Commands(state.below("learners").below("online"))
    commands.ask(Command("a person", "17"))
    beside = monitor_alerts.act([ALERT], {}, section(), state)
    assert commands.waiting() == Command("a person", "17")
    assert beside["due"] == [["freeze", "online", ALERT.id]]
    assert state.below("lifecycle").names() == ["retrain-concept_drift-1.json"]
    commands.answer(monitor_alerts_answer("a person"))
    beside = monitor_alerts.act([], beside, section(), state)
    assert beside["due"] == []
    asked = commands.waiting()
    assert asked is not None
    assert (asked.to, asked.freeze) == (None, f"alert {ALERT.id}")
    # A repeated batch asks again; once it is answered that changes nothing.
    commands.answer(monitor_alerts_answer(asked.id))
    assert monitor_alerts.act([ALERT], {}, section(), state)["due"] == []
    assert commands.waiting() is None


def monitor_alerts_answer(command: str) -> Any:
    from streaming.learning.commands import JobAnswer

    return JobAnswer(command, "1")


def test_only_what_asks_to_notify_is_told_and_a_silence_keeps_it_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []

    def send(topic: str, values: Any) -> None:
        sent.extend(json.loads(value)["id"] for _, value in values)

    alerts = [
        ALERT,
        replace(ALERT, id="quiet", silenced=True),
        replace(ALERT, id="acts only", do=("retrain",)),
        replace(ALERT, id="over", state="over", do=()),
    ]
    with caplog.at_level("INFO"):
        assert monitor_alerts.tell(alerts, {"losses": 1}, section(), send) == {"losses": 1}
    assert sent == [ALERT.id, "over"]
    assert all(a.id in caplog.text for a in alerts)


def test_what_the_webhook_did_not_take_is_kept_and_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def down(bodies: Any, hook: Any) -> Any:
        given.append([b["id"] for b in bodies])
        return bodies

    monkeypatch.setattr(monitor_alerts.webhook, "deliver", down)
    config = section(webhook={"url": "http://127.0.0.1:9"})
    beside = monitor_alerts.tell([ALERT], {}, config, lambda *_: None)
    beside = monitor_alerts.tell([replace(ALERT, id="next")], json.loads(json.dumps(beside)), config, lambda *_: None)
    assert given == [[ALERT.id], [ALERT.id, "next"]]


def test_scores_of_unjudged_windows_are_shown_and_not_judged() -> None:
    (window,), _ = run(payload(60, 0, seed=1, shift=9.0))
    assert not window.judged
    assert not [m for m in window.measures if m.kind in ("feature", "prediction", "quality", "share")]
    assert figure(window, "estimate", "accuracy").value > 0
    assert of_scores(pa.array([0.5]), WATCH.models[0].cells, [([""], np.zeros(1, np.int64))]).values


def test_a_checkpoint_that_was_deleted_begins_a_new_life_and_no_batch_of_it_is_taken_for_an_old_one(tmp_path: Path) -> None:
    def opened() -> States:
        own = LocalFolder(tmp_path)
        return States(own.below("states"), History(own.below("h"), own.below("c")).newest_revision)

    states, counts = opened(), LocalFolder(tmp_path / "c")
    for n in range(5):
        assert not states.has(n)
        states.add(n, states.before(n, WATCH))
        counts.replace(f"{1000:013d}-{states.revision(n):010d}.parquet", b"")
    again = opened()  # the checkpoint is gone: Spark numbers its batches from 0
    assert again.before(0, WATCH).windows == {}
    assert [again.revision(n) for n in (0, 1)] == [5, 6]
    counts.replace(f"{1000:013d}-{again.revision(0):010d}.parquet", b"")
    crashed = opened()  # before the first batch was whole: it is repeated
    crashed.before(0, WATCH)
    assert crashed.revision(0) == 5
    for n in range(5):
        assert not crashed.has(n), "a state of the first life"
        crashed.add(n, crashed.before(n, WATCH))
    other = opened()
    assert other.has(4)
    assert other.before(5, WATCH).identity == WATCH.identity


def test_another_baseline_begins_new_windows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    states = States(LocalFolder(tmp_path))
    _, outcomes = run(payload(200, 0, seed=1))
    states.before(0, WATCH)
    states.add(0, outcomes[0].state)
    states.last = None
    assert states.before(1, WATCH).newest == outcomes[0].state.newest
    other = replace(WATCH, window=5000)
    assert states.before(1, other).newest == 0
    assert "begin anew" in caplog.text


def test_the_history_keeps_what_it_is_told_to_and_no_older_window(tmp_path: Path) -> None:
    own = LocalFolder(tmp_path)
    history = History(own.below("h"), own.below("c"), own.below("a"))
    records, outcomes = run(*(payload(200, i * 1000, seed=i) for i in range(4)))
    for n, (window, folded) in enumerate(zip(records, outcomes, strict=True)):
        history.add(window.start, n, window.to_arrow({}), folded.published[0].statistics)
    history.add(records[2].start, 9, records[2].to_arrow({}), Statistics())  # a later revision
    assert history.newest_revision() == 9
    assert history.newest_sums(records[2].start) == Statistics()
    assert history.sums(records[2].start, before=9) == outcomes[2].published[0].statistics
    history.tidy(before=2000)
    assert history.starts() == [2000, 3000]
    assert [len(own.below(name).names()) for name in ("h", "c")] == [3, 3]
    for n, end in enumerate((1000, 1999, 2000)):
        history.add_alerts(n, [replace(ALERT, id=f"a{n}", window_end=record.iso(end)).to_json()])
    assert [a["id"] for a in history.alerts()] == ["a0", "a1", "a2"]
    history.tidy(before=2000)
    assert [a["id"] for a in history.alerts()] == ["a2"]

"""A watched job as people and their tools see it: webhook, alerts topic, log, Prometheus, traces, Kafka's groups, commands and pages.

One job, over which the world changes and changes back; what came is looked at from outside, with other people's programs where
there are any on this machine.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from streaming import config as cfg
from streaming.api.health import HealthSource
from streaming.cli.main import cli
from streaming.learning import versions
from streaming.monitor import dashboard
from tests.live.conftest import SCHEMA
from tests.live.test_lanes_apart import committed
from tests.support import scraped
from tests.support.inside import Inside, InsideJob, over
from tests.support.job import read_all, write_config
from tests.support.receivers import Received, receiving
from tests.support.watched import SECRET, TRACE, Traffic, settings, table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streaming.embedded.broker import Broker

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]


@dataclass
class Seen:
    """What came of the job, and what its tools said while it ran."""

    tree: dict[str, Any]
    config: Path
    hook: Received
    collector: Received
    sent: int = 0
    log: str = ""
    metrics: str = ""
    health: dict[str, Any] = field(default_factory=dict)
    firing: list[dict[str, Any]] = field(default_factory=list)
    #: Panels of the dashboard that Prometheus filled. None: no Prometheus here.
    panels: int | None = None

    def told(self) -> list[dict[str, Any]]:
        """The alerts topic."""
        return [
            json.loads(record.value)
            for record in read_all(self.tree["kafka"]["bootstrap_servers"], self.tree["monitor"]["alerts"]["topic"])
        ]

    def command(self, *words: str) -> str:
        """What a command says of the config."""
        done = CliRunner().invoke(cli, [words[0], str(self.config), *words[1:]], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture(scope="module")
def seen(spark: SparkSession, broker: Broker, saved_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Topics and baseline are made by the commands; then the world is as it was, changes, and is as it was again."""
    folder = tmp_path_factory.mktemp("watched")
    with ExitStack() as held:
        patch = held.enter_context(pytest.MonkeyPatch.context())
        inside: Inside = over(spark, patch)
        hook, collector = held.enter_context(receiving(503, 503)), held.enter_context(receiving())
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "500")
        tree = settings(broker, saved_pipeline, folder, schema=SCHEMA, hook=hook.url)
        seen = Seen(tree, write_config(folder / "watched.yaml", tree), hook, collector)
        assert "created" in seen.command("topics")
        assert "2000 rows, 3 columns, slices by plan" in seen.command("baseline", "--data", table(folder), "--label", "churned")
        traffic = Traffic(tree["kafka"]["bootstrap_servers"], tree["events"]["topic"], tree["labels"]["topic"])
        with inside(tree) as job:
            thread = threading.Thread(target=traffic.run)
            thread.start()
            try:
                through(seen, job, traffic, folder)
            finally:
                traffic.stop.set()
                thread.join()
            where = tree["kafka"]["bootstrap_servers"], f"{tree['name']}-score", tree["events"]["topic"]
            job.until(lambda: committed(*where) == traffic.sent, "every event is answered")
            job.stop()
            seen.sent, seen.log = traffic.sent, job.text()
        yield seen


def through(seen: Seen, job: InsideJob, traffic: Traffic, folder: Path) -> None:
    """Quiet, moved, quiet again; between the last two everybody looks."""
    told: list[dict[str, Any]] = []

    def said(on: str, state: str) -> bool:
        told[:] = seen.told()
        return any((alert["on"], alert["state"]) == (on, state) for alert in told)

    windows = Path(seen.tree["state"]) / "monitor" / "history"
    job.until(lambda: windows.exists() and len(list(windows.iterdir())) >= 4, "four quiet windows")
    assert seen.told() == []
    with ExitStack() as held:
        port = re.findall(r"metrics=http://127\.0\.0\.1:(\d+)/", job.text())[-1]
        scraper = held.enter_context(scraped.scraping(f"127.0.0.1:{port}", folder / "prometheus")) if scraped.prometheus() else None
        traffic.moved = True
        for on in ("data_drift", "quality", "concept_drift"):
            job.until(lambda on=on: said(on, "raised"), f"{on} is told")

        def ask(path: str = "/metrics") -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
                return str(response.read().decode())

        job.until(lambda: 'streaming_learner_frozen{learner="online"} 1.0' in ask(), "the learner is frozen")
        # People are told first; the gauges follow when the batch that told them ends.
        job.until(lambda: 'streaming_alerts_active{on="quality",severity="critical"} 1.0' in ask(), "the gauges show the alert")
        seen.metrics = ask()
        seen.health = HealthSource(
            f"http://127.0.0.1:{port}", seen.tree["state"], lambda url: ask(url[url.rindex("/") :]).encode()
        ).report()
        if scraper is not None:
            job.until(lambda: scraper.ask('ALERTS{alertname="ModelGoneWrong", alertstate="firing", on="quality"}'), "Prometheus alarms")
            seen.firing = scraper.ask('ALERTS{alertstate="firing"}')
            asked = {p.title: [q.replace("$job", "churn") for q, _ in p.queries] for _, panels in dashboard.ROWS for p in panels}
            empty = list(asked)  # a figure may be missing in one window, as quality is before labels come

            def filled() -> bool:
                empty[:] = [title for title in empty if not all(scraper.ask(query) for query in asked[title])]
                return not empty

            job.until(filled, "every panel has something to show")
            seen.panels = len(asked)
        traffic.moved = False
        for on in ("data_drift", "quality"):
            job.until(lambda on=on: said(on, "over"), f"{on} is over")


def test_the_webhook_got_each_alert_signed_in_spite_of_two_refusals(seen: Seen) -> None:
    first = seen.hook.got[:3]
    assert len({body for _, _, body in first}) == 1  # refused, refused, taken
    assert {path for path, _, _ in seen.hook.got} == {"/in?token=sk-live"}
    for _, headers, body in seen.hook.got:
        assert headers["X-Signature-256"] == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        alert = json.loads(body)
        assert headers["X-Alert-Id"] == f"{alert['id']}:{alert['state']}"
    by_hook = {json.loads(body)["id"] + json.loads(body)["state"]: json.loads(body) for _, _, body in seen.hook.got}
    assert by_hook == {alert["id"] + alert["state"]: alert for alert in seen.told()}


def test_an_alert_says_what_since_when_how_sure_of_which_version_and_what_to_do(seen: Seen) -> None:
    told = {(alert["on"], alert["state"]): alert for alert in reversed(seen.told())}
    alert = told["data_drift", "raised"]
    assert re.fullmatch(r"data drift: minutes.* \(\w+ [\d.]+, threshold 0\.[01]+, by chance (< )?1?\d?e?-?\d+\)", alert["says"]), alert[
        "says"
    ]
    assert alert["since"] < alert["window_start"]  # `after: 2`: since the first of the two
    assert (alert["model"], alert["model_version"], alert["severity"]) == ("churn", "3", "warning")
    assert alert["figures"][0]["subject"] == "minutes"
    window = alert["next"].split("--window ")[1]
    shown = seen.command("drift", "--window", window)
    assert "minutes" in shown
    assert {on for on, _ in told} == {"data_drift", "quality", "concept_drift"}


def test_one_alert_and_one_end_of_each_and_none_in_a_silence(seen: Seen) -> None:
    counted = Counter((alert["on"], alert["state"]) for alert in seen.told())
    assert (
        counted["data_drift", "raised"] == counted["data_drift", "over"] == counted["quality", "raised"] == counted["quality", "over"] == 1
    )
    assert not any(on == "prediction_drift" for on, _ in counted)
    lines = [line for line in seen.log.splitlines() if line.startswith("alert=prediction_drift")]
    assert lines
    assert all(line.endswith("(silenced)") for line in lines)
    assert len(re.findall(r"^alert=data_drift-\d+ state=raised", seen.log, re.MULTILINE)) == 1


def test_the_learner_was_frozen_and_a_training_asked_for(seen: Seen) -> None:
    quality = next(alert for alert in seen.told() if alert["on"] == "quality")
    assert quality["do"] == ["notify", "freeze_learner", "retrain"]
    request = Path(seen.tree["state"]) / "lifecycle" / f"retrain-{quality['id']}.json"
    assert json.loads(request.read_text()) == {"alert": quality["id"], "asked_by": "monitor"}
    learner = versions.learner(cfg.parse(seen.tree), "online", lambda: pytest.fail("local state needs no Spark"))
    assert versions.history(learner)[-1].frozen == f"alert {quality['id']}"


def test_a_baseline_can_be_made_of_the_streams_first_seconds(seen: Seen, tmp_path: Path) -> None:
    said = seen.command("baseline", "--stream", "5 seconds", "--out", str(tmp_path / "first.json"))
    records = read_all(seen.tree["kafka"]["bootstrap_servers"], seen.tree["events"]["topic"])
    first = min(record.timestamp for record in records)
    rows = sum(record.timestamp < first + 5000 and record.key != b"broken" for record in records)
    assert f"{rows} rows, 3 columns, slices by plan" in said
    made = json.loads((tmp_path / "first.json").read_text())
    assert (made["rows"], made["source"]) == (rows, f"the first 5 seconds of {seen.tree['events']['topic']}")


def test_windows_are_on_their_topic_and_in_the_history(seen: Seen) -> None:
    published = [json.loads(r.value) for r in read_all(seen.tree["kafka"]["bootstrap_servers"], seen.tree["monitor"]["topic"])]
    newest = {window["start"]: window for window in sorted(published, key=lambda window: window["revision"])}
    quiet, moved = (sum(window["drifted"] is drifted for window in newest.values()) for drifted in (False, True))
    assert quiet >= 4
    assert moved >= 2
    figures = {(m["kind"], m["statistic"]) for window in newest.values() for m in window["measures"]}
    assert {("feature", "psi"), ("prediction", "ks"), ("truth", "accuracy"), ("estimate", "accuracy"), ("share", "share")} <= figures
    assert {m.get("slice") for window in newest.values() for m in window["measures"]} >= {"plan#0", "plan#1", "plan#2"}
    models = {m["subject"] for window in newest.values() for m in window["measures"] if m["kind"] == "truth"}
    assert models == {"churn", "online"}
    shown = seen.command("drift")
    assert "newest window" in shown
    assert "worst window" in shown


def test_no_value_of_an_event_and_no_secret_is_told(seen: Seen) -> None:
    windows = [r.value.decode() for r in read_all(seen.tree["kafka"]["bootstrap_servers"], seen.tree["monitor"]["topic"])]
    said = "\n".join([seen.log, seen.metrics, json.dumps(seen.health), json.dumps(seen.told()), *windows])
    for value in ("basic", "plus", '"pro"', "= pro", '"c17"', SECRET, "sk-live"):
        assert value not in said


def test_the_page_of_drift_stands_alone(seen: Seen, tmp_path: Path) -> None:
    seen.command("drift", "--html", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "basic" in page  # it has the access rights of the events
    assert not re.search(r"<script|src=|href=|https?://", page)


def test_kafkas_own_groups_show_how_far_each_lane_has_read(seen: Seen) -> None:
    servers, name = seen.tree["kafka"]["bootstrap_servers"], seen.tree["name"]
    assert committed(servers, f"{name}-score", seen.tree["events"]["topic"]) == seen.sent
    for lane, topic in (("store", "predictions"), ("monitor", "predictions")):
        assert committed(servers, f"{name}-{lane}", seen.tree["predictions"]["topic"]) > 0, (lane, topic)
    assert committed(servers, f"{name}-learn", seen.tree["labels"]["topic"]) > 0


def test_the_trace_of_an_event_travels_and_each_batch_is_a_span(seen: Seen) -> None:
    records = read_all(seen.tree["kafka"]["bootstrap_servers"], seen.tree["predictions"]["topic"])
    assert {tuple(record.headers) for record in records} == {(("traceparent", TRACE.encode()),)}
    trace = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    spans = [
        (scope.scope.name, span)
        for path, _, body in seen.collector.got
        if path == "/v1/traces"
        for resource in trace.ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert {span.name for _, span in spans} == {f"{lane} batch" for lane in ("score", "store", "learn", "monitor")}
    rows = sum(a.value.int_value for _, span in spans if span.name == "score batch" for a in span.attributes if a.key == "rows")
    assert rows == seen.sent
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano for _, span in spans)


def test_the_page_health_is_told_of_lanes_alerts_and_windows(seen: Seen) -> None:
    job = seen.health["job"]
    assert {lane["lane"] for lane in job["lanes"]} == {"score", "store", "learn", "monitor"}
    assert {"on": "quality", "severity": "critical"} in job["alerts"]
    assert job["learners"][0]["frozen"] is True
    assert any(figure["subject"] == "minutes" for window in seen.health["windows"]["list"] for figure in window["drifted"])


def test_a_real_prometheus_alarms_and_fills_every_panel_of_the_dashboard(seen: Seen) -> None:
    if seen.panels is None:
        pytest.skip("no Prometheus on this machine (bash scripts/promtool.sh)")
    assert {(alert["metric"]["alertname"], alert["metric"].get("on")) for alert in seen.firing} >= {("ModelGoneWrong", "quality")}
    assert {alert["metric"]["alertname"] for alert in seen.firing} <= {"ModelGoneWrong", "LearnerFrozen"}  # nothing else was wrong
    assert seen.panels == sum(len(panels) for _, panels in dashboard.ROWS)

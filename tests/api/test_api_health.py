"""The page Health: what the job and the monitor say, what is said when they say nothing, and no event value in any of it."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from streaming import config as cfg
from streaming.api.app import create_app
from streaming.api.health import HealthSource
from streaming.api.served import Models, Served
from streaming.config.sections import Api
from streaming.monitor.alerts import Alert
from streaming.monitor.history import ALERTS, COUNTS, HISTORY, History
from streaming.monitor.record import Measure, Record, iso
from streaming.monitor.statistics import Statistics
from streaming.runtime.files import LocalFolder
from tests.support.api_server import serving
from tests.support.browsers import said_nothing
from tests.support.churn_models import ROW, LinearChurn
from tests.support.smallest import smallest

MINUTE = 60_000
START = 1_790_000_000_000
WHO = "<b>Month-to-month</b>"
READY = {
    "status": "degraded",
    "lanes": {
        "score": {"state": "running", "since": "2026-11-24T10:00:00Z", "for_s": 7300.0, "restarts": 0},
        "store": {
            "state": "waiting", "since": "2026-11-24T11:59:00Z", "for_s": 42.0, "restarts": 3, "error": "StoreUnavailable",
            "why": "PostgreSQL does not answer <script>alert(1)</script>", "retry_in_s": 8.0,
        },
    },
}  # fmt: skip
METRICS = """
# TYPE streaming_lane_lag_records gauge
streaming_lane_lag_records{lane="score"} 12
streaming_lane_lag_records{lane="store"} NaN
# TYPE streaming_lane_lag_seconds gauge
streaming_lane_lag_seconds{lane="score"} 0.4
# TYPE streaming_learner_version gauge
streaming_learner_version{learner="online"} 41
# TYPE streaming_learner_frozen gauge
streaming_learner_frozen{learner="online"} 1
# TYPE streaming_learner_metric gauge
streaming_learner_metric{learner="online",metric="accuracy"} 0.8125
# TYPE streaming_alerts_active gauge
streaming_alerts_active{on="data_drift",severity="warning"} 1
streaming_alerts_active{on="quality",severity="critical"} 0
"""


def job(url: str) -> bytes:
    return json.dumps(READY).encode() if url.endswith("/readyz") else METRICS.encode()


def write_windows(state: Path) -> None:
    """Twelve windows; tenure drifts in the last three, and quality falls below what was expected."""
    folder = state / "monitor"
    history = History(LocalFolder(folder / HISTORY), LocalFolder(folder / COUNTS), LocalFolder(folder / ALERTS))
    for n in range(12):
        drifted = n >= 9
        psi = 0.31 if drifted else 0.02 + 0.002 * (n % 3)
        accuracy = 0.82 - (0.06 if drifted else 0.0) + 0.004 * (n % 3)
        measures = (
            Measure("window", "", "rows", 2000.0),
            Measure("window", "", "answers", 2000.0),
            Measure("window", "", "labels", 1500.0),
            Measure("window", "", "judged", 2000.0),
            Measure("rejected", "", "rate", 0.012, low=0.008, high=0.017, threshold=0.05),
            Measure("feature", "tenure", "psi", psi, threshold=0.1, p=1e-9 if drifted else 0.4, rows=2000, drifted=drifted),
            Measure("feature", "monthly_charges", "ks", 0.021, threshold=0.1, p=0.3, rows=2000),
            Measure("feature", "tenure", "psi", psi * 1.5, slice="contract#2", threshold=0.1, p=1e-9, rows=300, drifted=drifted),
            Measure("feature", "monthly_charges", "psi", psi / 3, slice="contract#1", threshold=0.1, p=1e-9, rows=300, drifted=drifted),
            Measure("prediction", "churn", "psi", psi / 2, threshold=0.1, p=0.2, rows=2000),
            Measure("share", "tenure", "share", 0.81),
            Measure("truth", "churn", "accuracy", accuracy, low=accuracy - 0.02, high=accuracy + 0.02, rows=1500),
            Measure("estimate", "churn", "accuracy", 0.821, rows=2000),
        )
        record = Record(START + n * 5 * MINUTE, START + (n + 1) * 5 * MINUTE, n, "7", START, True, measures)
        history.add(record.start, n, record.to_arrow({"contract#2": WHO, "contract#1": WHO}), Statistics.from_json([]))
    for n, (on, what) in enumerate((("quality", "raised"), ("quality", "over"), ("data_drift", "raised"))):
        alert = Alert(
            f"{on}-1",
            what,
            on,
            "warning",
            "svc",
            "churn",
            "7",
            iso(START),
            iso(START),
            iso(START),
            "data drift: tenure",
            "streaming drift c.yaml",
        )
        history.add_alerts(n, [alert.to_json()])


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("state")
    write_windows(made)
    return made


@pytest.fixture(scope="module")
def service(state: Path) -> Iterator[httpx.Client]:
    served = Served.of(LinearChurn(), name="churn", version="7", example=ROW)
    watcher = HealthSource(["http://job"], str(state), job)
    with serving(create_app(Models.fixed(served), None, Api(), health=watcher.report)) as client:
        yield client


def test_lanes_learners_alerts_and_windows_are_told(service: httpx.Client) -> None:
    told = service.get("/v1/health").raise_for_status().json()
    score, store = told["job"]["lanes"]
    assert (score["state"], score["behind"], score["behind_s"]) == ("running", 12.0, 0.4)
    assert "behind" not in store  # the broker did not say: unknown is not 0
    assert told["job"]["learners"] == [{"learner": "online", "metrics": {"accuracy": 0.8125}, "version": 41, "frozen": True}]
    assert told["job"]["alerts"] == [{"on": "data_drift", "severity": "warning"}]
    newest = told["windows"]["list"][-1]
    assert len(told["windows"]["list"]) == 12
    assert (newest["rows"], newest["labels"], newest["judged"], newest["rejected"]) == (2000.0, 1500.0, True, 0.012)
    assert [(f["subject"], f["statistic"], f["drifted"]) for f in newest["drift"]] == [
        ("tenure", "psi", True), ("churn", "psi", False), ("monthly_charges", "ks", False),
    ]  # fmt: skip
    assert [(f["subject"], f["slice"]) for f in newest["drifted"]] == [
        ("tenure", ""),
        ("monthly_charges", "contract#1"),
    ]  # it drifted as a whole: its slices say no more
    (alert,) = told["windows"]["alerts"]  # that of quality is over
    assert (alert["on"], alert["since"], alert["model_version"], alert["next"]) == ("data_drift", iso(START), "7", "streaming drift c.yaml")
    assert newest["carriers"] == [{"subject": "tenure", "share": 0.81}]
    assert [q["source"] for q in newest["quality"]] == ["truth", "estimate"]


def test_no_value_of_an_event_is_told(service: httpx.Client) -> None:
    told = service.get("/v1/health").text
    assert "contract#1" in told
    assert "Month-to-month" not in told


def silent(url: str) -> bytes:
    raise urllib.error.URLError("connection refused")


@pytest.mark.parametrize(
    ("watcher", "job_words", "window_words"),
    [
        pytest.param(HealthSource(["http://job"], "/nowhere", silent), "does not answer", "no window yet", id="job down, nothing written"),
        pytest.param(HealthSource([], None, job), "no port", "not on this machine", id="job without a port, state elsewhere"),
        pytest.param(
            HealthSource(["http://job"], None, lambda url: b"<html>"), "does not answer", "not on this machine", id="a stranger's page"
        ),
        pytest.param(
            HealthSource(["http://job"], None, lambda url: b"[]"), "does not answer", "not on this machine", id="JSON of a stranger"
        ),
    ],
)
def test_what_cannot_be_had_is_said(watcher: HealthSource, job_words: str, window_words: str) -> None:
    told = watcher.report()
    assert told["job"]["answers"] is False
    assert job_words in told["job"]["words"]
    assert window_words in told["windows"]["words"]
    assert told["windows"]["list"] == []


def two_jobs(url: str) -> bytes:
    """Another job at the first port, nobody at the second, this one at the third."""
    at = int(url.removeprefix("http://job:").partition("/")[0])
    if at == 2:
        raise urllib.error.URLError("connection refused")
    name = "ours" if at == 3 else "other"
    info = f'# TYPE streaming_job_info gauge\nstreaming_job_info{{name="{name}"}} 1\n'
    return json.dumps(READY).encode() if url.endswith("/readyz") else info.encode()


def test_another_job_of_this_machine_is_not_taken_for_this_one() -> None:
    jobs = [f"http://job:{n}" for n in (1, 2, 3)]
    told = HealthSource(jobs, None, two_jobs, "ours").report()["job"]
    assert told["answers"]
    assert told["about"] == {"name": "ours"}
    told = HealthSource(jobs[:2], None, two_jobs, "ours").report()["job"]
    assert told["answers"] is False
    assert "at http://job:1 answers the job other" in told["words"]


def test_the_job_is_looked_for_where_it_may_have_found_a_port() -> None:
    tree = smallest("nowhere", name="ours")
    looked = HealthSource.of(cfg.parse(tree))
    assert looked.name == "ours"
    assert list(looked.jobs) == [f"http://127.0.0.1:{port}" for port in range(9464, 9480)]
    assert list(HealthSource.of(cfg.parse(tree | {"job": {"port": 7}})).jobs) == ["http://127.0.0.1:7"]
    assert list(HealthSource.of(cfg.parse(tree | {"job": {"port": None}})).jobs) == []
    assert list(HealthSource.of(cfg.parse(tree | {"api": {"job": "http://elsewhere:1"}})).jobs) == ["http://elsewhere:1"]


def test_a_broken_history_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "monitor" / HISTORY
    folder.mkdir(parents=True)
    (folder / "0000000000001-0000000001.parquet").write_bytes(b"not Parquet")
    assert "cannot be read" in HealthSource([], str(tmp_path), job).report()["windows"]["words"]


def test_health_needs_the_token(state: Path) -> None:
    served = Served.of(LinearChurn(), name="churn", version="7", example=ROW)
    settings = Api.model_validate({"token": "a-token-of-some-length"})
    with serving(create_app(Models.fixed(served), None, settings, health=HealthSource(["http://job"], str(state), job).report)) as client:
        assert client.get("/v1/health").status_code == 401
        assert client.get("/health").status_code == 200  # the page itself tells nothing
        assert client.get("/v1/health", headers={"authorization": "Bearer a-token-of-some-length"}).status_code == 200


def test_the_page_shows_it_without_a_network(browser: Any, service: httpx.Client, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page = browser.new_page(viewport={"width": 1280, "height": 1100})
    with said_nothing(page, str(service.base_url)):
        page.goto(f"{service.base_url}/health")
        expect(page.locator("#status")).to_have_text("degraded")
        expect(page.locator("#lanes tbody tr")).to_have_count(2)
        expect(page.locator("#lanes")).to_contain_text("<script>alert(1)</script>")  # text, never markup
        expect(page.locator("#lanes")).to_contain_text("unknown")
        expect(page.locator("#alerts li")).to_have_count(1)
        expect(page.locator("#alerts li")).to_contain_text("data drift: tenure")
        expect(page.locator("#alerts li")).to_contain_text("streaming drift c.yaml")
        expect(page.locator("#versions")).to_contain_text("41 (frozen)")
        expect(page.locator("#drift li").first).to_contain_text("tenure")
        expect(page.locator("#drift li").first.locator(".over")).to_have_count(1)
        expect(page.locator("#quality figure")).to_have_count(1)
        expect(page.locator("#quality figcaption")).to_contain_text("churn · accuracy")
        expect(page.locator("#windows tbody tr")).to_have_count(12)
        expect(page.locator("#windows tbody tr").first).to_contain_text("tenure carries 81.0 % of the shift")
        page.screenshot(path=str(tmp_path / "health.png"), full_page=True)
        page.get_by_role("link", name="Predictions").click()
        expect(page.locator("#number")).not_to_have_text("")
    page.close()

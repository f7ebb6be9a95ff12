"""What Prometheus is told of the job, read back with its own parser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import Gauge
from prometheus_client.parser import text_string_to_metric_families

from streaming.monitor.latency import BOUNDS_MS, Latency
from streaming.monitor.metrics import JobMetrics
from streaming.monitor.progress import Progress
from streaming.monitor.status import Status

RUNS = Status("score", "running", 1_700_000_000.0)
WAITS = Status("store", "waiting", 1_700_000_100.0, "StoreUnavailable", "lane store: no connection", 3)


def job(statuses: Sequence[Status] = (RUNS, WAITS)) -> JobMetrics:
    return JobMetrics(lambda: statuses, labels={"name": "churn", "model": "churn", "version": "3"})


def batch(**changes: Any) -> Progress:
    usual: dict[str, Any] = {"lane": "score", "batch": 1, "rows": 100, "in_per_s": 50.0, "out_per_s": 200.0, "lag_events": 7, "lag_s": 1.5, "rejected": 0, "ms": 500}  # fmt: skip
    return Progress(**(usual | changes))


def told(metrics: JobMetrics) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of their names) -> value."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {(s.name, *(s.labels[name] for name in sorted(s.labels))): s.value for family in families for s in family.samples}


def test_a_lane_and_its_batches() -> None:
    metrics = job()
    for _ in range(2):
        metrics.batch(batch(rejected=3, reasons={"malformed_json": 2}), at=1_700_000_200.0)
    values = told(metrics)
    assert values["streaming_lane_records_total", "score"] == 200
    assert values["streaming_lane_batches_total", "score"] == 2
    assert values["streaming_lane_lag_records", "score"] == 7
    assert values["streaming_lane_lag_seconds", "score"] == 1.5
    assert values["streaming_lane_rejected_total", "score", "malformed_json"] == 4
    assert values["streaming_lane_rejected_total", "score", "other"] == 2
    assert values["streaming_lane_batch_seconds_bucket", "score", "0.5"] == 2
    assert values["streaming_lane_last_batch_timestamp_seconds", "score"] == 1_700_000_200.0
    assert values["streaming_job_info", "churn", "churn", "3"] == 1


def test_the_state_of_every_lane() -> None:
    values = told(job())
    assert values["streaming_lane_up", "score"] == 1
    assert values["streaming_lane_up", "store"] == 0
    assert values["streaming_lane_restarts_total", "store"] == 3
    assert values["streaming_lane_status", "store", "waiting"] == 1
    assert values["streaming_lane_status", "store", "down"] == 0
    assert values["streaming_lane_status_since_timestamp_seconds", "store"] == 1_700_000_100.0


def test_a_lag_that_nobody_knows_is_no_number() -> None:
    metrics = job()
    metrics.batch(batch(lag_events=None, lag_s=None), at=0.0)
    assert math.isnan(told(metrics)["streaming_lane_lag_records", "score"])


def test_latencies_of_batches_add_up() -> None:
    metrics = job()
    within = tuple(5 if bound >= 50 else 0 for bound in BOUNDS_MS)
    for _ in range(3):
        metrics.batch(batch(latency=Latency(within, 6, 400)), at=0.0)
    values = told(metrics)
    assert values["streaming_latency_seconds_bucket", "0.05"] == 15
    assert values["streaming_latency_seconds_bucket", "0.025"] == 0
    assert values["streaming_latency_seconds_bucket", "+Inf"] == values["streaming_latency_seconds_count",] == 18
    assert values["streaming_latency_seconds_sum",] == pytest.approx(1.2)


def test_a_learner() -> None:
    metrics = job()
    for learned, version in ((20, "412"), (0, "412")):
        metrics.learner("online", version=version, learned=learned, skipped=1, frozen=False, metrics={"log_loss": 0.42})
    values = told(metrics)
    assert values["streaming_learner_version", "online"] == 412
    assert values["streaming_learner_labels_learned_total", "online"] == 20
    assert values["streaming_learner_labels_skipped_total", "online"] == 2
    assert values["streaming_learner_metric", "online", "log_loss"] == 0.42
    metrics.learner("online", version="warm", learned=0, skipped=0, frozen=True, metrics={})
    assert told(metrics)["streaming_learner_version", "online"] == -1
    assert told(metrics)["streaming_learner_frozen", "online"] == 1


def test_reasons_without_end_do_not_make_labels_without_end() -> None:
    metrics = job()
    for i in range(500):
        metrics.batch(batch(rejected=1, reasons={f"reason-{i}": 1}), at=0.0)
    series = [key for key in told(metrics) if key[0] == "streaming_lane_rejected_total"]
    assert len(series) == 51
    assert told(metrics)["streaming_lane_rejected_total", "score", "other"] == 450


def test_whatever_else_is_watched_adds_itself() -> None:
    metrics = job()
    Gauge("streaming_drift_psi", "One of the monitor's.", ["feature"], registry=metrics.registry).labels("tenure").set(0.3)
    assert told(metrics)["streaming_drift_psi", "tenure"] == 0.3

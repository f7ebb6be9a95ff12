"""One line per batch, from reports as Spark writes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streaming.monitor import latency
from streaming.monitor.progress import behind, offsets, progress, read_to

REPORT: dict[str, Any] = {
    "batchId": 17,
    "numInputRows": 120,
    "inputRowsPerSecond": 60.04,
    "processedRowsPerSecond": 240.0,
    "durationMs": {"triggerExecution": 500, "addBatch": 400},
    "sources": [
        {"description": "other", "endOffset": None},
        {"description": "kafka", "startOffset": {"t": {"0": 5}}, "endOffset": {"t": {"0": 10, "1": 20}}},
    ],
}


def test_the_line() -> None:
    made = progress("score", REPORT, lag_events=3, lag_s=1.25, reasons={"malformed_json": 2})
    assert made.line() == "lane=score batch=17 rows=120 in_per_s=60.0 out_per_s=240.0 lag_events=3 lag_s=1.2 rejected=2 ms=500"


def test_what_is_not_known_is_called_unknown() -> None:
    line = progress("score", REPORT, lag_events=None, lag_s=None, reasons={}).line()
    assert "lag_events=unknown lag_s=unknown" in line


@pytest.mark.parametrize("rate", [None, "NaN", "Infinity", "-Infinity", float("nan"), float("inf")])
def test_a_rate_that_is_no_number_is_zero(rate: object) -> None:
    made = progress("x", {"batchId": 0, "inputRowsPerSecond": rate, "processedRowsPerSecond": rate}, lag_events=0, lag_s=0.0, reasons={})
    assert (made.in_per_s, made.out_per_s, made.rows, made.ms) == (0.0, 0.0, 0, 0)


def test_a_report_without_durations() -> None:
    assert progress("x", {"batchId": 0, "durationMs": None}, lag_events=0, lag_s=0.0, reasons={}).ms == 0


@pytest.mark.parametrize("spell", [lambda o: o, json.dumps])
def test_offsets_by_partition(spell: Any) -> None:
    report = {"sources": [REPORT["sources"][0], {key: spell(value) for key, value in REPORT["sources"][1].items()}]}
    assert offsets(report, "t") == {0: 10, 1: 20}
    assert offsets(report, "t", "startOffset") == {0: 5}
    assert offsets(report, "other") == {}
    assert offsets({}, "t") == offsets({"sources": None}, "t") == {}


def test_every_topic_of_a_lane_is_read_to_somewhere() -> None:
    two = [*REPORT["sources"], {"endOffset": json.dumps({"labels": {"0": 7}})}]
    assert read_to({"sources": two}) == {"t": {0: 10, 1: 20}, "labels": {0: 7}}


def test_what_the_query_itself_counted() -> None:
    observed = {
        "rejected": 5,
        "rejected_malformed_json": 3,
        "rejected_null_value": 0,
        latency.ROWS: 4,
        latency.SUM_MS: 90,
        "latency_within_10": 2,
    }
    made = progress("score", {**REPORT, "observedMetrics": {"score": observed}}, lag_events=0, lag_s=0.0, reasons={})
    assert (made.rejected, made.reasons) == (5, {"malformed_json": 3})
    assert made.latency is not None
    assert (made.latency.rows, made.latency.sum_ms, made.latency.within[latency.BOUNDS_MS.index(10)]) == (4, 90, 2)
    assert "latency" not in made.line()


def test_behind_counts_every_partition_and_never_below_zero() -> None:
    assert behind({0: 10, 1: 20}, {0: 15, 1: 20}) == 5
    # An end that was asked for before the batch ended, and a partition nothing is known of.
    assert behind({0: 10}, {0: 8, 1: 100}) == 0
    assert behind({}, {}) == 0

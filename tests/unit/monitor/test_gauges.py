"""What Prometheus gets to see of the monitor."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from streaming.monitor.gauges import MonitorGauges
from streaming.monitor.record import Measure, Record


def shown(*windows: tuple[Record, dict[str, str]]) -> CollectorRegistry:
    gauges = MonitorGauges()
    for record, raised in windows:
        gauges.show(record, raised)
        gauges.measured([record])
    registry = CollectorRegistry()
    registry.register(gauges)
    return registry


def window(*measures: Measure, judged: bool = True, start: int = 0) -> Record:
    return Record(start, start + 300_000, 1, "7", start, judged, measures)


PSI = Measure("feature", "tenure", "psi", 0.2, threshold=0.1, drifted=True)


def test_a_figure_is_told_as_a_multiple_of_its_threshold() -> None:
    got = shown((window(PSI, Measure("window", "", "rows", 20.0)), {}))
    where = {"about": "feature", "subject": "tenure", "statistic": "psi"}
    assert got.get_sample_value("streaming_drift_ratio", where) == 2.0
    assert got.get_sample_value("streaming_drifted", where) == 1.0
    assert got.get_sample_value("streaming_monitor_window_rows") == 20.0
    assert got.get_sample_value("streaming_monitor_window_end_timestamp_seconds") == 300.0


def test_a_window_with_too_few_rows_leaves_the_last_judgement() -> None:
    got = shown((window(PSI), {}), (window(judged=False), {}))
    assert got.get_sample_value("streaming_drift_ratio", {"about": "feature", "subject": "tenure", "statistic": "psi"}) == 2.0


def test_slices_are_not_told() -> None:
    sliced = Measure("feature", "tenure", "psi", 0.4, slice="contract#2", threshold=0.1)
    got = shown(
        (window(sliced, Measure("truth", "churn", "accuracy", 0.8, slice="contract#2"), Measure("truth", "churn", "accuracy", 0.7)), {})
    )
    assert [s for m in got.collect() for s in m.samples if m.name == "streaming_drift_ratio"] == []
    assert [s.value for m in got.collect() for s in m.samples if m.name == "streaming_quality"] == [0.7]


def test_quality_is_that_of_the_newest_window_which_had_any_and_labels_may_come_later() -> None:
    def accuracy(value: float, kind: str = "truth") -> Measure:
        return Measure(kind, "churn", "accuracy", value)

    gauges, got = MonitorGauges(), CollectorRegistry()
    got.register(gauges)

    def told() -> tuple[float | None, float | None]:
        truth, estimate = (
            got.get_sample_value("streaming_quality", {"source": source, "model": "churn", "metric": "accuracy"})
            for source in ("truth", "estimate")
        )
        return truth, estimate

    gauges.measured([window(accuracy(0.8), accuracy(0.81, "estimate"), start=1), window(accuracy(0.82, "estimate"), start=2)])
    assert told() == (0.8, 0.82)
    gauges.measured([window(accuracy(0.7), accuracy(0.82, "estimate"), start=2)])  # again, now with labels
    assert told() == (0.7, 0.82)
    gauges.measured([window(accuracy(0.9), start=1)])
    assert told() == (0.7, 0.82)


def test_alerts_are_active_until_they_are_over_and_counted_once_each() -> None:
    raised = {"data_drift": "warning"}
    got = shown((window(), raised), (window(), raised), (window(), {}), (window(), raised), (window(), {}))
    where = {"on": "data_drift", "severity": "warning"}
    assert got.get_sample_value("streaming_alerts_active", where) == 0.0
    assert got.get_sample_value("streaming_alerts_total", where) == 2.0


def test_nothing_is_shown_before_the_first_window() -> None:
    assert [s for m in shown().collect() for s in m.samples] == []
    assert {m.name for m in shown().collect()} >= {"streaming_drift_ratio", "streaming_quality", "streaming_alerts_active"}

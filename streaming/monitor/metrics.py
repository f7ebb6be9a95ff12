"""What Prometheus scrapes of the job: lanes, learners, latencies. Labels are names of lanes, learners, reasons and buckets, never of events.

Whatever else the job watches adds itself: `metrics.registry.register(COLLECTOR)`, or metrics made with
`registry=metrics.registry`; `/metrics` shows it from then on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming.monitor.latency import BOUNDS_MS, Latency
from streaming.monitor.progress import Progress
from streaming.monitor.status import STATES, Status

#: A batch takes 50 ms when little happens, and a whole trigger (a minute) in real-time mode.
_BATCH_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

#: Reasons of rejected records are this project's own words; a stranger's would make labels without end.
_MOST_REASONS: Final = 50


class JobMetrics:
    """The metrics of one job, in a registry of their own. `statuses`: what each lane does now."""

    def __init__(self, statuses: Callable[[], Sequence[Status]], *, labels: Mapping[str, str]) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self._reasons: set[str] = set()
        self._batches = Counter("streaming_lane_batches", "Micro-batches that a lane has finished.", ["lane"], registry=own)
        self._rows = Counter("streaming_lane_records", "Records that a lane has read.", ["lane"], registry=own)
        self._in = Gauge(
            "streaming_lane_input_records_per_second", "Records that arrived per second, newest batch.", ["lane"], registry=own
        )
        self._out = Gauge(
            "streaming_lane_processed_records_per_second", "Records processed per second, newest batch.", ["lane"], registry=own
        )
        self._seconds = Histogram("streaming_lane_batch_seconds", "How long batches took.", ["lane"], buckets=_BATCH_S, registry=own)
        self._finished = Gauge("streaming_lane_last_batch_timestamp_seconds", "When the newest batch was reported.", ["lane"], registry=own)
        self._lag = Gauge(
            "streaming_lane_lag_records", "Records on the topic that the lane has not read; NaN: unknown.", ["lane"], registry=own
        )
        self._lag_s = Gauge("streaming_lane_lag_seconds", "Age of the oldest of these; NaN: unknown.", ["lane"], registry=own)
        self._rejected = Counter("streaming_lane_rejected", "Records sent to the rejected topic.", ["lane", "reason"], registry=own)
        self._waiting = Gauge("streaming_lane_waiting_records", "Records held for a match.", ["lane"], registry=own)
        self._state = Gauge("streaming_lane_state_bytes", "Memory that they take.", ["lane"], registry=own)
        self._late = Counter("streaming_lane_late", "Records that came after their time.", ["lane"], registry=own)
        self._version = Gauge("streaming_learner_version", "The version in force: the batch that made it; -1: none, or the start.", ["learner"], registry=own)  # fmt: skip
        self._learned = Counter("streaming_learner_labels_learned", "Labels learned.", ["learner"], registry=own)
        self._skipped = Counter("streaming_learner_labels_skipped", "Labels that a frozen learner let pass.", ["learner"], registry=own)
        self._frozen = Gauge("streaming_learner_frozen", "1 while the learner does not learn.", ["learner"], registry=own)
        self._quality = Gauge("streaming_learner_metric", "Prequential metrics of the answers as they were served.", ["learner", "metric"], registry=own)  # fmt: skip
        Info("streaming_job", "What this job is.", registry=own).info(dict(labels))
        self._latency = _Latencies()
        own.register(self._latency)
        own.register(_Lanes(statuses))

    def batch(self, progress: Progress, *, at: float) -> None:
        """A lane has finished a batch, reported at `at` (seconds since 1970)."""
        lane = progress.lane
        self._batches.labels(lane).inc()
        self._rows.labels(lane).inc(progress.rows)
        self._in.labels(lane).set(progress.in_per_s)
        self._out.labels(lane).set(progress.out_per_s)
        self._seconds.labels(lane).observe(progress.ms / 1000.0)
        self._finished.labels(lane).set(at)
        self._lag.labels(lane).set(_or_nan(progress.lag_events))
        self._lag_s.labels(lane).set(_or_nan(progress.lag_s))
        for reason, n in _with_rest(progress).items():
            self._rejected.labels(lane, self._known(reason)).inc(n)
        if progress.state:
            self._waiting.labels(lane).set(progress.state.get("waiting", 0))
            self._state.labels(lane).set(progress.state.get("state_kb", 0) * 1024)
            self._late.labels(lane).inc(progress.state.get("late", 0))
        if progress.latency is not None:
            self._latency.add(progress.latency)

    def learner(self, name: str, *, version: str | None, learned: int, skipped: int, frozen: bool, metrics: Mapping[str, float]) -> None:
        """A learner has taken part in a batch."""
        self._version.labels(name).set(int(version) if version is not None and version.isdigit() else -1)
        self._learned.labels(name).inc(learned)
        self._skipped.labels(name).inc(skipped)
        self._frozen.labels(name).set(frozen)
        for metric, value in metrics.items():
            self._quality.labels(name, metric).set(value)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _known(self, reason: str) -> str:
        if len(self._reasons) < _MOST_REASONS:
            self._reasons.add(reason)
        return reason if reason in self._reasons else "other"


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _with_rest(progress: Progress) -> dict[str, int]:
    """Rejected records by reason; those whose reason nobody counted are "other"."""
    rest = progress.rejected - sum(progress.reasons.values())
    return {**progress.reasons, **({"other": rest} if rest > 0 else {})}


class _Lanes(Collector):
    """The lanes' statuses as they are when somebody asks."""

    def __init__(self, statuses: Callable[[], Sequence[Status]]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterable[Metric]:
        up = Metric("streaming_lane_up", "1 while the lane runs.", "gauge")
        state = Metric("streaming_lane_status", "1 for the state that the lane is in.", "gauge")
        since = Metric("streaming_lane_status_since_timestamp_seconds", "Since when.", "gauge")
        restarts = Metric("streaming_lane_restarts", "How often the lane was started again after a death.", "counter")
        for each in self._statuses():
            lane = {"lane": each.lane}
            up.add_sample(up.name, lane, float(each.state == "running"))
            since.add_sample(since.name, lane, each.since)
            restarts.add_sample("streaming_lane_restarts_total", lane, each.restarts)
            for name in STATES:
                state.add_sample(state.name, lane | {"state": name}, float(each.state == name))
        return [up, state, since, restarts]


class _Latencies(Collector):
    """The sum of the batches' histograms: they come counted, not row by row."""

    def __init__(self) -> None:
        self._within = [0] * len(BOUNDS_MS)
        self._rows = 0
        self._sum_ms = 0
        self._lock = threading.Lock()

    def add(self, batch: Latency) -> None:
        """Add the answers of one batch."""
        with self._lock:
            self._within = [a + b for a, b in zip(self._within, batch.within, strict=True)]
            self._rows += batch.rows
            self._sum_ms += batch.sum_ms

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            counts = [*self._within, self._rows]
            total = self._sum_ms / 1000.0
        bounds = [*(str(bound / 1000.0) for bound in BOUNDS_MS), "+Inf"]
        family = HistogramMetricFamily("streaming_latency_seconds", "From the event's record to its prediction's, by the clocks of both.")
        family.add_metric([], list(zip(bounds, map(float, counts), strict=True)), total)
        return [family]

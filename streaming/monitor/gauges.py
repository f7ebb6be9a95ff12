"""What Prometheus scrapes of the monitor: the newest window's figures and the alerts that are raised.

Labels are names of columns, models, statistics and rules; slices and their values stay in the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming.monitor.alerts import KINDS
from streaming.monitor.record import Measure, Record

#: The kinds of figures that a rule can be about: those that have a threshold.
_ABOUT: Final = frozenset(KINDS.values())


class MonitorGauges(Collector):
    """The newest window and the alerts. Register it: `registry.register(gauges)`. One thread shows, others collect."""

    def __init__(self) -> None:
        self._newest: Record | None = None
        self._judged: Record | None = None
        #: (truth or estimate, model) -> the newest window that had any.
        self._measured: dict[tuple[str, str], Record] = {}
        #: Rule -> severity of the alerts that are raised.
        self._raised: Mapping[str, str] = {}
        self._seen: set[tuple[str, str]] = set()
        self._told: dict[tuple[str, str], int] = {}

    def show(self, record: Record, raised: Mapping[str, str]) -> None:
        """A window is over: its record, and severity by rule of the alerts that are raised now."""
        for alert in set(raised.items()) - set(self._raised.items()):
            self._told[alert] = self._told.get(alert, 0) + 1
        self._seen |= set(raised.items())
        self._raised = dict(raised)
        self._newest = record
        if record.judged:
            self._judged = record

    def measured(self, records: Iterable[Record]) -> None:
        """Windows were published, among them perhaps older ones that labels or answers have come for since: of each model's quality
        the newest is shown."""
        for record in records:
            for key in {(m.kind, m.subject) for m in _quality(record)}:
                if key not in self._measured or self._measured[key].start <= record.start:
                    self._measured[key] = record

    def collect(self) -> Iterable[Metric]:
        """Everything as it is now; families without a figure are there with no sample, so that dashboards know them."""
        ratio = GaugeMetricFamily(
            "streaming_drift_ratio",
            "A figure of the newest judged window as a multiple of its threshold.",
            labels=["about", "subject", "statistic"],
        )
        drifted = GaugeMetricFamily("streaming_drifted", "1 when it is beyond chance as well.", labels=["about", "subject", "statistic"])
        for m in self._figures():
            ratio.add_metric([m.kind, m.subject, m.statistic], m.excess)
            drifted.add_metric([m.kind, m.subject, m.statistic], float(m.drifted))
        yield from (ratio, drifted, self._qualities(), *self._window(), *self._alerts())

    def _figures(self) -> list[Measure]:
        if self._judged is None:
            return []
        return [m for m in self._judged.measures if m.kind in _ABOUT and not m.slice and m.threshold]

    def _qualities(self) -> Metric:
        quality = GaugeMetricFamily(
            "streaming_quality",
            "Quality in the newest window that had any: truth once labels came, estimate before.",
            labels=["source", "model", "metric"],
        )
        for (kind, subject), record in sorted(self._measured.items()):
            for m in _quality(record):
                if (m.kind, m.subject) == (kind, subject):
                    quality.add_metric([m.kind, m.subject, m.statistic], m.value)
        return quality

    def _window(self) -> Iterable[Metric]:
        rows = GaugeMetricFamily("streaming_monitor_window_rows", "Events of the newest window.")
        end = GaugeMetricFamily("streaming_monitor_window_end_timestamp_seconds", "When it ended.")
        if self._newest is not None:
            rows.add_metric([], sum(m.value for m in self._newest.measures if (m.kind, m.statistic) == ("window", "rows")))
            end.add_metric([], self._newest.end / 1000.0)
        return rows, end

    def _alerts(self) -> Iterable[Metric]:
        active = GaugeMetricFamily("streaming_alerts_active", "1 while the alert is raised.", labels=["on", "severity"])
        told = CounterMetricFamily("streaming_alerts", "Alerts raised since the job began.", labels=["on", "severity"])
        for on, severity in sorted(self._seen):
            active.add_metric([on, severity], float(self._raised.get(on) == severity))
        for (on, severity), n in sorted(self._told.items()):
            told.add_metric([on, severity], n)
        return active, told


def _quality(record: Record) -> list[Measure]:
    return [m for m in record.measures if m.kind in ("truth", "estimate") and not m.slice]

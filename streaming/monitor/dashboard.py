"""The Grafana dashboard of a job, as code: `python -m streaming.monitor.dashboard > docker/grafana/dashboards/streaming.json`.

Made with Grafana's own SDK, so what it writes keeps to Grafana's schema. One row of panels for each question that the
person on call asks, in the order in which they ask. Every metric that a panel uses is one of the job's: a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

UID: Final = "streaming-scoring"
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${source}")
#: Of the 24 columns of a dashboard.
_STAT, _CHART = 4, 8


@dataclass(frozen=True)
class Panel:
    """A question, and the queries that answer it: each an expression and how its lines are named."""

    title: str
    queries: tuple[tuple[str, str], ...]
    #: In Grafana's words: s, ops, short, percentunit, none.
    unit: str = "short"
    kind: Literal["stat", "chart"] = "chart"
    help: str = ""
    #: From this value on it is red; None: never.
    red: float | None = None


_JOB: Final = 'job=~"$job"'
ROWS: Final[Sequence[tuple[str, tuple[Panel, ...]]]] = (
    (
        "Does it run?",
        (
            Panel(
                "Lanes that do not run",
                ((f"sum(1 - streaming_lane_up{{{_JOB}}})", "lanes"),),
                kind="stat",
                red=1,
                help="streaming_lane_status says why; so does /readyz of the job.",
            ),
            Panel(
                "Restarts in the last hour",
                ((f"sum(increase(streaming_lane_restarts_total{{{_JOB}}}[1h]))", "restarts"),),
                kind="stat",
                red=1,
            ),
            Panel(
                "Events behind",
                ((f'max(streaming_lane_lag_records{{{_JOB}, lane="score"}})', "events"),),
                kind="stat",
                red=100_000,
                help="On the input topic, not scored yet.",
            ),
            Panel("Seconds behind", ((f"max(streaming_lane_lag_seconds{{{_JOB}}})", "seconds"),), kind="stat", unit="s", red=60),
            Panel(
                "p99 latency",
                (
                    (
                        f"histogram_quantile(0.99, sum by (le) (rate(streaming_latency_seconds_bucket{{{_JOB}}}[5m])))",
                        "p99",
                    ),
                ),
                kind="stat",
                unit="s",
                help="From the event's record to its prediction's, by the clocks of both.",
            ),
            Panel("Alerts that are raised", ((f"sum(streaming_alerts_active{{{_JOB}}}) or vector(0)", "alerts"),), kind="stat", red=1),
        ),
    ),
    (
        "Does it keep up?",
        (
            Panel("Records per second", ((f"sum by (lane) (rate(streaming_lane_records_total{{{_JOB}}}[5m]))", "{{lane}}"),), unit="ops"),
            Panel("Seconds behind, by lane", ((f"streaming_lane_lag_seconds{{{_JOB}}}", "{{lane}}"),), unit="s"),
            Panel(
                "Latency from event to prediction",
                tuple(
                    (
                        f"histogram_quantile({q}, sum by (le) (rate(streaming_latency_seconds_bucket{{{_JOB}}}[5m])))",
                        name,
                    )
                    for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ),
                unit="s",
            ),
            Panel(
                "Batch time",
                (
                    (
                        f"sum by (lane) (rate(streaming_lane_batch_seconds_sum{{{_JOB}}}[5m]))"
                        f" / sum by (lane) (rate(streaming_lane_batch_seconds_count{{{_JOB}}}[5m]))",
                        "{{lane}}",
                    ),
                ),
                unit="s",
            ),
            Panel("Memory of the lanes' state", ((f"streaming_lane_state_bytes{{{_JOB}}}", "{{lane}}"),), unit="bytes"),
            Panel("Predictions that wait for a label", ((f"streaming_lane_waiting_records{{{_JOB}}}", "{{lane}}"),)),
        ),
    ),
    (
        "What comes in broken?",
        (
            Panel(
                "Rejected per second, by reason",
                ((f"sum by (reason) (rate(streaming_lane_rejected_total{{{_JOB}}}[5m]))", "{{reason}}"),),
                unit="ops",
            ),
            Panel(
                "Share of events rejected",
                (
                    (
                        f'sum(rate(streaming_lane_rejected_total{{{_JOB}, lane="score"}}[5m]))'
                        f' / sum(rate(streaming_lane_records_total{{{_JOB}, lane="score"}}[5m]))',
                        "share",
                    ),
                ),
                unit="percentunit",
            ),
            Panel(
                "Labels that came too late per second",
                ((f"sum by (lane) (rate(streaming_lane_late_total{{{_JOB}}}[5m]))", "{{lane}}"),),
                unit="ops",
            ),
        ),
    ),
    (
        "Is the model still right?",
        (
            Panel(
                "Drift of the inputs, as a multiple of the threshold",
                ((f'topk(8, streaming_drift_ratio{{{_JOB}, about="feature"}})', "{{subject}} {{statistic}}"),),
                red=1,
                help="Above 1 the difference is large enough to matter; it alarms when it is also beyond chance.",
            ),
            Panel(
                "Drift of the answers",
                ((f'streaming_drift_ratio{{{_JOB}, about="prediction"}}', "{{subject}} {{statistic}}"),),
                red=1,
            ),
            Panel(
                "Quality, measured and expected",
                (
                    (f'streaming_quality{{{_JOB}, source="truth", metric=~"accuracy|area_under_roc"}}', "{{model}} {{metric}}"),
                    (f'streaming_quality{{{_JOB}, source="estimate"}}', "{{model}} {{metric}} (expected, before labels)"),
                ),
                unit="percentunit",
            ),
            Panel("Learners: prequential metrics", ((f"streaming_learner_metric{{{_JOB}}}", "{{learner}} {{metric}}"),)),
            Panel("Learners: version in force", ((f"streaming_learner_version{{{_JOB}}}", "{{learner}}"),)),
            Panel(
                "Labels learned per second", ((f"rate(streaming_learner_labels_learned_total{{{_JOB}}}[5m])", "{{learner}}"),), unit="ops"
            ),
        ),
    ),
)


def expressions() -> list[str]:
    """Every query of every panel."""
    return [expression for _, panels in ROWS for panel in panels for expression, _ in panel.queries]


def to_json() -> str:
    """The dashboard as Grafana imports it."""
    board = (
        dashboard.Dashboard("Streaming scoring")
        .uid(UID)
        .tags(["streaming-scoring"])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(_job_variable())
    )
    for title, panels in ROWS:
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(_drawn(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _job_variable() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("job")
        .label("Job")
        .datasource(_SOURCE)
        .query("label_values(streaming_lane_up, job)")
        .include_all(True)
        .multi(True)
    )


def _drawn(panel: Panel) -> stat.Panel | timeseries.Panel:
    drawn: stat.Panel | timeseries.Panel
    if panel.kind == "stat":
        drawn = stat.Panel().span(_STAT).height(4)
    else:
        drawn = timeseries.Panel().span(_CHART).height(8).fill_opacity(8).line_width(2)
    drawn.title(panel.title).datasource(_SOURCE).unit(panel.unit).description(panel.help)
    if panel.red is not None:
        drawn.thresholds(_red_from(panel.red))
    for n, (expression, name) in enumerate(panel.queries):
        drawn.with_target(prometheus.Dataquery().expr(expression).legend_format(name).ref_id(chr(ord("A") + n)))
    return drawn


def _red_from(value: float) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green"), Threshold(value=value, color="red")]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


if __name__ == "__main__":
    sys.stdout.write(to_json())

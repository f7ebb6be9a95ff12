"""One `key=value` line per batch and lane, made from Spark's progress report: pure, so that it can be tested without Spark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from streaming.monitor import latency
from streaming.monitor.latency import Latency

#: What a query counts of rejected records is named by this and the reason.
REJECTED: Final = "rejected_"


@dataclass(frozen=True)
class Progress:
    """What one lane did in one batch."""

    lane: str
    batch: int
    #: Records read in this batch.
    rows: int
    #: Records that arrived, and that were processed, per second of this batch.
    in_per_s: float
    out_per_s: float
    #: Records on the topic that the lane has not read yet; None when the broker did not say.
    lag_events: int | None
    #: Age of the oldest of these, in seconds; 0 when there are none.
    lag_s: float | None
    #: Records sent to the rejected topic since the lane's last line.
    rejected: int
    #: How long the batch took, in milliseconds.
    ms: int
    #: Of a lane that waits for matches (learn): what :func:`state` found.
    state: Mapping[str, int] = field(default_factory=dict)
    #: The rejected records by reason, as far as reasons are known.
    reasons: Mapping[str, int] = field(default_factory=dict)
    #: Of the score lane: how long its answers took, see :mod:`streaming.monitor.latency`.
    latency: Latency | None = None

    def line(self) -> str:
        """The log line."""
        own = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name not in {"state", "reasons", "latency"}]
        return " ".join(f"{name}={_short(value)}" for name, value in (*own, *self.state.items()))


def _short(value: object) -> str:
    return "unknown" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def read_to(report: Mapping[str, Any], which: str = "endOffset") -> dict[str, dict[int, int]]:
    """The offsets of all topics in a progress report: topic -> partition -> next offset to read. Empty when the report has none."""
    offsets: dict[str, dict[int, int]] = {}
    for source in report.get("sources") or ():
        said = source.get(which)
        said = json.loads(said) if isinstance(said, str) else said
        for topic, partitions in said.items() if isinstance(said, dict) else ():
            if isinstance(partitions, dict):
                offsets[topic] = {int(partition): int(offset) for partition, offset in partitions.items()}
    return offsets


def offsets(report: Mapping[str, Any], topic: str, which: str = "endOffset") -> dict[int, int]:
    """The offsets of one topic: partition -> next offset to read. Empty when the report has none."""
    return read_to(report, which).get(topic, {})


def behind(read_to: Mapping[int, int], ends: Mapping[int, int]) -> int:
    """How many records stand behind what was read."""
    return sum(max(0, end - read_to.get(partition, end)) for partition, end in ends.items())


def progress(lane: str, report: Mapping[str, Any], *, lag_events: int | None, lag_s: float | None, reasons: Mapping[str, int]) -> Progress:
    """Spark's report of one batch, with the lag and what was counted beside it; `reasons` goes before what the query itself counted."""
    observed = (report.get("observedMetrics") or {}).get(lane) or {}
    counted = {name.removeprefix(REJECTED): int(n) for name, n in observed.items() if name.startswith(REJECTED) and n}
    reasons = reasons or counted
    return Progress(
        lane=lane,
        batch=int(report["batchId"]),
        rows=int(report.get("numInputRows") or 0),
        in_per_s=_rate(report.get("inputRowsPerSecond")),
        out_per_s=_rate(report.get("processedRowsPerSecond")),
        lag_events=lag_events,
        lag_s=lag_s,
        rejected=max(sum(reasons.values()), int(observed.get("rejected") or 0)),
        reasons=reasons,
        latency=latency.of_observed(observed),
        ms=int((report.get("durationMs") or {}).get("triggerExecution") or 0),
        state=state(report),
    )


def state(report: Mapping[str, Any]) -> dict[str, int]:
    """What a stateful lane holds and has let go, from Spark's report; empty for a lane without state.

    `waiting` records held for a match and `state_kb` what they take; in this batch, `late` records that came after
    their time and `repeated` pairs that had been seen before.
    """
    operators = report.get("stateOperators") or ()
    if not operators:
        return {}
    custom = [operator.get("customMetrics") or {} for operator in operators]
    return {
        "waiting": sum(int(operator.get("numRowsTotal") or 0) for operator in operators),
        "state_kb": sum(int(operator.get("memoryUsedBytes") or 0) for operator in operators) // 1024,
        "late": sum(int(operator.get("numRowsDroppedByWatermark") or 0) for operator in operators),
        "repeated": sum(int(metrics.get("numDroppedDuplicateRows") or 0) for metrics in custom),
    }


def _rate(value: object) -> float:
    # Spark reports NaN or infinity, as text, when a batch took no measurable time.
    rate = float(value) if isinstance(value, int | float | str) else 0.0
    return rate if rate == rate and abs(rate) != float("inf") else 0.0

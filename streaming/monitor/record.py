"""The record of a window: what the history table and the topic have of it, and nothing else is published.

One row for each figure (:data:`MEASURES`), so that the table is asked with plain SQL:

    kind        subject   statistic                               value
    window      ""        rows, answers, labels, rejected, judged how many; judged: rows that were judged together
    feature     column    psi js ks nulls unseen out_of_range     see streaming.monitor.drift; threshold, p, drifted
    prediction  model     the same, of what it answered           the same
    quality     model     accuracy, loss                          worse than the baseline by; threshold, p, drifted
    rejected    reason    count, rate                             rate: of all events of the window; "" is all reasons
    estimate    model     accuracy, area_under_roc                expected of the answers, before labels come; low, high
    expected    model     the same                                expected of the answers whose labels came
    truth       model     accuracy area_under_roc log_loss rmse … measured on them; low, high: 95 %
    share       column    share                                   of the prediction's shift that the column carries, 0 to 1
    concept     model     adwin page_hinkley kswin agreed         1: the loss has changed for good, says the detector

`slice`: "" is all rows, "contract#2" those with the third category of the baseline. `revision`: of several records of one
window the greatest stands. The topic has the same rows as JSON, one record a window, keyed by its start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from streaming.monitor import drift, quality
from streaming.monitor.statistics import ALL, QUALITY, REJECTED, SCORE, Statistics
from streaming.monitor.windows import Published, Watch, Watched, rows_of, versions_of

FORMAT: Final = 1

#: How many times as far as the whole a slice has drifted that is named beside it.
_FARTHER: Final = 2.0
#: The smallest p-value that is told as a number: a double has hardly any below.
_LEAST_CHANCE: Final = 1e-300

_TIME: Final = pa.timestamp("ms", tz="UTC")
#: The history table.
MEASURES: Final = pa.schema(
    [
        ("window_start", _TIME), ("window_end", _TIME), ("revision", pa.int64()), ("model_version", pa.string()), ("kind", pa.string()),
        ("slice", pa.string()), ("slice_value", pa.string()), ("subject", pa.string()), ("statistic", pa.string()), ("value", pa.float64()),
        ("low", pa.float64()), ("high", pa.float64()), ("threshold", pa.float64()), ("p", pa.float64()), ("rows", pa.int64()),
        ("drifted", pa.bool_()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One figure of a window."""

    kind: str
    subject: str
    statistic: str
    value: float
    slice: str = ALL
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    p: float | None = None
    rows: int | None = None
    drifted: bool = False

    @property
    def excess(self) -> float:
        """How many times the threshold; 0 for a figure that has none."""
        return self.value / self.threshold if self.threshold else 0.0

    def to_json(self) -> dict[str, Any]:
        """As it stands on topics: what it does not have is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != "" and value is not False}


@dataclass(frozen=True)
class Record:
    """All figures of one window."""

    #: Milliseconds since 1970; the end is not part of the window.
    start: int
    end: int
    #: The number of the batch that made it.
    revision: int
    #: The version of the saved model that gave most answers; "" when there were none.
    model_version: str
    #: The first of the windows that were judged together, and whether they had rows enough.
    since: int
    judged: bool
    measures: tuple[Measure, ...]
    #: Model -> the versions that answered.
    versions: Mapping[str, list[str]] = field(default_factory=dict)

    def drifted(self, kind: str) -> list[Measure]:
        """The figures of one kind that drifted, the greatest excess first."""
        return [m for m in self.measures if m.drifted and m.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """As it stands on the topic. Names no category."""
        return {
            "format": FORMAT,
            "start": iso(self.start),
            "end": iso(self.end),
            "revision": self.revision,
            "model_version": self.model_version,
            "versions": dict(self.versions),
            "judged": self.judged,
            "judged_since": iso(self.since),
            "drifted": any(m.drifted for m in self.measures),
            "measures": [m.to_json() for m in self.measures],
        }

    def to_arrow(self, named: Mapping[str, str]) -> pa.Table:
        """As rows of the history table; `named`: slice -> the value it stands for."""
        head = {"window_start": self.start, "window_end": self.end, "revision": self.revision, "model_version": self.model_version}
        rows = [{**head, **asdict(m), "slice_value": named.get(m.slice, "")} for m in self.measures]
        return pa.Table.from_pylist(rows, schema=MEASURES)


def of_window(window: Published, revision: int, watch: Watch, *, settings: Settings, more: Sequence[Measure] = ()) -> Record:
    """The record of a window: counted, and judged if there are rows enough."""
    judged = list(_judged(window, watch, settings)) if window.judged else []
    measures = [*_counts(window, watch, settings), *judged, *_estimates(window, watch), *_truth(window, watch), *more]
    versions = versions_of(window.statistics)
    answered = versions.get(watch.models[0].name, [""])
    return Record(
        window.start, window.start + watch.window, revision, answered[0], window.since, window.judged, tuple(map(finite, measures)), versions
    )  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How a window is judged."""

    thresholds: Mapping[str, float] = field(default_factory=dict)
    alpha: float = drift.ALPHA
    #: The rate of rejected events from which on it is too many.
    rejected: float = 0.01


def _counts(window: Published, watch: Watch, settings: Settings) -> Iterator[Measure]:
    statistics = window.statistics
    rows, refused = rows_of(statistics, watch.layout), rejections(statistics)
    answers = sum(float(v[: m.cells.bins + 1].sum()) for m in watch.models if (v := statistics.get(ALL, f"{SCORE}{m.name}")) is not None)
    labels = sum(float(v[quality.N]) for m in watch.models if (v := statistics.get(ALL, f"{QUALITY}{m.name}")) is not None)
    yield Measure("window", "", "rows", rows)
    yield Measure("window", "", "answers", answers)
    yield Measure("window", "", "labels", labels)
    yield Measure("window", "", "judged", rows_of(window.judged_by, watch.layout) if window.judged else 0)
    for reason, count in refused.items():
        yield Measure("rejected", reason, "count", count, rows=rows)
    if rows + sum(refused.values()):
        yield _rejected(window, watch, settings)


def _rejected(window: Published, watch: Watch, settings: Settings) -> Measure:
    """How many of the events were rejected. Events that were all rejected are enough to judge it by: no good row is waited for."""

    def counted(statistics: Statistics) -> tuple[float, float]:
        refused = sum(rejections(statistics).values())
        return refused, rows_of(statistics, watch.layout) + refused

    own, together = quality.wilson("rate", *counted(window.statistics)), quality.wilson("rate", *counted(window.judged_by))
    enough = counted(window.judged_by)[1] >= watch.least_rows
    return Measure(
        "rejected", "", "rate", own.value, low=own.low, high=own.high, rows=int(counted(window.statistics)[1]),
        threshold=settings.rejected if enough else None, drifted=enough and together.low >= settings.rejected,
    )  # fmt: skip


def rejections(statistics: Statistics) -> dict[str, float]:
    """Reason -> rejected events."""
    return {s.removeprefix(REJECTED): float(v[0]) for (_, s), v in sorted(statistics.values.items()) if s.startswith(REJECTED)}


def _judged(window: Published, watch: Watch, settings: Settings) -> Iterator[Measure]:
    findings = drift.judge(window.judged_by, watch.baseline, thresholds=settings.thresholds, alpha=settings.alpha)
    for f in findings:
        yield Measure(f.about, f.subject, f.statistic, f.value, f.slice, threshold=f.threshold, p=f.p, rows=f.rows, drifted=f.drifted)
    carried = drift.shares(drift.attribution(window.judged_by, watch.baseline))
    yield from (Measure("share", column, "share", share) for column, share in carried.items())


def _estimates(window: Published, watch: Watch) -> Iterator[Measure]:
    """What is to be expected of the saved model's answers, of all and of each slice."""
    worth, model = watch.baseline.worth, watch.models[0]
    if worth is None or model.task != "probability":
        return
    for slice_ in window.statistics.slices():
        counted = window.statistics.get(slice_, f"{SCORE}{model.name}")
        if counted is not None:
            yield from _measures(
                "estimate", model, slice_, quality.expected(counted[: model.cells.bins], worth), counted[: model.cells.bins].sum()
            )
        pairs = window.statistics.get(slice_, f"{QUALITY}{model.name}")
        if pairs is not None:
            yield from _measures("expected", model, slice_, quality.expected(quality.scores(pairs), worth), pairs[quality.N])


def _truth(window: Published, watch: Watch) -> Iterator[Measure]:
    for model in watch.models:
        for slice_ in window.statistics.slices():
            vector = window.statistics.get(slice_, f"{QUALITY}{model.name}")
            if vector is not None:
                yield from _measures("truth", model, slice_, quality.measures(vector, task=model.task), vector[quality.N])


def _measures(kind: str, model: Watched, slice_: str, estimates: Sequence[quality.Estimate], n: float) -> Iterator[Measure]:
    yield from (Measure(kind, model.name, m.name, m.value, slice_, low=m.low, high=m.high, rows=int(n)) for m in estimates)


def finite(m: Measure) -> Measure:
    """The figure with None for what is no number: JSON has no NaN."""
    ends = {
        name: None if (x := getattr(m, name)) is None or not math.isfinite(x) else float(x) for name in ("low", "high", "threshold", "p")
    }
    return Measure(m.kind, m.subject, m.statistic, float(m.value), m.slice, **ends, rows=m.rows, drifted=bool(m.drifted))


def standing_alone(figures: Sequence[tuple[str, str, str, float]]) -> list[bool]:
    """Which of the figures that drifted, each (subject, statistic, slice, value), are to be named: not the slices of a subject that
    drifted as a whole, unless the slice drifted twice as far; then that is where to look."""
    whole = {(subject, statistic): value for subject, statistic, slice_, value in figures if not slice_}
    subjects = {subject for subject, _ in whole}
    return [
        not slice_ or subject not in subjects or value >= _FARTHER * whole.get((subject, statistic), math.inf)
        for subject, statistic, slice_, value in figures
    ]


def chance(p: float) -> str:
    """A p-value as people read it. What is smaller than a number can be is 0 in the computer, and never so in the world."""
    return f"{p:.1g}" if p >= _LEAST_CHANCE else f"< {_LEAST_CHANCE:.0e}"


def iso(ms: int) -> str:
    """A time as ISO 8601, UTC, with milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def topic_value(record: Record) -> str:
    """The JSON text of the topic."""
    return json.dumps(record.to_json(), allow_nan=False)

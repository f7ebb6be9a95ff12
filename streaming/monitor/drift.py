"""Whether a window differs from the baseline: how much, and how sure that is for so few or so many rows.

Something has drifted when it is both *large* (a threshold, in the statistic's own unit) and *sure* (a test that knows the
number of rows on both sides). Every window asks hundreds of questions, so the p-values are corrected (Benjamini-Hochberg): of
windows in which nothing has changed, a share of `alpha` alarms, however many columns and slices there are.

    psi           sum (q - p) ln(q / p) over pooled cells              chi-square test of homogeneity
    js            square root of the Jensen-Shannon divergence, base 2  the same test
    ks            greatest distance of the cumulative shares            Kolmogorov-Smirnov, two samples
    nulls         share of nulls, less that of the baseline             Fisher's exact test, one-sided
    unseen        share of categories the baseline has not              the same
    out_of_range  share below or above all of the baseline              the same
    accuracy      accuracy of the baseline, less that of the window     the same, of the errors
    loss          mean loss of the window / of the baseline - 1         Welch's test, one-sided
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from streaming.monitor import quality
from streaming.monitor.baseline import Baseline
from streaming.monitor.bins import ABOVE, BELOW, NULL, Column
from streaming.monitor.statistics import ALL, FEATURES, QUALITY, SCORE, Statistics, Vector

#: How large a difference has to be. PSI 0.1 is the field's "look at it"; a JS distance of 0.13 and a KS distance of 0.1 are about as much.
THRESHOLDS: Final[Mapping[str, float]] = {
    "psi": 0.1,
    "js": 0.13,
    "ks": 0.1,
    "nulls": 0.01,
    "unseen": 0.01,
    "out_of_range": 0.01,
    "accuracy": 0.05,
    "loss": 0.25,
}
#: The share of quiet windows that may alarm.
ALPHA: Final = 0.001
#: A slice (or a window) with fewer rows is not judged.
LEAST_ROWS: Final = 50
#: Cells are pooled until both sides can expect so many rows in each: below, the chi-square approximation is too bold far out in its tail.
_LEAST_EXPECTED: Final = 10.0

About = Literal["feature", "prediction", "quality"]


@dataclass(frozen=True)
class Finding:
    """One statistic of one column (or model) in one slice."""

    slice: str
    about: About
    #: The column, or the model.
    subject: str
    statistic: str
    value: float
    threshold: float
    #: Corrected for all that was asked of the window.
    p: float
    rows: int
    #: Large and sure.
    drifted: bool = False

    @property
    def excess(self) -> float:
        """How many times the threshold."""
        return self.value / self.threshold


def judge(
    window: Statistics,
    baseline: Baseline,
    *,
    thresholds: Mapping[str, float] = THRESHOLDS,
    alpha: float = ALPHA,
    least_rows: int = LEAST_ROWS,
) -> list[Finding]:
    """Every statistic of the window, those that drifted first, the greatest excess first."""
    limits = {**THRESHOLDS, **thresholds}
    asked = [f for slice_ in window.slices() for f in _of_slice(slice_, window, baseline, limits, least_rows)]
    corrected = adjusted([finding.p for finding in asked])
    findings = [replace(f, p=p, drifted=f.value >= f.threshold and p <= alpha) for f, p in zip(asked, corrected, strict=True)]
    return sorted(findings, key=lambda f: (not f.drifted, -f.excess))


def adjusted(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number, after Benjamini and Hochberg."""
    return [float(x) for x in stats.false_discovery_control(p)] if p else []


def _of_slice(slice_: str, window: Statistics, baseline: Baseline, limits: Mapping[str, float], least: int) -> Iterator[Finding]:
    before, now = (s.get(slice_, FEATURES) for s in (baseline.statistics, window))
    if before is not None and now is not None:
        then = baseline.layout.parts(before)
        for name, vector in baseline.layout.parts(now).items():
            yield from _of_column(slice_, "feature", baseline.layout.column(name), then[name], vector, limits, least)
    if baseline.score is None:
        return
    model = baseline.score
    before, now = (s.get(slice_, f"{SCORE}{model.name}") for s in (baseline.statistics, window))
    if before is not None and now is not None:
        yield from _of_column(slice_, "prediction", model, before, now, limits, least)
    before, now = (s.get(slice_, f"{QUALITY}{model.name}") for s in (baseline.statistics, window))
    if before is not None and now is not None and min(before[quality.N], now[quality.N]) >= least:
        yield from _of_quality(slice_, model.name, before, now, limits, baseline.task)


def _of_column(
    slice_: str, about: About, column: Column, before: Vector, now: Vector, limits: Mapping[str, float], least: int
) -> Iterator[Finding]:
    n, m = _rows(column, before), _rows(column, now)
    if min(n, m) < least:
        return

    def finding(statistic: str, value: float, p: float) -> Finding:
        return Finding(slice_, about, column.name, statistic, value, limits[statistic], p, int(m))

    for statistic, cells in _rates(column):
        hits, seen = float(before[cells].sum()), float(now[cells].sum())
        yield finding(statistic, seen / m - hits / n, more(hits, n, seen, m))
    p, q = before[: column.bins], now[: column.bins]
    if column.kind == "other" or min(p.sum(), q.sum()) < least:
        return
    cells_p, cells_q = pooled(p, q, ordered=column.kind == "number")
    sure = homogeneous(cells_p, cells_q)
    yield finding("psi", psi(cells_p, cells_q), sure)
    yield finding("js", jensen_shannon(cells_p, cells_q), sure)
    if column.kind == "number":
        distance, chance = kolmogorov_smirnov(p, q)
        yield finding("ks", distance, chance)


def _rows(column: Column, vector: Vector) -> float:
    return float(vector[: column.bins + 1].sum())


def _rates(column: Column) -> list[tuple[str, list[int]]]:
    """The shares that are watched of a column, with the cells that count for each."""
    tail = column.bins
    kinds = [("nulls", [tail + NULL])]
    if column.kind == "number":
        kinds.append(("out_of_range", [tail + BELOW, tail + ABOVE]))
    if column.kind == "category" and column.complete:
        kinds.append(("unseen", [tail - 1]))
    return kinds


def _of_quality(slice_: str, model: str, before: Vector, now: Vector, limits: Mapping[str, float], task: quality.Task) -> Iterator[Finding]:
    n, m = before[quality.N], now[quality.N]

    def finding(statistic: str, value: float, p: float) -> Finding:
        return Finding(slice_, "quality", model, statistic, value, limits[statistic], p, int(m))

    if task != "number":
        wrong, wrong_now = n - before[quality.HITS], m - now[quality.HITS]
        yield finding("accuracy", wrong_now / m - wrong / n, more(wrong, n, wrong_now, m))
    if task != "class":
        mean, mean_now = before[quality.LOSS] / n, now[quality.LOSS] / m
        error = math.hypot(quality.standard_error(before), quality.standard_error(now))
        if mean > 0.0:
            yield finding(
                "loss", mean_now / mean - 1.0, float(stats.norm.sf((mean_now - mean) / error)) if error else float(mean_now <= mean)
            )


def pooled(p: Vector, q: Vector, *, ordered: bool) -> tuple[Vector, Vector]:
    """The counts with cells joined until each can expect enough rows on both sides.

    Numbers: a cell joins its neighbours. Categories: the rare ones are joined with each other.
    """
    both, smaller = p + q, min(p.sum(), q.sum()) / (p.sum() + q.sum())
    order = np.arange(len(p)) if ordered else np.argsort(-both, kind="stable")
    least = _LEAST_EXPECTED / smaller
    group, number, held = np.zeros(len(p), dtype=np.int64), 0, 0.0
    for cell in order:
        if held >= least:
            number, held = number + 1, 0.0
        group[cell] = number
        held += both[cell]
    if held < least and number:  # what is left over at the end joins the last full one
        group[group == number] = number - 1
    return _joined(p, group), _joined(q, group)


def _joined(counts: Vector, group: NDArray[np.int64]) -> Vector:
    return np.bincount(group, weights=counts).astype(np.float64)


def homogeneous(p: Vector, q: Vector) -> float:
    """The p-value that two samples, as counts by the same cells, come from one distribution."""
    if len(p) < 2:
        return 1.0
    both = (p + q) / (p.sum() + q.sum())
    chi2 = sum(float((np.square(x - x.sum() * both) / (x.sum() * both)).sum()) for x in (p, q))
    return float(stats.chi2.sf(chi2, len(p) - 1))


def psi(p: Vector, q: Vector) -> float:
    """The population stability index; half a row is added to each cell, so that an empty one has a logarithm."""
    a, b = ((x + 0.5) / (x.sum() + 0.5 * len(x)) for x in (p, q))
    return float(((b - a) * np.log(b / a)).sum())


def jensen_shannon(p: Vector, q: Vector) -> float:
    """The Jensen-Shannon distance, 0 to 1."""
    a, b = p / p.sum(), q / q.sum()
    middle = (a + b) / 2
    divergence = sum(
        float(np.where(x > 0, x * np.log2(np.where(x > 0, x, 1.0) / np.where(middle > 0, middle, 1.0)), 0.0).sum()) / 2 for x in (a, b)
    )
    return math.sqrt(max(0.0, divergence))


def kolmogorov_smirnov(p: Vector, q: Vector) -> tuple[float, float]:
    """The greatest distance of the cumulative shares at the borders of the cells, and its p-value.

    Between two borders the true distance may be greater, by at most the greater share of one cell; so the p-value is too
    large rather than too small.
    """
    distance = float(np.abs(np.cumsum(p) / p.sum() - np.cumsum(q) / q.sum()).max())
    n, m = p.sum(), q.sum()
    return distance, float(stats.kstwobign.sf(distance * math.sqrt(n * m / (n + m))))


def more(hits: float, n: float, seen: float, m: float) -> float:
    """The p-value of `seen` of `m` or more, when `hits` of `n` have the same chance (Fisher, one-sided)."""
    return float(stats.hypergeom.sf(seen - 1, n + m, hits + seen, m))


def attribution(window: Statistics, baseline: Baseline, slice_: str = ALL) -> dict[str, float]:
    """Which columns carry the prediction's shift: column -> its part of the change of the mean answer, greatest first.

    The part of a column: sum over its cells of (share now - share then) * mean answer in the cell then. It is what the
    column's own change would do if everything else stayed as it went with it; columns that move together each show it.
    """
    before, now = (s.get(slice_, FEATURES) for s in (baseline.statistics, window))
    if before is None or now is None or not baseline.effects:
        return {}
    then, current = baseline.layout.parts(before), baseline.layout.parts(now)
    parts = {c.name: _part(c, then[c.name], current[c.name], baseline.effects[c.name]) for c in baseline.layout.columns}
    return dict(sorted(parts.items(), key=lambda item: -abs(item[1])))


def shares(parts: Mapping[str, float]) -> dict[str, float]:
    """Each part's share of all, by size: 0 to 1."""
    total = sum(map(abs, parts.values()))
    return {name: abs(part) / total if total else 0.0 for name, part in parts.items()}


def _part(column: Column, before: Vector, now: Vector, effects: Vector) -> float:
    cells = slice(0, column.bins + 1)  # values and nulls; what is out of range stands in an end bin too
    p, q = before[cells], now[cells]
    if not p.sum() or not q.sum():
        return 0.0
    return float(((q / q.sum() - p / p.sum()) * effects[cells]).sum())
